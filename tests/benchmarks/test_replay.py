"""The replay of the schedule is what it claims to be."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import replay
from benchmarks.lengths import load
from benchmarks.schedule import of_ideal

rows_of_lengths = st.lists(st.integers(1, 50), min_size=1, max_size=60).map(
    lambda lengths: np.array(lengths, np.float64)
)
ranks = st.integers(1, 12)


def clock(lengths: npt.NDArray[np.float64], ranks: int) -> float:
    """The same by a clock: at every tick, whoever has nothing left takes the next row. Whole lengths only."""
    waiting, left, now = [int(length) for length in lengths], [0] * ranks, 0
    while waiting or any(left):
        for rank in range(ranks):
            if not left[rank] and waiting:
                left[rank] = waiting.pop(0)
        left = [max(0, remaining - 1) for remaining in left]
        now += 1
    return float(now)


@given(rows_of_lengths, ranks)
def test_drawing_takes_as_long_as_by_the_clock(
    lengths: npt.NDArray[np.float64], ranks: int
) -> None:
    assert replay.drawn(lengths, ranks) == clock(lengths, ranks)


@given(rows_of_lengths, st.integers(1, 6), st.integers(1, 4))
def test_no_schedule_beats_the_bound_and_a_queue_is_a_row_off_the_ideal_at_most(
    lengths: npt.NDArray[np.float64], per_node: int, nodes: int
) -> None:
    size = per_node * nodes
    known = replay.longest_first(lengths)
    bound = replay.bound(lengths, size)
    assert replay.scheduled(lengths, size, nodes) >= bound
    assert replay.scheduled(lengths, size, nodes, known) >= bound
    assert replay.fixed(lengths, size) >= bound
    assert replay.drawn(lengths, size) <= replay.ideal(lengths, size) + lengths.max()


@given(st.integers(1, 50), ranks, st.integers(1, 5))
def test_equal_lengths_that_divide_evenly_leave_nobody_waiting(
    length: int, ranks: int, each: int
) -> None:
    lengths = np.full(ranks * each, float(length))
    for nodes in (1, ranks):
        assert replay.scheduled(lengths, ranks, nodes) == replay.ideal(lengths, ranks)
    assert replay.fixed(lengths, ranks) == replay.ideal(lengths, ranks)


@given(rows_of_lengths)
def test_one_rank_takes_as_long_as_all_rows(lengths: npt.NDArray[np.float64]) -> None:
    for time in (replay.scheduled(lengths, 1, 1), replay.fixed(lengths, 1)):
        assert time == lengths.sum() == replay.bound(lengths, 1)


@given(rows_of_lengths, ranks)
def test_nodes_of_one_rank_have_fixed_rows(lengths: npt.NDArray[np.float64], ranks: int) -> None:
    own = [lengths[rank::ranks].sum() for rank in range(ranks)]
    assert replay.scheduled(lengths, ranks, nodes=ranks) == max(own)


def test_a_ticket_costs_every_row_and_the_queue_is_held_by_one_at_a_time() -> None:
    lengths = np.array([10.0, 10.0, 10.0])
    assert replay.drawn(lengths, 1, ticket=1.0) == 33.0
    assert replay.drawn(lengths, 3, ticket=1.0) == 13.0  # the third waits for two tickets


def test_orders_keep_all_rows() -> None:
    rows = [1, 3, 5, 7]
    lengths = np.array([0.0, 4.0, 0.0, 9.0, 0.0, 4.0, 0.0, 1.0])
    assert replay.longest_first(lengths)(rows) == [3, 1, 5, 7]
    assert replay.last_first(5)(rows) == [5, 7, 1, 3]


def test_ranks_that_do_not_fill_the_nodes_evenly_are_refused() -> None:
    with pytest.raises(ValueError, match="10 ranks can't be spread evenly over 4 nodes"):
        replay.nodes_of(10, 4)


def test_64_ranks_work_for_95_percent_of_the_recorded_runs_with_1024_members() -> None:
    """The untrained Ant is the exception: it falls at once or lives for 1,000 steps, and nothing foretells which."""
    shares = {
        world.name: of_ideal(world, 64, lambda lengths, _: replay.scheduled(lengths, 64, 1))
        for world in load()
    }
    assert shares.pop("Ant-v5") > 0.85
    assert len(shares) == 3
    assert min(shares.values()) >= 0.95
