"""The hosts of a job: what the user names, which of them still answer, and how a launcher is given them."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from esd.errors import UsageError
from esd.reading import MB, read_bytes

ANSWER_SECONDS = 10.0
AT_ONCE = 32  # hosts that are asked at the same time
AGENTS = ("PRTE_MCA_plm_ssh_agent", "OMPI_MCA_plm_ssh_agent")


@dataclass(frozen=True)
class Host:
    """One host.

    Attributes:
        name: its name or address.
        line: as the user wrote it, in a file or between commas.
        slots: how many ranks it takes; None if the user says nothing.
    """

    name: str
    line: str
    slots: int | None


@dataclass(frozen=True)
class Hosts:
    """Some hosts.

    Attributes:
        hosts: which, in their order.
        from_file: they are lines of a file.
    """

    hosts: tuple[Host, ...]
    from_file: bool

    def only(self, names: set[str]) -> Hosts:
        """Those of these names."""
        return replace(self, hosts=tuple(host for host in self.hosts if host.name in names))

    def names(self) -> tuple[str, ...]:
        """Of all, each once."""
        return tuple(dict.fromkeys(host.name for host in self.hosts))

    def share_of(self, ranks: int | None, whole: Hosts) -> int | None:
        """How many of so many ranks on ``whole`` these hosts take; at least one. h is the same on any number."""
        if ranks is None or self == whole:
            return ranks
        own, all_slots = (sum(host.slots or 1 for host in hosts.hosts) for hosts in (self, whole))
        return max(1, ranks * own // all_slots)

    def words(self, list_flag: str, file_flag: str, scratch: Path) -> list[str]:
        """For a launcher that takes a list by one flag, and a file by the other.

        Args:
            list_flag: such as ``--host``.
            file_flag: such as ``--hostfile``.
            scratch: a folder for a file of its own: a host of the user's file may be gone.
        """
        if not self.from_file:
            return [list_flag, ",".join(host.line for host in self.hosts)]
        path = scratch / "hosts"
        path.write_text("".join(f"{host.line}\n" for host in self.hosts))
        return [file_flag, str(path)]


def listed(text: str) -> Hosts:
    """Hosts between commas, each a name or ``name:slots``.

    Raises:
        UsageError: if one has no name, or slots that are no number.
    """
    hosts = []
    for part in text.split(","):
        name, colon, slots = part.strip().rpartition(":")
        if not colon or not slots.isdigit():
            name, slots = part.strip(), ""
        if not name or any(c.isspace() for c in name) or name.startswith("-"):
            raise UsageError(
                f"--hosts {text}: expected host names, each with :SLOTS for several ranks, such as a:4,b:4"
            )
        hosts.append(Host(name, part.strip(), int(slots) if slots else None))
    return Hosts(tuple(hosts), from_file=False)


def of_file(path: Path) -> Hosts:
    """The hosts of a file: a line each, ``name``, ``name slots=4`` (Open MPI) or ``name:4`` (MPICH).

    Raises:
        UsageError: if it can't be read or names no host.
    """
    try:
        text = read_bytes(path, MB, follow=True).decode("utf-8", "replace")
    except FileNotFoundError:
        raise UsageError(f"--hostfile {path}: does not exist") from None
    hosts = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        name, _, count = words[0].partition(":")
        slots = [word.partition("=")[2] for word in words[1:] if word.startswith("slots=")]
        number = (slots or [count])[0]
        hosts.append(Host(name, " ".join(words), int(number) if number.isdigit() else None))
    if not hosts:
        raise UsageError(f"--hostfile {path}: contains no host; expected one host per line")
    return Hosts(tuple(hosts), from_file=True)


def agent(options: Sequence[str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """The words by which mpirun calls another host: ssh, or what its options or its environment say."""
    words = [*options]
    for number in range(len(words) - 2):
        if words[number] in ("--mca", "--prtemca", "-mca") and words[number + 1] == "plm_ssh_agent":
            return shlex.split(words[number + 2])
    named = [environment[name] for name in AGENTS if environment.get(name)]
    return shlex.split(named[0]) if named else ["ssh"]


def answering(hosts: Hosts, agent_words: Sequence[str]) -> set[str]:
    """The names of those that run a command within ``ANSWER_SECONDS``; this machine always does."""
    names = hosts.names()
    with ThreadPoolExecutor(min(AT_ONCE, len(names)), "asking-a-host") as pool:
        answers = pool.map(lambda name: is_here(name) or _answers(name, agent_words), names)
        return {name for name, answer in zip(names, answers, strict=True) if answer}


def is_here(name: str) -> bool:
    """Whether a name is this machine's."""
    if name in ("localhost", socket.gethostname(), socket.gethostname().partition(".")[0]):
        return True
    try:
        addresses = socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    for family, kind, protocol, _, address in addresses:
        with socket.socket(family, kind, protocol) as own:
            try:
                own.bind(address)  # only an address of one's own can be
            except OSError:
                continue
            return True
    return False


def _answers(name: str, agent_words: Sequence[str]) -> bool:
    """Whether a host runs a command."""
    try:
        asked = subprocess.run(
            [*agent_words, name, "true"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            timeout=ANSWER_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0
