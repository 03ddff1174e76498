"""The journal: the records of every generation, appended and checksummed. It is the run (law 7).

File format, little-endian: ``ESDJ``, uint32 version, uint32 length and bytes of a JSON header, CRC-32 of all that;
then per record an entry header (``GENR``, uint64 generation, uint32 members, rows, width, CRC-32 of these), the table
as uint64, and its CRC-32. A record that is cut short at the end of the file is what a crash leaves; it is dropped.
Damage anywhere else is an error.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from esd.errors import RunError, UsageError
from esd.evolution.records import Records
from esd.run.files import open_for_writing

MAGIC = b"ESDJ"
VERSION = 3
READABLE = (2, 3)  # 2: the canary was drawn from another stream (see ``training.canary``)
_ENTRY_MAGIC = b"GENR"
_ENTRY = struct.Struct("<4sQIII")
_CRC = struct.Struct("<I")


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


@dataclass(frozen=True)
class JournalContents:
    """A journal as read.

    Attributes:
        header: what it belongs to.
        entries: generation and records, in order.
        good_bytes: where the last whole record ends.
        torn_bytes: how many bytes of a cut-short record follow.
    """

    header: JournalHeader
    entries: list[tuple[int, Records]]
    good_bytes: int
    torn_bytes: int

    @property
    def next_generation(self) -> int:
        """The first generation that has no record of its members yet."""
        return sum(1 for _, records in self.entries if records.members)


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


def version_of(data: bytes) -> int:
    """The version of a journal, or that of new ones if there is none yet."""
    return int.from_bytes(data[4:8], "little") if len(data) >= 8 else VERSION


def decode(data: bytes, name: str) -> JournalContents:
    """Read a whole journal.

    Raises:
        UsageError: if it is not a journal, of a version that isn't known, or damaged other than at its end.
    """
    if data[:4] != MAGIC or len(data) < 12:
        raise UsageError(f"{name}: not a journal of esd (it should begin with {MAGIC.decode()})")
    version, length = struct.unpack_from("<II", data, 4)
    if version not in READABLE:
        known = " and ".join(map(str, READABLE))
        raise UsageError(f"{name}: version {version}, this esd reads versions {known}")
    position = 12 + length
    if len(data) < position + 4 or _CRC.unpack_from(data, position)[0] != zlib.crc32(
        data[:position]
    ):
        raise UsageError(f"{name}: its header is cut short or damaged; restore it from a copy")
    header = JournalHeader(**json.loads(data[12:position]))
    position += 4
    entries: list[tuple[int, Records]] = []
    expected = 0
    while position < len(data):
        end = _entry_end(data, position, name, expected)
        if end is None:
            break
        _, generation, members, rows, width = _ENTRY.unpack_from(data, position)
        if generation != expected:
            raise UsageError(
                f"{name}: generation {generation} stands where {expected} should; restore it from a copy"
            )
        start = position + _ENTRY.size + 4
        table = np.frombuffer(data, "<u8", rows * width, start).reshape(rows, width)
        entries.append(
            (generation, Records.of_table(table.astype(np.uint64), members, header.variants))
        )
        expected += 1 if members else 0
        position = end
    return JournalContents(header, entries, position, len(data) - position)


def _entry_end(data: bytes, position: int, name: str, generation: int) -> int | None:
    """Where the record at ``position`` ends, or None if it is cut short at the end of the file."""
    damaged = UsageError(
        f"{name}: damaged at byte {position}, in generation {generation}; restore it from a copy, or cut it there "
        f"(truncate -s {position}) to go on from that generation"
    )
    start = position + _ENTRY.size + 4
    if start > len(data):
        return None
    entry = data[position : position + _ENTRY.size]
    if entry[:4] != _ENTRY_MAGIC or _CRC.unpack_from(data, start - 4)[0] != zlib.crc32(entry):
        raise damaged
    rows, width = (int(number) for number in _ENTRY.unpack(entry)[3:])
    payload_end = start + 8 * rows * width
    end = payload_end + 4
    if end > len(data):
        return None
    if _CRC.unpack_from(data, payload_end)[0] != zlib.crc32(data[start:payload_end]):
        if end == len(data):
            return None
        raise damaged
    return end


class JournalWriter:
    """Appends records durably. One writer at a time: rank 0."""

    def __init__(self, path: Path, good_bytes: int) -> None:
        """Open a journal to append after ``good_bytes``; a torn rest is cut away."""
        self._path = path
        self._descriptor = open_for_writing(path, os.O_WRONLY)
        os.ftruncate(self._descriptor, good_bytes)
        self._end = good_bytes

    def append(self, data: bytes) -> None:
        """Write one encoded piece at the end and wait until it is on disk.

        Raises:
            RunError: if it can't be written; the journal is then as it was before.
        """
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], self._end + written)
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, self._end)
            raise RunError(
                f"{self._path}: can't be written ({error.strerror}); everything up to the generation before is "
                "kept: make room and start the same command again"
            ) from error
        self._end += len(data)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
