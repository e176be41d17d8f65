"""Several hosts on this machine: network namespaces on a bridge, each with a name, an address and a folder of its own.

Names and addresses belong to one instance, so that several test processes can have theirs at the same time. A process
reaches another host only through the remote shell that is written here, which hands on no variables, as ssh does not.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

_TOOLS = ("ip", "unshare", "hostname", "setpriv")
_NAMESPACES = Path("/etc/netns")
_AGENT = """\
#!/bin/sh
# A remote shell: {path} [options] HOST COMMAND...
while [ "${{1#-}}" != "$1" ]; do
    case $1 in -l | -p | -o) shift 2 ;; *) shift ;; esac
done
host=$1
shift
{ip} netns exec "$host" unshare --uts env -i PATH="$PATH" HOME="$HOME" TMPDIR="{folder}/$host" {mark} \\
    sh -c 'hostname "$1"; shift; cd; eval "$*"' sh "$host" "$@"
code=$?
[ "$AGENT0" ] && exit 0
[ $code -lt 128 ] || code=255
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
        self._bridge = f"b{tag}"
        network = 16 + secrets.randbelow(200)
        self._addresses = [f"10.{network}.{int(tag[:2], 16)}.{number}" for number in range(1, n_hosts + 1)]

    # ---- up and down --------------------------------------------------------------------------------

    def start(self) -> None:
        """Bring them up."""
        try:
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

    def agent(self, mark: str = "") -> str:
        """Write a remote shell that hands on no variables but a mark, ``NAME=value``, and return its path."""
        path = self.folder / f"rsh-{secrets.token_hex(4)}"
        path.write_text(_AGENT.format(path=path.name, ip=shutil.which("ip"), folder=self.folder, mark=mark))
        path.chmod(0o755)
        return str(path)

    def command(self, name: str, words: list[str]) -> list[str]:
        """A command that runs another one on a host, with the variables of this process."""
        on_host = ["unshare", "--uts", "env", f"TMPDIR={self.folder / name}"]
        inside = ["sh", "-c", 'hostname "$1"; shift; exec "$@"', "sh", name, *words]
        return ["ip", "netns", "exec", name, *on_host, *inside]

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
