"""What tests of trainings on all ranks share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from mpi4py import MPI

from esd.mpi.comm import Communicator, Ranks

# what starts processes of its own needs no other rank
collect_ignore = ["test_queue_alone.py"] if MPI.COMM_WORLD.size > 1 else []


@pytest.fixture
def world() -> Communicator:
    """All ranks that mpirun started; one is a real case."""
    return Ranks(MPI.COMM_WORLD, deadline_seconds=120.0)


@pytest.fixture
def node(world: Communicator) -> Iterator[Communicator]:
    """Those of this machine, which are all."""
    with world.node() as node:
        yield node


@pytest.fixture
def folder(world: Communicator) -> Iterator[Path]:
    """One empty folder, known to all ranks, removed when all are done with it."""
    with tempfile.TemporaryDirectory() as own:
        yield Path(world.broadcast(own.encode(), "naming the folder").decode())
        world.broadcast(b"done", "leaving the folder")
