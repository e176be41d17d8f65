"""Several hosts on this machine: network namespaces on a bridge, each with a name, an address and a temporary folder.

Names and addresses belong to one instance, so that several test processes can have theirs at the same time. A process
reaches another host only through the remote shell that is written here, which hands on no variables, as ssh does not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from launchers import Launcher
from runs import MARK

from mosaic_mpi import fake

_TOOLS = ("ip", "unshare", "hostname")
_HANDED_ON = (fake.VARIABLE, *(["PYTHONPATH"] if "PYTHONPATH" in os.environ else []))
"""Variables that Open MPI is told to hand on to the other hosts; hydra hands on all."""
_NAMESPACES = Path("/etc/netns")
_AGENT = """\
#!/bin/sh
# A remote shell: {path} [options] HOST COMMAND...
while [ "${{1#-}}" != "$1" ]; do
    case $1 in -l | -p | -o) shift 2 ;; *) shift ;; esac
done
host=$1
shift
{ip} netns exec "$host" unshare --uts env -i PATH="$PATH" HOME="$HOME" TMPDIR="{folder}/$host" {mark}="${mark}" \\
    sh -c 'hostname "$1"; shift; cd; eval "$*"' sh "$host" "$@"
code=$?
[ $code -lt 128 ] || code=255 # as ssh says that a connection broke
exit $code
"""


def missing() -> str:
    """Say what this machine lacks for it; an empty string if nothing."""
    lacking = [name for name in _TOOLS if shutil.which(name) is None]
    if lacking:
        return f"no {', '.join(lacking)} (apt-get install iproute2 util-linux hostname)"
    if os.geteuid():
        return "network namespaces are made by root only"
    trial = f"mt{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", trial], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"this machine lets nobody make network namespaces: {made.stderr.strip()}"
    _ip("netns", "del", trial)
    return ""


def _ip(*words: str, check: bool = True) -> str:
    found = subprocess.run(["ip", *words], capture_output=True, text=True, check=False, timeout=30)
    if check and found.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {found.stderr}")
    return found.stdout


class Hosts:
    """Hosts that see each other through one bridge, and nothing else.

    Parameters
    ----------
    n_hosts : int
        How many.
    """

    def __init__(self, n_hosts: int = 3) -> None:
        tag = secrets.token_hex(3)
        self.names = [f"h{tag}n{number}" for number in range(1, n_hosts + 1)]
        self.folder = Path(tempfile.mkdtemp(prefix=f"hosts-{tag}-", dir="/tmp"))
        self._agent = self.folder / "rsh"
        self._bridge = f"b{tag}"
        network = 16 + secrets.randbelow(200)
        self._addresses = [f"10.{network}.{int(tag[:2], 16)}.{number}" for number in range(1, n_hosts + 1)]

    # ---- up and down --------------------------------------------------------------------------------

    def start(self) -> None:
        """Bring them up."""
        try:
            self._write_agent()
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("link", "set", self._bridge, "up")
            for name, address in zip(self.names, self._addresses, strict=True):
                self._start_host(name, address)
        except BaseException:
            self.stop()
            raise

    def _start_host(self, name: str, address: str) -> None:
        _ip("netns", "add", name)
        _ip("link", "add", self._cable(name), "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", self._cable(name), "master", self._bridge, "up")
        _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            _ip("-n", name, "link", "set", device, "up")
        (self.folder / name).mkdir()
        (_NAMESPACES / name).mkdir(parents=True)
        lines = ["127.0.0.1 localhost", *map(" ".join, zip(self._addresses, self.names, strict=True))]
        (_NAMESPACES / name / "hosts").write_text("\n".join(lines) + "\n")

    def stop(self) -> None:
        """End every process on them, and take them down."""
        for name in self.names:
            self.lose(name)
            _ip("link", "del", self._cable(name), check=False)
            _ip("netns", "del", name, check=False)
            shutil.rmtree(_NAMESPACES / name, ignore_errors=True)
        _ip("link", "del", self._bridge, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _cable(name: str) -> str:
        return f"c{name}"

    # ---- use ----------------------------------------------------------------------------------------

    def launcher(self, fitting: Launcher, names: Sequence[str] | None = None) -> Launcher:
        """Make a launcher start on the first of these hosts, and its ranks on all of them.

        Parameters
        ----------
        fitting : Launcher
            An mpirun, as it would be used on one machine.
        names : sequence of str, optional
            All hosts, if not given.
        """
        names = self.names if names is None else names
        listed = ",".join(f"{name}:2" for name in names)
        handed_on = [
            word for name in _HANDED_ON if name in os.environ or name == fake.VARIABLE for word in ("-x", name)
        ]
        if fitting.name == "mpich":
            options = ["-launcher", "ssh", "-launcher-exec", str(self._agent), "-hosts", ",".join(names)]
        elif fitting.name == "debian-openmpi":
            options = ["--mca", "plm_rsh_agent", str(self._agent), "--host", listed, "--map-by", "node", *handed_on]
        else:
            prefix = str(Path(fitting.python).parent.parent)
            options = ["--prtemca", "plm_ssh_agent", str(self._agent), "--prefix", prefix, "--host", listed]
            options += ["--map-by", "node", *handed_on]
        words = self._command(names[0], [*fitting.words, *options])
        # UCX takes hosts that share a kernel for one, and would use shared memory.
        return dataclasses.replace(
            fitting, words=tuple(words), variables={**fitting.variables, "UCX_TLS": "tcp,self"}
        )

    def _write_agent(self) -> None:
        self._agent.write_text(_AGENT.format(path=self._agent, ip=shutil.which("ip"), folder=self.folder, mark=MARK))
        self._agent.chmod(0o755)

    def _command(self, name: str, words: list[str]) -> list[str]:
        inside = ["sh", "-c", 'hostname "$1"; shift; exec "$@"', "sh", name, *words]
        return ["ip", "netns", "exec", name, "unshare", "--uts", "env", f"TMPDIR={self.folder / name}", *inside]

    def pids(self, name: str) -> list[int]:
        """The processes on a host."""
        return [int(pid) for pid in _ip("netns", "pids", name, check=False).split()]

    # ---- faults -------------------------------------------------------------------------------------

    def lose(self, name: str) -> None:
        """Kill every process on a host; its kernel still says so to those who were connected."""
        deadline = time.monotonic() + 5
        while (pids := self.pids(name)) and time.monotonic() < deadline:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def cut_off(self, name: str) -> None:
        """Pull a host's network cable: nobody is told."""
        _ip("link", "set", self._cable(name), "down")

    def join_again(self, name: str) -> None:
        """Plug it in again."""
        _ip("link", "set", self._cable(name), "up")
