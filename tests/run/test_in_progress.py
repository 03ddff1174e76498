"""Records of a generation that is not complete: whatever a crash leaves, only whole ones of the same state are used."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esd.evolution.algorithm import EvolutionState
from esd.evolution.observations import ObservationStatistics
from esd.evolution.state import RunState
from esd.run import in_progress
from esd.run.in_progress import KeptRows, Uint64s, encode, read

KEY, OTHER = b"state 07", b"state 08"
WIDTH = 6


def record(row: int) -> Uint64s:
    """What a row may hold; never all zeros."""
    return np.random.default_rng(row).integers(1, 2**64, WIDTH, np.uint64, endpoint=False)


class Clock:
    """Seconds, set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def kept(folder: Path, clock: Clock, rank: int = 0, warned: list[str] | None = None) -> KeptRows:
    warned = [] if warned is None else warned
    return KeptRows(folder, rank, warned.append, clock)


def found(folder: Path, rows: int = 10, key: bytes = KEY) -> list[int]:
    """The rows that can be read, each with its own record."""
    table = np.zeros((rows, WIDTH), np.uint64)
    count = read(folder, key, table)
    there = np.flatnonzero(table.any(axis=1)).tolist()
    assert count == len(there)
    for row in there:
        np.testing.assert_array_equal(table[row], record(row))
    return there


def test_quick_generations_leave_nothing(tmp_path: Path) -> None:
    clock, folder = Clock(), tmp_path / "in_progress"
    rows = kept(folder, clock)
    for _ in range(50):
        rows.begin(lambda: KEY)
        for row in range(10):
            clock.now += 0.09
            rows.add(row, record(row))
        rows.write()
    assert not folder.exists()


def test_slow_rows_are_kept_at_once_and_belong_to_their_generation(tmp_path: Path) -> None:
    clock, folder = Clock(), tmp_path / "in_progress"
    one, other = kept(folder, clock), kept(folder, clock, 1)
    for rows in (one, other):
        rows.begin(lambda: KEY)
    for row in (3, 4, 7):
        clock.now += 1.5
        one.add(row, record(row))
    other.add(5, record(5))
    assert found(folder) == [3, 4, 5, 7]
    assert found(folder, key=OTHER) == []
    clock.now += 0.5
    one.add(8, record(8))
    one.write()  # not yet: less than a second after the last one
    assert found(folder) == [3, 4, 5, 7]
    one.begin(lambda: OTHER)
    assert found(folder) == [5]
    clock.now += 2.0
    one.add(0, record(0))
    assert found(folder, key=OTHER) == [0]


def test_a_resume_adds_to_what_a_killed_process_has_left(tmp_path: Path) -> None:
    clock, folder = Clock(), tmp_path / "in_progress"
    for row in (2, 6):
        rows = kept(folder, clock)
        rows.begin(lambda: KEY, more=True)
        clock.now += 2.0
        rows.add(row, record(row))
        with (folder / "rank-000000.bin").open("ab") as file:
            file.write(encode(KEY, 9, record(9))[:-3])  # the next one was cut short
    assert found(folder) == [2, 6]
    rows = kept(folder, clock)
    rows.begin(lambda: OTHER)
    assert not list(folder.iterdir())


@given(data=st.data())
def test_a_damaged_byte_loses_one_record_at_most(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    whole = b"".join(encode(KEY, row, record(row)) for row in range(6))
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[at] ^= data.draw(st.integers(1, 255))
    (folder / "rank-000000.bin").write_bytes(flipped)
    lost = at // (len(whole) // 6)
    assert found(folder) == [row for row in range(6) if row != lost]
    cut = data.draw(st.integers(0, len(whole)))
    (folder / "rank-000000.bin").write_bytes(whole[:cut])
    assert found(folder) == list(range(cut // (len(whole) // 6)))


def test_what_is_no_file_of_ours_is_passed_over(tmp_path: Path) -> None:
    good = encode(KEY, 1, record(1))
    (tmp_path / "rank-000000.bin").write_bytes(good)
    (tmp_path / "rank-000001.bin").mkdir()
    (tmp_path / "elsewhere").write_bytes(encode(KEY, 2, record(2)))
    (tmp_path / "rank-000002.bin").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "rank-000003.bin")
    (tmp_path / "rank-000004.bin").write_bytes(
        encode(KEY, 10, record(10)) + encode(KEY, 3, record(3)[:4])
    )
    with (tmp_path / "rank-000005.bin").open("wb") as file:
        file.truncate(2**40)
    assert found(tmp_path) == [1]


def test_an_entry_takes_no_more_than_a_hundredth_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, folder = Clock(), tmp_path / "in_progress"

    def slow(descriptor: int) -> None:
        clock.now += 0.2

    monkeypatch.setattr(os, "fsync", slow)
    rows = kept(folder, clock)
    rows.begin(lambda: KEY)
    written = []
    for row in range(100):
        clock.now += 1.0
        rows.add(row % 10, record(row % 10))
        written.append((folder / "rank-000000.bin").stat().st_size)
    assert len(set(written)) == 100 // 21 + 1


def test_a_full_disk_is_reported_once_and_costs_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    clock = Clock()
    rows = kept(tmp_path / "in_progress", clock, 0, warned)

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for _ in range(3):
        rows.begin(lambda: KEY)
        for row in range(3):
            clock.now += 2.0
            rows.add(row, record(row))
    assert len(warned) == 1
    assert "No space left on device" in warned[0]


def test_only_files_of_later_ranks_are_removed_if_asked(tmp_path: Path) -> None:
    for rank in (0, 1, 2):
        (tmp_path / f"rank-{rank:06d}.bin").write_bytes(b"")
    in_progress.remove(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "rank-000000.bin",
        "rank-000001.bin",
    ]
    in_progress.remove(tmp_path)
    assert not tmp_path.exists()


def test_rows_of_another_run_or_another_state_have_another_key() -> None:
    """Else what was kept of a generation would be taken for the next one's."""

    def state(generation: int, value: float) -> RunState:
        evolution = EvolutionState(generation, np.full(3, value, np.float32), {}, {"sigma": 0.1})
        return RunState(evolution, ObservationStatistics.empty(0))

    first = in_progress.key_of("a", state(1, 0.5))
    assert first == in_progress.key_of("a", state(1, 0.5))
    others = [("b", state(1, 0.5)), ("a", state(2, 0.5)), ("a", state(1, 0.6))]
    assert len({first, *(in_progress.key_of(*other) for other in others)}) == 4
