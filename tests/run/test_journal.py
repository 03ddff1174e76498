"""The journal: whatever happens to the file, nothing wrong is read from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esd.errors import UsageError
from esd.evolution.records import Records, Status
from esd.run.journal import (
    VERSION,
    JournalContents,
    JournalHeader,
    JournalWriter,
    decode,
    encode_entry,
    encode_header,
)

HEADER = JournalHeader("identity", "h0", "canary", 4, 2, False, 2)


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


def same(a: JournalContents, b: JournalContents, entries: int) -> bool:
    """Whether two journals agree in their first entries."""
    pairs = zip(a.entries[:entries], b.entries[:entries], strict=True)
    return all(x[0] == y[0] and np.array_equal(x[1].table, y[1].table) for x, y in pairs)


def test_what_is_written_is_read_back() -> None:
    contents = decode(JOURNAL, "j")
    assert contents.header == HEADER
    assert [g for g, _ in contents.entries] == [0, 1, 2, 3]
    assert contents.next_generation == 4
    assert (contents.good_bytes, contents.torn_bytes) == (len(JOURNAL), 0)
    np.testing.assert_array_equal(contents.entries[2][1].table, records(2).table)
    assert contents.entries[0][1].members == 4
    assert np.signbit(contents.entries[0][1].returns[:, 1]).all()


@given(cut=st.integers(0, len(JOURNAL)))
@settings(max_examples=300)
def test_any_cut_leaves_whole_records_or_a_clear_error(cut: int) -> None:
    try:
        contents = decode(JOURNAL[:cut], "j")
    except UsageError:
        assert cut < len(encode_header(HEADER))
        return
    assert same(contents, decode(JOURNAL, "j"), len(contents.entries))
    assert contents.good_bytes + contents.torn_bytes == cut
    assert len(contents.entries) == (cut - len(encode_header(HEADER))) // len(
        encode_entry(0, records(0))
    )


@given(position=st.integers(0, len(JOURNAL) - 1), flip=st.integers(1, 255))
@settings(max_examples=500)
def test_no_damaged_byte_goes_unnoticed(position: int, flip: int) -> None:
    data = bytearray(JOURNAL)
    data[position] ^= flip
    try:
        contents = decode(bytes(data), "j")
    except UsageError:
        return
    # only the last record may be taken for one that a crash cut short
    assert position >= len(JOURNAL) - len(encode_entry(3, records(3)))
    assert len(contents.entries) == 3
    assert same(contents, decode(JOURNAL, "j"), 3)


def test_a_generation_out_of_order_is_refused() -> None:
    swapped = encode_header(HEADER) + encode_entry(1, records(1))
    with pytest.raises(UsageError, match="generation 1 stands where 0 should"):
        decode(swapped, "j")


def test_a_record_of_the_center_alone_does_not_advance_the_run() -> None:
    alone = records(4, members=0)
    contents = decode(JOURNAL + encode_entry(4, alone) + encode_entry(4, records(4)), "j")
    assert contents.next_generation == 5
    assert len(contents.entries) == 6


def test_a_newer_version_is_refused() -> None:
    newer = JOURNAL[:4] + bytes([VERSION + 1]) + JOURNAL[5:]
    with pytest.raises(
        UsageError, match=f"version {VERSION + 1}, this esd reads versions 2 and {VERSION}"
    ):
        decode(newer, "j")


def test_the_writer_cuts_a_torn_rest_away_and_appends(tmp_path: Path) -> None:
    path = tmp_path / "journal.bin"
    path.write_bytes(JOURNAL[:-3])
    contents = decode(path.read_bytes(), "j")
    writer = JournalWriter(path, contents.good_bytes)
    writer.append(encode_entry(3, records(3)))
    writer.close()
    assert path.read_bytes() == JOURNAL
