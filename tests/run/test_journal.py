"""The journal: whatever happens to the file, nothing wrong is read from it, and it is never in memory as a whole."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esd.errors import NotWritableError, RunError, UsageError
from esd.evolution.records import Records, Status
from esd.run import journal
from esd.run.journal import (
    VERSION,
    DamagedJournalError,
    JournalContents,
    JournalHeader,
    encode_entry,
    encode_header,
    scan,
)
from esd.run.journal_writer import JournalWriter

HEADER = JournalHeader("identity", "h0", "canary", 4, 2, False, 2)
ANYWHERE = settings(
    max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def records(generation: int, members: int = 4, center: int = 2) -> Records:
    """A filled table."""
    table = Records(members, center, 0, variants=2)
    for row in range(members + center):
        table.write(
            row,
            returns=[generation + row / 7, -0.0],
            steps=row,
            episodes=1,
            status=Status.DONE,
        )
    return table


JOURNAL = encode_header(HEADER) + b"".join(encode_entry(g, records(g)) for g in range(4))
HEAD, ENTRY = len(encode_header(HEADER)), len(encode_entry(0, records(0)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a journal is written."""
    return tmp_path / "journal.bin"


def scanned(file: Path, data: bytes, verify: bool = True) -> JournalContents:
    """Write a journal and scan it."""
    file.write_bytes(data)
    return scan(file, verify)


def begins_as_it_was_written(contents: JournalContents) -> bool:
    """Whether what is read are the first records of ``JOURNAL``, and nothing else."""
    return all(
        generation == number and np.array_equal(found.table, records(number).table)
        for number, (generation, found) in enumerate(contents.entries())
    )


def check_message(error: UsageError, file: Path) -> None:
    """A line that can be read, whatever stands in the file."""
    assert len(str(error)) - len(str(file)) < 500
    assert str(error).isprintable()


def test_what_is_written_is_read_back(file: Path) -> None:
    contents = scanned(file, JOURNAL)
    assert contents.header == HEADER
    assert contents.head == encode_header(HEADER)
    found = list(contents.entries())
    assert [g for g, _ in found] == [0, 1, 2, 3]
    assert contents.next_generation == 4
    assert (contents.good_bytes, contents.torn_bytes) == (len(JOURNAL), 0)
    assert begins_as_it_was_written(contents)
    assert found[0][1].members == 4
    assert np.signbit(found[0][1].returns[:, 1]).all()


def test_reading_begins_at_any_generation(file: Path) -> None:
    contents = scanned(file, JOURNAL)
    assert [[g for g, _ in contents.entries(start)] for start in range(5)] == [
        [0, 1, 2, 3],
        [1, 2, 3],
        [2, 3],
        [3],
        [],
    ]


@given(cut=st.integers(0, len(JOURNAL)))
@ANYWHERE
def test_any_cut_leaves_whole_records_or_a_clear_error(cut: int, file: Path) -> None:
    try:
        contents = scanned(file, JOURNAL[:cut])
    except UsageError:
        assert cut < HEAD
        return
    assert begins_as_it_was_written(contents)
    assert contents.good_bytes + contents.torn_bytes == cut
    assert contents.next_generation == (cut - HEAD) // ENTRY


@given(position=st.integers(0, len(JOURNAL) - 1), flip=st.integers(1, 255))
@ANYWHERE
def test_no_damaged_byte_goes_unnoticed(position: int, flip: int, file: Path) -> None:
    data = bytearray(JOURNAL)
    data[position] ^= flip
    try:
        contents = scanned(file, bytes(data))
    except UsageError as error:
        before = error.before if isinstance(error, DamagedJournalError) else None
        if before is not None:  # everything up to the damage can be read, and nothing after it
            assert before.next_generation == (position - HEAD) // ENTRY
            assert begins_as_it_was_written(before)
            assert before.good_bytes == HEAD + ENTRY * before.next_generation
        else:
            assert position < HEAD
        return
    # only the last record may be taken for one that a crash cut short
    assert position >= len(JOURNAL) - ENTRY
    assert contents.next_generation == 3
    assert begins_as_it_was_written(contents)


@given(data=st.data())
@ANYWHERE
def test_whatever_is_done_to_it_nothing_wrong_is_read(data: st.DataObject, file: Path) -> None:
    """Cuts, insertions, zeroed and overwritten ranges, repeated and removed ones: several of them at once."""
    damaged = bytearray(JOURNAL)
    for _ in range(data.draw(st.integers(1, 3))):
        a = data.draw(st.integers(0, len(damaged)))
        b = data.draw(st.integers(a, len(damaged)))
        with_what = data.draw(
            st.sampled_from([b"", bytes(b - a), bytes(damaged[a:b]) * 2])
            | st.binary(max_size=60)
            | st.integers(0, 5).map(lambda g: encode_entry(g, records(g)))
        )
        damaged[a:b] = with_what
    for verify in (True, False):
        try:
            contents = scanned(file, bytes(damaged), verify)
            assert begins_as_it_was_written(contents)
            assert contents.good_bytes + contents.torn_bytes == len(damaged)
        except UsageError as error:
            check_message(error, file)


def test_without_verifying_a_damaged_record_is_noticed_when_it_is_read(file: Path) -> None:
    data = bytearray(JOURNAL)
    data[HEAD + ENTRY + 60] ^= 1
    contents = scanned(file, bytes(data), verify=False)
    assert contents.next_generation == 4
    reading = contents.entries()
    assert next(reading)[0] == 0
    with pytest.raises(DamagedJournalError, match=f"at byte {HEAD + ENTRY}, in generation 1") as e:
        next(reading)
    assert e.value.before is not None
    assert (e.value.before.next_generation, e.value.before.good_bytes) == (1, HEAD + ENTRY)


@pytest.mark.parametrize("zeros", [1, 28, 4096, 3 << 20])
def test_zeros_at_the_end_are_a_record_that_was_never_written(zeros: int, file: Path) -> None:
    contents = scanned(file, JOURNAL + bytes(zeros))
    assert (contents.next_generation, contents.torn_bytes) == (4, zeros)
    half_written = JOURNAL[:-40] + bytes(40 + zeros)
    contents = scanned(file, half_written)
    assert (contents.next_generation, contents.torn_bytes) == (3, ENTRY + zeros)


def test_a_generation_out_of_order_is_refused(file: Path) -> None:
    swapped = encode_header(HEADER) + encode_entry(1, records(1))
    with pytest.raises(UsageError, match="generation 1 found where 0 was expected"):
        scanned(file, swapped)


def test_a_record_of_the_center_alone_does_not_advance_the_run(file: Path) -> None:
    alone = records(4, members=0)
    contents = scanned(file, JOURNAL + encode_entry(4, alone) + encode_entry(4, records(4)))
    assert contents.next_generation == 5
    assert [g for g, _ in contents.entries()] == [0, 1, 2, 3, 4, 4]
    assert [r.members for _, r in contents.entries(4)] == [0, 4]


def test_a_newer_version_is_refused_and_a_version_that_a_flipped_bit_has_made_is_damage(
    file: Path,
) -> None:
    said = f"version {VERSION + 1}, this esd reads versions 2 and {VERSION}"
    changed = JOURNAL[:4] + bytes([VERSION + 1]) + JOURNAL[5:]
    with pytest.raises(DamagedJournalError, match=f"{said}, and its header is damaged"):
        scanned(file, changed)
    end = 12 + int.from_bytes(changed[8:12], "little")
    newer = changed[:end] + zlib.crc32(changed[:end]).to_bytes(4, "little") + changed[end + 4 :]
    with pytest.raises(UsageError, match=f"{said}; .*update esd") as caught:
        scanned(file, newer)
    assert not isinstance(caught.value, DamagedJournalError)


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 40_000,
        JOURNAL[12 : HEAD - 4].replace(b'"variants": 2', b'"variants": -2'),
        JOURNAL[12 : HEAD - 4].replace(b'"variants": 2', b'"variants": "2"'),
        JOURNAL[12 : HEAD - 4].replace(b'"bounded": false', b'"bounded": 0'),
        JOURNAL[12 : HEAD - 4].replace(b'"canary"', b'"Canary"', 1),
    ],
)
def test_a_header_that_says_something_else_is_refused(text: bytes, file: Path) -> None:
    """Even if its checksum is right."""
    assert text != JOURNAL[12 : HEAD - 4]
    data = b"ESDJ" + struct.pack("<II", VERSION, len(text)) + text
    with pytest.raises(DamagedJournalError, match="header is cut short or damaged"):
        scanned(file, data + struct.pack("<I", zlib.crc32(data)) + JOURNAL[HEAD:])


def entry_that_claims(rows: int, width: int) -> bytes:
    entry = struct.pack("<4sQIII", b"GENR", 0, 2, rows, width)
    return entry + struct.pack("<I", zlib.crc32(entry))


@pytest.mark.parametrize(
    ("rows", "width"), [(2**32 - 1, 7), (2**32 - 1, 16), (2**32 - 1, 2**32 - 1)]
)
def test_a_record_that_claims_too_much_allocates_nothing(rows: int, width: int, file: Path) -> None:
    data = encode_header(HEADER) + entry_that_claims(rows, width) + bytes(1000) + b"x"
    tracemalloc.start()
    cut_short = width in HEADER.widths
    with contextlib.nullcontext() if cut_short else pytest.raises(DamagedJournalError):
        assert scanned(file, data).next_generation == 0
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda file: file.mkdir(), "expected a regular file"),
        (os.mkfifo, "expected a regular file"),
        (lambda file: file.symlink_to("/dev/zero"), "it is a symbolic link"),
        (lambda file: None, "missing"),
    ],
)
def test_only_a_regular_file_is_a_journal(
    make: Callable[[Path], None], words: str, file: Path
) -> None:
    make(file)
    with pytest.raises(UsageError, match=words):
        scan(file)


def pictures(generation: int, members: int = 16, size: int = 10_000) -> Records:
    """Records with the sums of large observations."""
    rng = np.random.default_rng(generation)
    table = Records(members, 2, size, variants=1)
    for row in range(members + 2):
        table.write(
            row,
            returns=[float(row)],
            steps=generation + row,
            episodes=1,
            status=Status.DONE,
            observations=rng.standard_normal(1 + 2 * size),
        )
    return table


def test_a_journal_of_any_size_is_read_in_the_memory_of_a_record(file: Path) -> None:
    header = JournalHeader("identity", "h0", "canary", 10_000, 2, False, 1)
    with file.open("wb") as out:
        out.write(encode_header(header))
        for generation in range(40):
            out.write(encode_entry(generation, pictures(generation)))
    size, of_record = file.stat().st_size, len(encode_entry(0, pictures(0)))
    assert size > 110_000_000
    tracemalloc.start()
    contents = scan(file)
    of_scan = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    steps = [r.steps for _, r in contents.outcomes()]
    of_outcomes = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    entries = sum(1 for _ in contents.entries())
    of_entries = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert contents.next_generation == entries == 40
    assert steps == [18 * g + sum(range(18)) for g in range(40)]
    assert of_scan < 3 * journal.PIECE
    assert of_outcomes < journal.PIECE
    assert of_entries < 2.5 * of_record


def test_outcomes_are_the_records_without_the_sums_of_observations(file: Path) -> None:
    header = JournalHeader("identity", "h0", "canary", 300, 2, False, 1)
    data = encode_header(header) + encode_entry(0, pictures(0, size=300))
    contents = scanned(file, data)
    (_, outcome), (_, entry) = next(contents.outcomes()), next(contents.entries())
    assert entry.table.shape == (18, 6 + 601)
    np.testing.assert_array_equal(outcome.table, entry.table[:, :6])
    np.testing.assert_array_equal(outcome.center_returns, [[16.0], [17.0]])


def test_the_writer_cuts_a_torn_rest_away_and_appends(file: Path) -> None:
    contents = scanned(file, JOURNAL[:-3])
    writer = JournalWriter(file, contents.good_bytes)
    writer.append(encode_entry(3, records(3)))
    writer.close()
    assert file.read_bytes() == JOURNAL


def truncate(file: Path) -> None:
    os.truncate(file, HEAD)


def replace(file: Path) -> None:
    (file.parent / "copy").write_bytes(file.read_bytes())
    (file.parent / "copy").rename(file)


def extend(file: Path) -> None:
    with file.open("ab") as other:
        other.write(b"x")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (Path.unlink, "was removed"),
        (replace, "was replaced"),
        (truncate, "was changed"),
        (extend, "was changed"),
    ],
)
def test_the_writer_notices_that_another_program_was_at_its_file(
    harm: Callable[[Path], None], words: str, file: Path
) -> None:
    file.write_bytes(JOURNAL)
    writer = JournalWriter(file, len(JOURNAL))
    writer.append(encode_entry(4, records(4)))
    harm(file)
    left = file.read_bytes() if file.exists() else None
    with pytest.raises(RunError, match=words):
        writer.append(encode_entry(5, records(5)))
    writer.close()
    assert left == (file.read_bytes() if file.exists() else None)


def test_the_writer_syncs_once_a_second(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, synced = [100.0], list[int]()
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    file.write_bytes(JOURNAL)
    writer = JournalWriter(file, len(JOURNAL), lambda: now[0])
    more = [encode_entry(4 + g, records(4 + g)) for g in range(6)]
    ends = [len(JOURNAL) + sum(map(len, more[: n + 1])) for n in range(6)]
    for record in more[:3]:
        writer.append(record)
        writer.sync_now_and_then()
        now[0] += 0.4
    assert synced == [ends[0]]
    assert writer.unsynced == more[1:3]
    writer.append(more[3])
    writer.sync_now_and_then()
    assert synced == [ends[0], ends[3]]
    writer.append(more[4])
    writer.sync()
    writer.sync()  # nothing is left to do
    assert synced == [ends[0], ends[3], ends[4]]
    writer.append(more[5])
    assert file.stat().st_size == ends[5]
    writer.close()
    assert synced[-1] == ends[5]


def test_what_no_sync_has_confirmed_is_written_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a sync that failed, the system may have dropped it, and the next sync would succeed."""
    real, fails = os.fsync, [False]

    def sync(descriptor: int) -> None:
        if fails[0]:
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr("os.fsync", sync)
    file.write_bytes(JOURNAL)
    writer = JournalWriter(file, len(JOURNAL))
    more = [encode_entry(4 + g, records(4 + g)) for g in range(4)]
    writer.append(more[0])
    writer.sync()
    fails[0] = True
    for record in more[1:3]:
        writer.append(record)
        with pytest.raises(NotWritableError, match="Input/output error"):
            writer.sync()
    assert writer.unsynced == more[1:3]
    dropped = len(JOURNAL + more[0])
    with file.open("r+b") as other:  # what the system has done
        other.seek(dropped)
        other.write(bytes(file.stat().st_size - dropped))
    fails[0] = False
    writer.append(more[3])
    writer.close()
    assert file.read_bytes() == JOURNAL + b"".join(more)


@pytest.mark.parametrize("left", [0, 1, 100])
def test_a_record_that_does_not_fit_leaves_nothing_behind(
    left: int, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if what was written of it can't be cut away at once."""
    pwrite, truncate, room = os.pwrite, os.ftruncate, [left]

    def small(descriptor: int, data: memoryview, offset: int) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = pwrite(descriptor, data[: room[0]], offset)
        room[0] -= written
        return written

    def refuse(descriptor: int, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    file.write_bytes(JOURNAL)
    writer = JournalWriter(file, len(JOURNAL))
    more = [encode_entry(4 + g, records(4 + g)) for g in range(2)]
    monkeypatch.setattr("os.pwrite", small)
    monkeypatch.setattr("os.ftruncate", refuse)
    with pytest.raises(NotWritableError, match="No space left on device"):
        writer.append(more[0])
    monkeypatch.setattr("os.ftruncate", truncate)
    with pytest.raises(NotWritableError):
        writer.append(more[0])
    assert file.read_bytes() == JOURNAL
    monkeypatch.setattr("os.pwrite", pwrite)
    for record in more:
        writer.append(record)
    writer.close()
    assert file.read_bytes() == JOURNAL + b"".join(more)


def test_the_writer_follows_no_link(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(JOURNAL)
    file.symlink_to(other)
    with pytest.raises(RunError, match="can't be written"):
        JournalWriter(file, HEAD)
    assert other.read_bytes() == JOURNAL


def test_a_record_that_memory_can_not_hold_is_refused_before_it_is_read(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_bytes(JOURNAL)
    contents = scan(file)
    assert len([*contents.entries()]) == 4
    monkeypatch.setattr(journal, "LARGE", 0)
    monkeypatch.setattr(journal, "available_memory", lambda: 100)
    with pytest.raises(UsageError, match=r"generation 0 takes .* more than the 100 that"):
        next(contents.entries())
    with pytest.raises(UsageError, match="more than the 100 that are available"):
        next(contents.outcomes())
