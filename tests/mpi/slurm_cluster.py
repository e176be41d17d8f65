"""A throw-away Slurm of two nodes on this machine, as root and without systemd.

Everything it has lies in one folder: key, sockets, state, logs. Its daemons run in the foreground as children of this
process, so that taking it down needs no guess at whose they are.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

DAEMONS = ("munged", "slurmctld", "slurmd", "srun", "sbatch")
NODES = ("n1", "n2")
_CONFIG = """\
ClusterName=throwaway
FirstJobId={first_job}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
TmpFS={folder}/tmp/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
JobRequeue=1
KillWait=20
MinJobAge=60
SlurmdTimeout=30
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=n1,n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={first}-{last} CPUs=8 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=2
"""


def missing() -> str:
    """Say what this machine lacks for it; an empty string if nothing."""
    lacking = [name for name in DAEMONS if _program(name) is None]
    if lacking:
        return f"no {', '.join(lacking)} (apt-get install slurmctld slurmd slurm-client munge libpmix-dev)"
    return "" if os.geteuid() == 0 else "slurmd needs root"


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")


class SlurmCluster:
    """Started when made; `stop` ends it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mosaic-slurm-", dir="/tmp"))  # short: a socket's path is
        self.variables = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        try:
            self._prepare()
            self._start_daemons()
        except BaseException as error:
            error.add_note(self.logs())
            self.stop()
            raise

    def _prepare(self) -> None:
        for name in ("munge", "state", "log", *(f"{kind}/{node}" for kind in ("spool", "tmp") for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        (self.folder / "munge").chmod(0o700)
        key = self.folder / "munge" / "key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        port = _three_free_ports()
        config = _CONFIG.format(
            folder=self.folder,
            host=socket.gethostname().split(".")[0],
            port=port,
            first=port + 1,
            last=port + 2,
            first_job=secrets.randbelow(900_000) + 1000,  # MPICH names shared memory after it: never the same twice
        )
        (self.folder / "slurm.conf").write_text(config)

    def _start_daemons(self) -> None:
        munge = self.folder / "munge"
        self._start(
            "munged",
            "--foreground",
            "--force",
            f"--key-file={munge}/key",
            f"--socket={self.folder}/munge.sock",
            f"--pid-file={munge}/pid",
            f"--log-file={self.folder}/log/munged.log",
            f"--seed-file={munge}/seed",
            "--num-threads=2",
        )
        _wait_until(lambda: (self.folder / "munge.sock").exists(), "munged's socket")
        self._start("slurmctld", "-D")
        for node in NODES:
            self._start_slurmd(node)
        _wait_until(self._is_idle, "two idle nodes")

    def _start_slurmd(self, node: str) -> None:
        self._start("slurmd", "-D", "-N", node, key=node)

    def _start(self, name: str, *arguments: str, key: str = "") -> None:
        program = _program(name)
        assert program is not None
        # If we are killed, the kernel takes them down.
        tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with open(self.folder / "log" / f"{name}.out", "ab") as log:
            self._daemons[key or name] = subprocess.Popen(
                [*tied, program, *arguments],
                env={**os.environ, **self.variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _is_idle(self) -> bool:
        found = self.ask("sinfo", "-h", "-N", "-o", "%t", check=False)
        return set(found.split()) == {"idle"}

    def ask(self, *words: str, check: bool = True) -> str:
        """Run one of Slurm's commands on this cluster and return what it prints."""
        found = subprocess.run(
            words, env={**os.environ, **self.variables}, capture_output=True, text=True, check=False, timeout=30
        )
        if check and found.returncode:
            raise RuntimeError(f"{' '.join(words)}: {found.stderr}")
        return found.stdout

    def job_state(self, job: str) -> str:
        """State of a job, for example RUNNING."""
        words = self.ask("scontrol", "show", "job", job).split()
        return next(word.partition("=")[2] for word in words if word.startswith("JobState="))

    def logs(self) -> str:
        """The end of each daemon's log, for a failed test's message."""
        logs = sorted((self.folder / "log").glob("*"))
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in logs)

    def cancel_all(self) -> None:
        """End what may still run."""
        jobs = self.ask("squeue", "-h", "-o", "%A", check=False).split()
        if jobs:
            self.ask("scancel", "-f", "-s", "KILL", *jobs, check=False)
            _wait_until(lambda: not self.ask("squeue", "-h", "-t", "R,CG", check=False).split(), "no job", 15, False)
            self.ask("scancel", *jobs, check=False)

    def stop(self) -> None:
        """End jobs, daemons and steps, and remove the folder."""
        if len(self._daemons) > 1:
            with contextlib.suppress(RuntimeError, subprocess.SubprocessError):
                self.cancel_all()
        daemons = list(reversed(self._daemons.values()))
        for daemon in daemons:
            daemon.terminate()
        for daemon in daemons:
            _end(daemon)
        for process in self.steps():
            with contextlib.suppress(psutil.Error):
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def lose_node(self, node: str) -> None:
        """Kill a node's daemon and all that runs there, as the loss of its power does; Slurm is left to find out."""
        doomed = [child for step in self.steps(node) for child in (step, *step.children(recursive=True))]
        self._daemons[node].kill()
        for process in doomed:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._daemons.pop(node).wait(30)

    def return_node(self, node: str) -> None:
        """Start a lost node's daemon again, and wait until Slurm takes the node back."""
        self._start_slurmd(node)
        state = ("sinfo", "-h", "-N", "-n", node, "-p", "main", "-o", "%t")
        _wait_until(lambda: self.ask(*state).strip() in ("idle", "mix", "alloc"), f"{node} back")

    def steps(self, node: str = "") -> list[psutil.Process]:
        """Daemons of steps and batch scripts, which outlive slurmd: ours are those with files of ours open."""
        named = (process for process in psutil.process_iter(["name"]) if process.info["name"] == "slurmstepd")
        own = f"{self.folder}/log/slurmd-{node}.log" if node else str(self.folder)
        return [process for process in named if _has_open(process.pid, own)]


def _has_open(pid: int, path: str) -> bool:
    with contextlib.suppress(OSError):
        return any(os.readlink(entry).startswith(path) for entry in Path(f"/proc/{pid}/fd").iterdir())
    return False


def _end(daemon: subprocess.Popen[bytes]) -> None:
    try:
        daemon.wait(30)
    except subprocess.TimeoutExpired:
        daemon.send_signal(signal.SIGKILL)
        daemon.wait(30)


def _three_free_ports() -> int:
    """First of three ports in a row that nobody listens on."""
    for _ in range(100):
        first = 20000 + secrets.randbelow(10000)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + 3):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise RuntimeError("no three free ports in a row")


def _wait_until(condition: object, what: str, seconds: float = 20.0, strict: bool = True) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            if strict:
                raise RuntimeError(f"Slurm: no {what} within {seconds:.0f} s")
            return
        time.sleep(0.1)
