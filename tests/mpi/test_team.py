"""The ranks of a job as one object, and what is left of it after some are gone."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from esd.mpi.comm import Ranks, gather
from esd.mpi.team import Team


@pytest.mark.mpi
def test_a_team_can_be_made_anew_from_fewer_ranks() -> None:
    """As the survivors of a lost rank do it: the same rows, memory and node among themselves."""
    world = MPI.COMM_WORLD
    last = world.rank == world.size - 1
    survivors = world.Split(int(last and world.size > 1))
    for comm in (world, survivors):
        with Team(Ranks(comm, deadline_seconds=60.0)) as team:
            assert team.ranks.size == comm.size
            numbers = np.frombuffer(team.memory(8 * 10, "ten numbers"), np.int64)
            for row in team.rows(0, 10):
                numbers[row] = row + 1
            gather(team.ranks, 0, "everybody is done")
            np.testing.assert_array_equal(numbers, np.arange(1, 11))
            gather(team.ranks, 0, "everybody has looked")
    survivors.Free()


@pytest.mark.mpi
def test_messages_of_others_do_not_meet_ours() -> None:
    """A program that uses MPI itself, beside a communicator of our own."""
    own = Ranks(MPI.COMM_WORLD.Dup(), deadline_seconds=60.0)
    mine = np.full(1, MPI.COMM_WORLD.rank + 1, np.uint64)
    theirs = np.zeros(1, np.uint64)
    request = MPI.COMM_WORLD.Iallreduce(mine.copy(), theirs, op=MPI.SUM)
    ours = np.ones(1, np.uint64)
    own.sum(ours, "test")
    request.Wait()
    size = MPI.COMM_WORLD.size
    assert (int(ours[0]), int(theirs[0])) == (size, size * (size + 1) // 2)
