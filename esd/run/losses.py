"""How often processes were lost while they evaluated a row of the generation under way: ``in_progress/losses.bin``.

Appended to by rank 0, and read when a run goes on. An entry has

    "ESDL", CRC-32 of the rest, which state the row was evaluated from (8 bytes), the row, what happened

little-endian. What a crash has cut short, and what belongs to another state, is ignored.
"""

from __future__ import annotations

import enum
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from esd.errors import UsageError
from esd.reading import open_regular

MAGIC = b"ESDL"
_ENTRY = struct.Struct("<4sI8sQQ")
_SUMMED = 8  # bytes of an entry that the checksum leaves out
MOST_BYTES = 1 << 26  # that are read

LOSSES = 3  # of a row, until it is the row's doing
ALONE = 2  # of them at least while it was the only one that can have been


class Event(enum.IntEnum):
    """What happened to a row."""

    LOST = 1  # its process, with others under way that may have been the reason as well
    LOST_ALONE = 2
    TOOK_TOO_LONG = 3  # and its process, which could not be interrupted, was ended for that
    JUDGED = 4  # the user was told of it


@dataclass(frozen=True)
class Suspicion:
    """What is held against a row.

    Attributes:
        losses: processes that were lost with it under way.
        alone: those of them in which nothing else can have been the reason.
        time: one of them was ended because the row took too long.
        judged: it was found to be the reason before.
    """

    losses: int = 0
    alone: int = 0
    time: bool = False
    judged: bool = False

    @property
    def holds(self) -> bool:
        """Whether the row is the reason: anyone may kill a process once or twice, but hardly the same row's alone."""
        return (self.losses >= LOSSES and self.alone >= ALONE) or self.time

    def after(self, event: Event) -> Suspicion:
        """After one more event; a row that was judged may be tried once again, when its code was repaired."""
        if event is Event.JUDGED:
            return Suspicion(LOSSES - 1, ALONE, False, True)
        alone = self.alone + (event is not Event.LOST)
        return Suspicion(
            self.losses + 1, alone, self.time or event is Event.TOOK_TOO_LONG, self.judged
        )


def path_of(folder: Path) -> Path:
    """The file, in ``in_progress`` of a run."""
    return folder / "losses.bin"


def encode(key: bytes, row: int, event: Event) -> bytes:
    """An entry."""
    body = _ENTRY.pack(MAGIC, 0, key, row, int(event))[_SUMMED:]
    return MAGIC + struct.pack("<I", zlib.crc32(body)) + body


def append(folder: Path, key: bytes, events: Iterable[tuple[int, Event]]) -> None:
    """Keep events.

    Args:
        folder: ``in_progress`` of the run.
        key: of the state that the rows are evaluated from.
        events: rows and what happened to them.

    Raises:
        OSError: if they can't be written.
    """
    data = b"".join(encode(key, row, event) for row, event in events)
    folder.mkdir(exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path_of(folder), flags, 0o666)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(folder: Path, key: bytes) -> dict[int, Suspicion]:
    """What is held against the rows of a state."""
    found: dict[int, Suspicion] = {}
    for its_key, row, event in _entries(folder):
        if its_key == key:
            found[row] = found.get(row, Suspicion()).after(event)
    return found


def judged(folder: Path) -> int:
    """How many times a row was judged, of whichever state."""
    return sum(event is Event.JUDGED for _, _, event in _entries(folder))


def _entries(folder: Path) -> Iterator[tuple[bytes, int, Event]]:
    """The entries that are whole: keys, rows and events."""
    try:
        with open_regular(path_of(folder), MOST_BYTES) as file:
            data = file.read(MOST_BYTES)
    except (OSError, UsageError):
        return
    at = data.find(MAGIC)
    while 0 <= at <= len(data) - _ENTRY.size:
        _, checksum, key, row, event = _ENTRY.unpack_from(data, at)
        whole = zlib.crc32(data[at + _SUMMED : at + _ENTRY.size]) == checksum
        if whole and event in Event._value2member_map_:
            yield key, row, Event(event)
        at = data.find(MAGIC, at + (_ENTRY.size if whole else 1))
