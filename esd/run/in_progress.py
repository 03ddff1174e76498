"""Records of a generation that is not complete yet: what was evaluated is kept, whatever ends the job.

Every rank appends to a file of its own in ``in_progress/``, at most once a second and for at most a hundredth of its
time, so generations of less than a second leave nothing. An entry has

    "ESDR", CRC-32 of the rest, which state the row was evaluated from (8 bytes), row and size of the record, the record

little-endian. A resume takes the entries of the state that it starts from. What a crash has cut short, and what belongs
to another state, is ignored: those rows are evaluated again, to the same bits (law 1).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from esd.errors import UsageError
from esd.evolution.state import RunState
from esd.reading import open_regular
from esd.run.files import close

Uint64s = npt.NDArray[np.uint64]

MAGIC = b"ESDR"
_HEAD = struct.Struct("<4sI8sQQ")
_SUMMED = 8  # bytes of an entry that the checksum leaves out
EVERY_SECONDS = 1.0
SHARE_OF_TIME = 0.01


def key_of(identity: str, state: RunState) -> bytes:
    """What a row's record depends on but its number: the settings and the state, 8 bytes."""
    return hashlib.sha256(f"{identity} {state.sha256()}".encode()).digest()[:8]


def encode(key: bytes, row: int, record: Uint64s) -> bytes:
    """An entry."""
    body = _HEAD.pack(MAGIC, 0, key, row, record.size)[_SUMMED:] + record.astype("<u8").tobytes()
    return MAGIC + struct.pack("<I", zlib.crc32(body)) + body


class KeptRows:
    """One rank's rows of the generation under way.

    Args:
        folder: ``in_progress`` of the run.
        rank: this one's.
        warn: is called once with the reason why rows can't be kept.
        clock: in seconds.
    """

    def __init__(
        self,
        folder: Path,
        rank: int,
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is written yet."""
        self._folder, self._path = folder, folder / f"rank-{rank:06d}.bin"
        self._warn, self._clock = warn, clock
        self._descriptor: int | None = None
        self._key: Callable[[], bytes] = bytes
        self._found: bytes | None = None  # the key, once it was asked for
        self._rows: list[tuple[int, Uint64s]] = []
        self._next, self._broken, self._stale = 0.0, False, True
        # on a node with a disk of its own the run's folder is not there
        self._parents = not folder.parent.exists()

    def begin(self, key: Callable[[], bytes], more: bool = False) -> None:
        """Begin a generation.

        Args:
            key: gives ``key_of`` its state; called if there is something to write.
            more: what is in the file belongs to the same generation.
        """
        self._key, self._found, self._rows = key, None, []
        self._next = self._clock() + EVERY_SECONDS
        if self._stale and not more:
            self.close()
            with contextlib.suppress(OSError):
                self._path.unlink()
            self._stale = False

    def add(self, row: int, record: Uint64s) -> None:
        """Keep a row's record, now or with one of the next."""
        if not self._broken:
            self._rows.append((row, record.copy()))
            if self._clock() >= self._next:
                self.write()

    def write(self, now: bool = False) -> None:
        """Write what was added, if that has taken long enough to be worth it, or ``now``."""
        began = self._clock()
        if not self._rows or self._broken or (began < self._next and not now):
            return
        try:
            if self._found is None:
                self._found = self._key()
            data = b"".join(encode(self._found, row, record) for row, record in self._rows)
            self._rows = []
            descriptor = self._opened()
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        except OSError as error:
            self._broken = True
            self._warn(
                f"{self._path}: can't be written ({error.strerror}); records of a generation are only saved when it "
                "is complete"
            )
        ended = self._clock()
        self._next = ended + max(EVERY_SECONDS, (ended - began) / SHARE_OF_TIME)

    def close(self) -> None:
        """Close the file; what is in it stays."""
        if self._descriptor is not None:
            close(self._descriptor)
            self._descriptor = None

    def _opened(self) -> int:
        if self._descriptor is None:
            self._folder.mkdir(parents=self._parents, exist_ok=True)
            self._stale = True
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o666)
        return self._descriptor


def read(folder: Path, key: bytes, table: Uint64s) -> int:
    """Put the records that were kept of a state into a table, whoever has written them.

    Args:
        folder: ``in_progress`` of the run.
        key: of the state.
        table: uint64 [rows, width]; the rows that are found are written.

    Returns:
        How many were found.
    """
    found = set()
    for path in sorted(folder.glob("rank-*.bin")):
        # twice what all rows can take: a rank may have been killed between writing and the next generation
        most = 2 * len(table) * (_HEAD.size + 8 * table.shape[1])
        try:
            with open_regular(path, most) as file:
                data = file.read(most)
        except (OSError, UsageError):
            continue
        at = 0
        while at + _HEAD.size <= len(data):
            magic, checksum, its_key, row, size = _HEAD.unpack_from(data, at)
            end = at + _HEAD.size + 8 * size
            if (
                magic != MAGIC
                or end > len(data)
                or zlib.crc32(data[at + _SUMMED : end]) != checksum
            ):
                at = data.find(
                    MAGIC, at + 1
                )  # cut short by a crash; another process has gone on behind it
                if at < 0:
                    break
                continue
            if its_key == key and row < len(table) and size == table.shape[1]:
                table[row] = np.frombuffer(data, "<u8", size, at + _HEAD.size)
                found.add(row)
            at = end
    return len(found)


def remove(folder: Path, from_rank: int = 0) -> None:
    """Remove what ranks from ``from_rank`` on have kept, and the folder if it is empty then."""
    for path in (*folder.glob("rank-*.bin"), *folder.glob("flight-*.bin")):
        number = path.stem.partition("-")[2]
        if number.isdigit() and int(number) >= from_rank:
            with contextlib.suppress(OSError):
                path.unlink()
    with contextlib.suppress(OSError):
        (folder / "losses.bin").unlink()  # of rows that have their records now
    with contextlib.suppress(OSError):
        folder.rmdir()
