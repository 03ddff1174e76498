"""Rows are drawn by all ranks of a node: each once, whatever dies and whoever is slow."""

from __future__ import annotations

import time

import numpy as np
import pytest

from esd.mpi import schedule as schedules
from esd.mpi.comm import Communicator, agreement, gather
from esd.mpi.schedule import OwnQueue, Schedule


def taken_by_all(world: Communicator, schedule: Schedule, generation: int, rows: int) -> np.ndarray:
    """How often each row was taken in a generation, by all ranks together."""
    counts = np.zeros(rows + 1, np.uint64)
    for row in schedule.rows(generation, rows):
        counts[row] += 1
    world.sum(counts, "test")
    return counts[:rows]


@pytest.mark.mpi
@pytest.mark.parametrize("rows", [0, 1, 3, 100])
def test_every_row_is_taken_once_in_every_generation(
    rows: int, world: Communicator, node: Communicator
) -> None:
    schedule = Schedule(world, node)
    for generation in (0, 1, 2, 7):
        np.testing.assert_array_equal(taken_by_all(world, schedule, generation, rows), 1)
    schedule.close()


@pytest.mark.mpi
def test_a_slow_rank_takes_fewer_rows(world: Communicator, node: Communicator) -> None:
    schedule = Schedule(world, node)
    taken = 0
    for _ in schedule.rows(0, 40):
        taken += 1
        time.sleep(0.2 if world.rank == 0 else 0.005)
    shares = gather(world, taken, "test")
    assert shares.sum() == 40
    with agreement(world, "comparing"):
        if world.size > 1:
            assert shares[0] < 40 / world.size
    schedule.close()


@pytest.mark.mpi
def test_without_shared_memory_every_rank_has_rows_of_its_own(
    world: Communicator, node: Communicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "open_together", lambda node, size: None)
    schedule = Schedule(world, node)
    assert isinstance(schedule._queue, OwnQueue)
    own = list(schedule.rows(0, 20))
    assert own == list(range(world.rank, 20, world.size))
    np.testing.assert_array_equal(taken_by_all(world, schedule, 1, 20), 1)
    schedule.close()
