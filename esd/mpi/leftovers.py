"""Processes that the user's code has started and that outlive their rank: killed by ranks that are left, or the next.

A rank that ends in good order kills them itself, and mpirun or ``esd launch`` those that they can tell. Of a rank that
was killed (SIGKILL, out of memory) while the others go on, or that was alone, nobody knows them. So a rank of the
command line marks all that it starts: what it executes inherits a variable, and what it forks a page of memory with a
name. Whoever has the mark of a process of this machine that is dead was left behind.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "ESD_STARTED_BY"
PROC = Path("/proc")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MARK = re.compile(rb"(\d+)-(\d+)-(\S+)")
_PAGE = re.compile(rb"/memfd:esd-rank-(\d+-\d+-\S+) ")
_pages: list[mmap.mmap] = []  # forked processes have it as long as it is mapped


def mark() -> None:
    """Mark what this process starts from now on, as its own."""
    born, here = _born(os.getpid()), _here()
    if sys.platform != "linux" or born is None or here is None:
        return
    name = f"{os.getpid()}-{born}-{here}"
    os.environ[VARIABLE] = name
    if not _pages:
        with contextlib.suppress(OSError):
            descriptor = os.memfd_create(f"esd-rank-{name}")
            try:
                os.ftruncate(descriptor, mmap.PAGESIZE)
                _pages.append(mmap.mmap(descriptor, mmap.PAGESIZE))
            finally:
                os.close(descriptor)


def sweep() -> int:
    """Kill what ranks of this machine that are dead have left behind; how many processes."""
    killed = 0
    for process in left_behind():
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)
            killed += 1
    return killed


def left_behind() -> list[int]:
    """Processes of this user whose rank is dead."""
    here = _here()
    if here is None:
        return []
    spared = {*_ancestors()}
    found = []
    for process in _own_processes():
        marks = _marks(process)
        if process not in spared and any(_is_dead(text, here.encode()) for text in marks):
            found.append(process)
    return found


def _own_processes() -> Iterator[int]:
    for folder in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.getuid():
                yield int(folder.name)


def _marks(process: int) -> list[bytes]:
    """What a process was marked with: by its variable, or if it is a copy of a Python process by its page."""
    with contextlib.suppress(OSError):
        folder = PROC / str(process)
        prefix = f"{VARIABLE}=".encode()
        of_variable = [
            text.removeprefix(prefix)
            for text in (folder / "environ").read_bytes().split(b"\0")
            if text.startswith(prefix)
        ]
        # cheap first: maps are long. A copy has the variable that its rank was started with, if another rank did that
        if (folder / "exe").readlink() != (PROC / "self/exe").readlink():
            return of_variable
        return of_variable + _PAGE.findall((folder / "maps").read_bytes())
    return []


def _is_dead(text: bytes, here: bytes) -> bool:
    """Whether a mark is one of this machine, of a process that is no more."""
    found = _MARK.fullmatch(text)
    return found is not None and found[3] == here and _born(int(found[1])) != int(found[2])


def _born(process: int) -> int | None:
    """When a process was started, in ticks since the machine was; None if it is dead."""
    try:
        fields = (PROC / str(process) / "stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def _here() -> str | None:
    """What tells this machine, and the numbers that its processes have for us, from others: a container's differ."""
    try:
        return f"{_BOOT.read_text('ascii').strip()}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except (OSError, ValueError):
        return None


def _ancestors() -> Iterator[int]:
    """This process, and those that have started it."""
    process = os.getpid()
    while process > 0:
        yield process
        try:
            process = int(
                (PROC / str(process) / "stat").read_bytes().rpartition(b")")[2].split()[1]
            )
        except (OSError, ValueError, IndexError):
            return
