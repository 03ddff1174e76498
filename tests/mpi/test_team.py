"""The ranks of a job as one object, and what is left of it after some are gone."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from esd import watch
from esd.mpi.comm import Alone, Ranks, connect, gather
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
def test_esd_talks_on_a_communicator_of_its_own() -> None:
    """So that a program which uses MPI, too, can't take its messages."""
    comm = connect()
    if MPI.COMM_WORLD.size == 1:
        assert isinstance(comm, Alone)
    else:
        assert isinstance(comm, Ranks)
        same = MPI.Comm.Compare(comm._comm, MPI.COMM_WORLD)
        assert same == MPI.CONGRUENT  # the same ranks, but not the same communicator
        watch.stop()  # connect has started it
