"""The journal: the records of every generation, appended and checksummed. It is the run (law 7).

File format, little-endian: ``ESDJ``, uint32 version, uint32 length and bytes of a JSON header, CRC-32 of all that;
then per record an entry header (``GENR``, uint64 generation, uint32 members, rows, width, CRC-32 of these), the table
as uint64, and its CRC-32. A record that is cut short at the end of the file is what a crash leaves; it is dropped, and
so are zeros at the end, which a file system may leave of one. Damage anywhere else is an error.

A journal may be larger than memory: it is scanned in pieces, and its records are read one at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from esd.errors import UPDATE, UsageError
from esd.evolution.records import RETURNS, Records, Uint64s
from esd.mpi.memory import available_memory
from esd.policies.base import Interface
from esd.reading import open_regular

MAGIC = b"ESDJ"
VERSION = 3
READABLE = (2, 3)  # 2: the canary was drawn from another stream (see ``training.canary``)
PIECE = 1 << 20  # bytes that are in memory at once while a journal is checked
LONGEST_HEADER = 1 << 16
SHORT_ROW = 4096  # bytes; rows up to that are read whole though a part of them was wanted
LARGE = 1 << 26  # bytes of a record for which memory is looked at first
MOST_ZEROS = 1 << 28  # at the end of a file that are taken for a record which was never written
_ENTRY_MAGIC = b"GENR"
_ENTRY = struct.Struct("<4sQIII")
_CRC = struct.Struct("<I")
_HEAD = _ENTRY.size + _CRC.size


@dataclass(frozen=True)
class JournalHeader:
    """What the records belong to.

    Attributes:
        identity: hash of every setting that h depends on.
        h0_sha256: of h_0.
        canary: hash of what this machine computes (see ``canary``).
        observation_size: of the environment, flattened.
        action_size: outputs of the policy.
        bounded: the actions are bounded.
        variants: on how many bodies each row was evaluated.
    """

    identity: str
    h0_sha256: str
    canary: str
    observation_size: int
    action_size: int
    bounded: bool
    variants: int

    @property
    def interface(self) -> Interface:
        """What the policy was built for."""
        return Interface(self.observation_size, self.action_size, self.bounded)

    @property
    def widths(self) -> tuple[int, int]:
        """What a row may be wide: without and with observation normalization."""
        without = RETURNS + self.variants
        return without, without + 1 + 2 * self.observation_size


@dataclass(frozen=True)
class _Entry:
    """Where a record stands."""

    generation: int
    members: int
    rows: int
    width: int
    start: int  # of its table

    @property
    def table_end(self) -> int:
        return self.start + 8 * self.rows * self.width

    @property
    def end(self) -> int:
        return self.table_end + _CRC.size


@dataclass(frozen=True)
class JournalContents:
    """A journal as it was scanned: where its records are. They are read one at a time.

    Attributes:
        path: the file.
        head: its bytes up to the first record.
        version: of the format.
        header: what it belongs to.
        positions: where each record begins, in order.
        generations: of each record; one of the center alone has that of the members' after it.
        next_generation: the first generation that has no record of its members yet.
        good_bytes: where the last whole record ends.
        torn_bytes: how many bytes of a cut-short record follow.
    """

    path: Path
    head: bytes
    version: int
    header: JournalHeader
    positions: array[int]
    generations: array[int]
    next_generation: int
    good_bytes: int
    torn_bytes: int

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Records]]:
        """Read generations and their records, in order, one at a time.

        Args:
            start: the first generation.
            stop: the first one that is not read; None for all.

        Raises:
            DamagedJournalError: if a record is not what it was when it was written.
        """
        return self._read(start, stop, None)

    def outcomes(self) -> Iterator[tuple[int, Records]]:
        """The same without the sums of observations, which are nearly all of a journal of pictures.

        What is ignored is not checked: scan the journal first.
        """
        return self._read(0, None, self.header.widths[0])

    def _read(
        self, start: int, stop: int | None, width: int | None
    ) -> Iterator[tuple[int, Records]]:
        first = bisect_left(self.generations, start)
        end = len(self.positions) if stop is None else bisect_left(self.generations, stop)
        with _opened(self.path) as file:
            for index in range(first, end):
                entry = _entry_at(file, self.positions[index], self.header)
                table = None
                if entry is not None and entry.generation == self.generations[index]:
                    _check_memory(self.path, entry, width or entry.width)
                    narrow = width is not None and 8 * entry.width > SHORT_ROW
                    table = _columns(file, entry, width or 0) if narrow else _table(file, entry)
                if entry is None or table is None:
                    raise self._damaged(index)
                table = table[:, :width]
                yield (
                    entry.generation,
                    Records.of_table(table, entry.members, self.header.variants),
                )

    def _damaged(self, index: int) -> DamagedJournalError:
        """The error of a record that can't be read, with what stands before it."""
        position, generation = self.positions[index], self.generations[index]
        before = replace(
            self,
            positions=self.positions[:index],
            generations=self.generations[:index],
            next_generation=generation,
            good_bytes=position,
            torn_bytes=0,
        )
        return DamagedJournalError(_where(self.path, position, generation), before)


class DamagedJournalError(UsageError):
    """A journal is damaged other than at its end.

    Attributes:
        before: what stands before the damage; None if its header is damaged.
    """

    def __init__(self, text: str, before: JournalContents | None) -> None:
        """Say where."""
        super().__init__(text)
        self.before = before


def _where(path: Path, position: int, generation: int) -> str:
    return f"{path}: damaged at byte {position}, in generation {generation}"


def encode_header(header: JournalHeader) -> bytes:
    """The beginning of a journal."""
    text = json.dumps(asdict(header), sort_keys=True).encode()
    data = MAGIC + struct.pack("<II", VERSION, len(text)) + text
    return data + _CRC.pack(zlib.crc32(data))


def encode_entry(generation: int, records: Records) -> bytes:
    """One record of a journal."""
    rows, width = records.table.shape
    entry = _ENTRY.pack(_ENTRY_MAGIC, generation, records.members, rows, width)
    payload = records.table.astype("<u8", copy=False).tobytes()
    return entry + _CRC.pack(zlib.crc32(entry)) + payload + _CRC.pack(zlib.crc32(payload))


def version_of(head: bytes) -> int:
    """The version of a journal, or that of new ones if there is none yet."""
    return int.from_bytes(head[4:8], "little") if len(head) >= 8 else VERSION


def decode_head(head: bytes, path: Path) -> JournalHeader:
    """The header from a journal's first bytes.

    Raises:
        DamagedJournalError: if it is not a journal, or its header is damaged.
        UsageError: if its version isn't known.
    """
    if head[:4] != MAGIC or len(head) < 12:
        raise DamagedJournalError(
            f"{path}: not a journal of esd (it should begin with {MAGIC.decode()})", None
        )
    version, length = struct.unpack_from("<II", head, 4)
    end = 12 + length
    whole = len(head) >= end + 4 and _CRC.unpack_from(head, end)[0] == zlib.crc32(head[:end])
    if version not in READABLE:
        known = " and ".join(map(str, READABLE))
        unknown = f"{path}: version {version}, this esd reads versions {known}"
        if not whole:  # a flipped bit makes another version, too
            raise DamagedJournalError(f"{unknown}, and its header is damaged", None)
        raise UsageError(f"{unknown}{f'; {UPDATE}' if version > VERSION else ''}")
    damaged = DamagedJournalError(f"{path}: its header is cut short or damaged", None)
    if not whole:
        raise damaged
    try:
        header = JournalHeader(**json.loads(head[12:end]))
    except (TypeError, ValueError, RecursionError):
        raise damaged from None
    for name, value in asdict(header).items():
        wanted: Any = {"str": str, "int": int, "bool": bool}[JournalHeader.__annotations__[name]]
        if type(value) is not wanted or (wanted is int and not 0 <= value < 1 << 32):
            raise damaged
    return header


def read_head(path: Path) -> bytes:
    """A journal's bytes up to its first record.

    Raises:
        UsageError: if it can't be read.
    """
    with _opened(path) as file:
        return _head(file)


def _head(file: int) -> bytes:
    start = _pread(file, 12, 0)
    length = struct.unpack_from("<I", start, 8)[0] if len(start) == 12 else 0
    return start + _pread(file, min(length, LONGEST_HEADER) + 4, 12)


def scan(path: Path, verify: bool = True) -> JournalContents:
    """Find the records of a journal and check them, in pieces.

    Args:
        path: of the file.
        verify: check every record; otherwise the last one alone, and each of the others when it is read.

    Raises:
        DamagedJournalError: if it is not a journal, or damaged other than at its end.
        UsageError: if it can't be read, or has a version that isn't known.
    """
    with _opened(path) as file:
        size = os.fstat(file).st_size
        head = _head(file)
        header = decode_head(head, path)
        positions, generations = array("Q"), array("Q")
        position, expected = len(head), 0

        def found(torn: int) -> JournalContents:
            return JournalContents(
                path,
                head,
                version_of(head),
                header,
                positions,
                generations,
                expected,
                position,
                torn,
            )

        while position < size:
            entry = _entry_at(file, position, header)
            if entry is None:
                if size - position < _HEAD or _only_zeros(file, position, size):
                    break
                raise DamagedJournalError(_where(path, position, expected), found(0))
            if entry.generation != expected:
                raise DamagedJournalError(
                    f"{path}: generation {entry.generation} found where {expected} was expected",
                    found(0),
                )
            if entry.end > size:
                break
            if (verify or entry.end == size) and not _intact(file, entry):
                if entry.end == size or _only_zeros(file, entry.table_end, size):
                    break
                raise DamagedJournalError(_where(path, position, expected), found(0))
            positions.append(position)
            generations.append(expected)
            expected += 1 if entry.members else 0
            position = entry.end
        return found(size - position)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A journal to read, by its descriptor."""
    try:
        file = open_regular(path)
    except FileNotFoundError:
        raise UsageError(f"{path}: missing") from None
    with file:
        try:
            yield file.fileno()
        except OSError as error:
            raise UsageError(f"{path}: can't be read ({error.strerror})") from error


def _pread(file: int, count: int, position: int) -> bytes:
    """So many bytes, or fewer at the end of the file."""
    data = os.pread(file, count, position)
    while 0 < len(data) < count:
        more = os.pread(file, count - len(data), position + len(data))
        if not more:
            break
        data += more
    return data


def _entry_at(file: int, position: int, header: JournalHeader) -> _Entry | None:
    """The record that begins at a position, or None if none does."""
    data = _pread(file, _HEAD, position)
    if len(data) < _HEAD or _CRC.unpack_from(data, _ENTRY.size)[0] != zlib.crc32(
        data[: _ENTRY.size]
    ):
        return None
    magic, generation, members, rows, width = _ENTRY.unpack_from(data)
    if magic != _ENTRY_MAGIC or not 0 < rows >= members or width not in header.widths:
        return None
    return _Entry(generation, members, rows, width, position + _HEAD)


def _pieces(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where pieces begin, and their lengths."""
    for position in range(start, end, PIECE):
        yield position, min(PIECE, end - position)


def _intact(file: int, entry: _Entry) -> bool:
    """Whether a record's table has its checksum."""
    checksum = 0
    for position, length in _pieces(entry.start, entry.table_end):
        data = _pread(file, length, position)
        if len(data) < length:
            return False
        checksum = zlib.crc32(data, checksum)
    return _pread(file, _CRC.size, entry.table_end) == _CRC.pack(checksum)


def _only_zeros(file: int, start: int, end: int) -> bool:
    """Whether a file ends in zeros from a position on: so many as a crash may leave."""
    return end - start <= MOST_ZEROS and all(
        not any(_pread(file, length, position)) for position, length in _pieces(start, end)
    )


def _check_memory(path: Path, entry: _Entry, width: int) -> None:
    """Refuse a record that memory can't hold: a sparse file of any size takes nothing to be made.

    Raises:
        UsageError: with both sizes.
    """
    needed = 8 * entry.rows * width
    if needed > LARGE and 2 * needed > (available := available_memory()):
        raise UsageError(
            f"{path}: the record of generation {entry.generation} takes {2 * needed:,} bytes of memory to read, more "
            f"than the {available:,} that are available"
        )


def _table(file: int, entry: _Entry) -> Uint64s | None:
    """A record's table, uint64 [rows, width]; None if it is damaged or cut short."""
    if entry.end > os.fstat(file).st_size:  # before anything so large is allocated
        return None
    table = np.empty((entry.rows, entry.width), "<u8")
    buffer, read = table.data.cast("B"), 0
    while read < len(buffer):
        count = os.preadv(file, [buffer[read:]], entry.start + read)
        if not count:
            return None
        read += count
    if _pread(file, _CRC.size, entry.table_end) != _CRC.pack(zlib.crc32(buffer)):
        return None
    return table.astype(np.uint64, copy=False)


def _columns(file: int, entry: _Entry, count: int) -> Uint64s | None:
    """A record's first columns, uint64 [rows, count]; None if it is cut short."""
    if entry.end > os.fstat(file).st_size:
        return None
    rows = [_pread(file, 8 * count, entry.start + 8 * entry.width * r) for r in range(entry.rows)]
    return np.frombuffer(b"".join(rows), "<u8").reshape(entry.rows, count).astype(np.uint64)
