"""Which rows a rank is evaluating: in a small file of memory that outlives the process, so that its death names them.

``in_progress/flight-RANK.bin`` is mapped by its rank, which writes a byte when a row is drawn and when it is done, and
never asks the system for anything. Little-endian:

    "ESDF", version, hash of the settings (8 bytes), generation, number of rows, one byte per row (1: under way),
    then a byte for every signal that came, which C appends whatever the interpreter is doing

A rank that leaves removes its file. What is found was left by one that has died: by itself, or after a signal that
asked it to end, as mpirun sends it to the other ranks when one has died. Nothing of it is trusted: damage names no row.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from esd import time_limit, watch
from esd.errors import UsageError
from esd.reading import open_regular

MAGIC, VERSION = b"ESDF", 1
_HEAD = struct.Struct("<4sI8sQQ")
_GENERATION = struct.Struct("<Q")
_GENERATION_AT = 16
MOST_SIGNALS = 1 << 16  # bytes that are read of them
ASKED = frozenset(
    int(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
)
TIME = frozenset({int(signal.SIGALRM), int(watch.WAKE_SIGNAL)})  # what a time limit sends
ANSWERED = b"\xff"  # which is no signal's number


@dataclass(frozen=True)
class Left:
    """What a rank has left that died.

    Attributes:
        path: of its file.
        rank: its number in its job.
        rows: that it was evaluating.
        by_itself: nobody had asked it to end.
        time: it was interrupted last because a time limit was over.
    """

    path: Path
    rank: int
    rows: tuple[int, ...]
    by_itself: bool
    time: bool


class InFlight:
    """One rank's rows under way.

    Args:
        folder: ``in_progress`` of the run.
        rank: this one's number in its job.
        rows: of a generation at most.
        identity: of the run's settings.
        warn: is called once with the reason why they can't be kept.
    """

    def __init__(
        self, folder: Path, rank: int, rows: int, identity: str, warn: Callable[[str], None]
    ) -> None:
        """There is no file yet."""
        self._folder, self._path, self._rows = folder, path_of(folder, rank), rows
        self._identity, self._warn = identity, warn
        self._map: mmap.mmap | None = None
        self._own = False  # the run's folder is not there, on a node with a disk of its own
        self.signals: tuple[int, int] | None = None
        self._interruptions = time_limit.interruptions

    def open(self) -> None:
        """Make the file, over one of the same name; where that isn't possible the run goes on without it."""
        size = _HEAD.size + self._rows
        try:
            self._own = not self._folder.parent.exists()
            self._folder.mkdir(parents=self._own, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o666)
            try:
                # memory that no disk has room for would be a deadly signal at the first write
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(descriptor, 0, size)
                else:
                    os.truncate(descriptor, size)
                mapped = mmap.mmap(descriptor, size)
            finally:
                os.close(descriptor)
            mapped[: _HEAD.size] = _HEAD.pack(MAGIC, VERSION, hashed(self._identity), 0, self._rows)
            self._map = mapped
        except OSError as error:
            self._warn(
                f"{self._path}: can't be written ({error.strerror}); if a member crashes its process, it can't be "
                "identified"
            )
            return
        with contextlib.suppress(OSError):
            flags = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            reads = os.open(self._path, os.O_RDONLY | flags)
            os.lseek(reads, size, os.SEEK_SET)
            self.signals = reads, os.open(self._path, os.O_WRONLY | os.O_APPEND | flags)

    def begin(self, generation: int) -> None:
        """Begin a generation; nothing is under way."""
        if self._map is not None:
            _GENERATION.pack_into(self._map, _GENERATION_AT, generation)

    def noted(self, rows: Iterable[int]) -> Iterator[int]:
        """Rows, each noted as it is drawn."""
        mapped, first = self._map, _HEAD.size
        if mapped is None:
            yield from rows
            return
        for row in rows:
            mapped[first + row] = 1
            yield row

    def done(self, row: int) -> None:
        """A row is written."""
        if self._map is not None:
            self._map[_HEAD.size + row] = 0
            if time_limit.interruptions != self._interruptions:
                self._answered()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Nothing is under way any more when the block is left: what raises, or is interrupted, is no death."""
        try:
            yield
        except BaseException:
            if self._map is not None:
                self._map[_HEAD.size :] = bytes(self._rows)
                self._answered()
            raise

    def _answered(self) -> None:
        """Code that was interrupted has ended: whatever comes later has another reason."""
        self._interruptions = time_limit.interruptions
        if self.signals is not None:
            with contextlib.suppress(OSError):
                os.write(self.signals[1], ANSWERED)

    def close(self) -> None:
        """Remove the file, and folders that are there for it alone."""
        if self.signals is not None:
            for descriptor in self.signals:
                with contextlib.suppress(OSError):  # a user's code may have closed it
                    os.close(descriptor)
            self.signals = None
        if self._map is None:
            return
        self._map.close()
        self._map = None
        with contextlib.suppress(OSError):
            self._path.unlink()
            self._folder.rmdir()
            if self._own:
                self._folder.parent.rmdir()


def path_of(folder: Path, rank: int) -> Path:
    """The file of a rank."""
    return folder / f"flight-{rank:06d}.bin"


def hashed(identity: str) -> bytes:
    """Of a run's settings, 8 bytes."""
    return bytes.fromhex(identity[:16])


def left(folder: Path, identity: str, generation: int, rows: int) -> list[Left]:
    """What ranks have left that were evaluating rows of a generation, the living ones' files among it.

    Args:
        folder: ``in_progress`` of the run.
        identity: of its settings.
        generation: that is wanted; what belongs to another is ignored.
        rows: how many it has.
    """
    found = []
    for path in sorted(folder.glob("flight-*.bin")):
        number = path.stem.partition("-")[2]
        if number.isdigit() and len(number) < 12:
            one = _read(path, int(number), identity, generation, rows)
            if one is not None:
                found.append(one)
    return found


def _read(path: Path, rank: int, identity: str, generation: int, rows: int) -> Left | None:
    """What one of them has left; None of what is damaged, or of another generation."""
    most = _HEAD.size + (1 << 32)
    try:
        with open_regular(path, most) as file:
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                return None
            magic, version, its_identity, its_generation, its_rows = _HEAD.unpack(head)
            wanted = (MAGIC, VERSION, hashed(identity), generation)
            if (magic, version, its_identity, its_generation) != wanted:
                return None
            if not rows <= its_rows <= os.fstat(file.fileno()).st_size - _HEAD.size:
                return None
            marks: npt.NDArray[np.uint8] = np.frombuffer(file.read(rows), np.uint8)
            file.seek(_HEAD.size + its_rows)
            signals = file.read(MOST_SIGNALS)
    except (OSError, UsageError):
        return None
    if len(marks) < rows or marks.max(initial=0) > 1:
        return None
    under_way = tuple(np.flatnonzero(marks).tolist())
    return Left(path, rank, under_way, ASKED.isdisjoint(signals), not TIME.isdisjoint(signals[-1:]))
