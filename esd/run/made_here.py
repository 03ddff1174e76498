"""Which runs were created here, by this user: remembered outside of their folders, so that no folder can claim it.

What is remembered is the journal's file itself, by its number and its time of birth in the file system. Both stay when
the folder is moved, touched, or reached through another mount or from another node. A copy, an unpacked archive and a
restored backup are other files, and neither number nor birth can be chosen by whoever makes them. Of a file that
``esd export`` has written the sha256 of its contents is remembered, too: unlike a journal it never changes.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pwd
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esd.errors import RunError, UsageError
from esd.reading import MB, read_json
from esd.run.files import write_atomically

MOST_RECORDS = 10_000  # of so many runs the ones that were trained last
MOST_BYTES = 4 * MB
AT_FDCWD, AT_SYMLINK_NOFOLLOW = -100, 0x100
STATX_BTIME = 0x800


@dataclass(frozen=True)
class FileIdentity:
    """A file, as its file system knows it.

    Attributes:
        number: of its inode; the same on all nodes that share the file system.
        born: its time of birth in ns; 0 where the file system or the kernel reports none, as NFS often.
    """

    number: int
    born: int

    @classmethod
    def of(cls, path: Path) -> FileIdentity:
        """Of a path that may be a link, which is not followed.

        Raises:
            OSError: if there is nothing.
        """
        found = path.lstat()
        born = getattr(found, "st_birthtime_ns", None)
        return cls(found.st_ino, _born(path, found.st_ino) if born is None else int(born))

    @property
    def name(self) -> str:
        """Of the file that remembers it."""
        return f"{self.number:x}-{self.born:x}.json"

    def may_be(self, name: str) -> bool:
        """Whether a file remembers this one; a time of birth that one of the two nodes didn't know is not compared."""
        number, _, born = name.removesuffix(".json").partition("-")
        return number == f"{self.number:x}" and (not self.born or born in ("0", f"{self.born:x}"))


def _born(path: Path, number: int) -> int:
    """A file's time of birth in ns, which Python's ``stat`` leaves out on Linux; 0 if it is not known."""
    try:
        statx = ctypes.CDLL(None).statx
    except (OSError, AttributeError):  # another C library
        return 0
    buffer = ctypes.create_string_buffer(256)
    if statx(AT_FDCWD, os.fsencode(path), AT_SYMLINK_NOFOLLOW, STATX_BTIME, buffer):
        return 0
    (mask,) = struct.unpack_from("=I", buffer, 0)
    (found,) = struct.unpack_from("=Q", buffer, 32)
    seconds, nanoseconds = struct.unpack_from("=qI", buffer, 80)
    known = mask & STATX_BTIME and found in (0, number)
    return int(seconds * 10**9 + nanoseconds) if known else 0


def state_folders() -> list[Path]:
    """Where this user's own state may be kept, also where HOME is not set; only there if ESD_STATE_HOME names it."""
    own = os.environ.get("ESD_STATE_HOME", "")
    if Path(own).is_absolute():
        return [Path(own) / "runs"]
    state, home = os.environ.get("XDG_STATE_HOME", ""), os.environ.get("HOME", "")
    bases = [Path(state)] if Path(state).is_absolute() else []
    if Path(home).is_absolute():
        bases.append(Path(home) / ".local" / "state")
    with contextlib.suppress(KeyError):  # a user that only a container's runtime knows
        bases.append(Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".local" / "state")
    return [base / "esd" / "runs" for base in dict.fromkeys(bases)]


def _is_ours(folder: Path) -> bool:
    """Whether nobody but this user, and root, can have written in a folder."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not others


def remember(journal: Path, what: list[list[str]], run: Path) -> bool:
    """Remember that a run was created here, with what may be imported for it, beside what was remembered before.

    Args:
        journal: the run's.
        what: rows of text.
        run: its folder, for whoever looks into the file.

    Returns:
        Whether there was a place for it.
    """
    file = FileIdentity.of(journal)
    before = [row for row in remembered(journal) if row not in what]
    data = json.dumps({"run": str(run), "references": before + what}, indent=1).encode()
    kept = False
    for folder in state_folders():
        # each of them: a later job may not have the same environment
        with contextlib.suppress(OSError, RunError):
            if not _is_of_this_user(folder):
                continue
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_ours(folder):
                write_atomically(folder / file.name, data)
                kept = True
                _forget_the_oldest(folder)
    return kept


def _is_of_this_user(folder: Path) -> bool:
    """Whether the nearest folder above that exists is this user's: under sudo, HOME may be somebody else's."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.stat().st_uid == os.geteuid()


def _forget_the_oldest(folder: Path) -> None:
    with os.scandir(folder) as entries:
        names = [entry.path for entry in entries]
    if len(names) > MOST_RECORDS:
        names.sort(key=lambda name: Path(name).stat().st_mtime)
        for name in names[: len(names) - MOST_RECORDS]:
            Path(name).unlink(missing_ok=True)


def remembered(journal: Path) -> list[list[str]]:
    """What may be imported for a run that was created here; nothing for any other."""
    try:
        file = FileIdentity.of(journal)
    except OSError:
        return []
    return [row for folder in state_folders() for row in _rows(folder, file)]


def _rows(folder: Path, file: FileIdentity) -> Iterator[list[str]]:
    if not _is_ours(folder):
        return
    try:
        names = [file.name, f"{file.number:x}-0.json"] if file.born else os.listdir(folder)  # noqa: PTH208
    except OSError:
        return
    for name in dict.fromkeys(names):
        if not file.may_be(name):
            continue
        with contextlib.suppress(OSError, UsageError):
            found: Any = read_json(folder / name, MOST_BYTES)
            rows = found.get("references") if isinstance(found, dict) else None
            yield from (row for row in rows or () if isinstance(row, list))
