"""Memory of a node: seen by all its ranks, without a name, and refused on all if one can't have it."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from esd.mpi import shared
from esd.mpi.comm import Communicator, agreement
from esd.mpi.shared import open_together


@pytest.mark.mpi
def test_all_ranks_see_what_each_has_written(node: Communicator) -> None:
    descriptor = open_together(node, 100_000)
    with agreement(node, "opening"):
        assert descriptor is not None
        memory = mmap.mmap(descriptor, 100_000)
        assert memory[:] == bytes(100_000)
    node.broadcast(b"", "all have looked")
    memory[node.rank] = node.rank + 1
    node.broadcast(b"", "all have written")
    with agreement(node, "comparing"):
        assert memory[: node.size] == bytes(range(1, node.size + 1))
        assert os.fstat(descriptor).st_size == 100_000
        os.close(descriptor)


@pytest.mark.mpi
def test_it_has_no_name_that_a_death_could_leave_behind(node: Communicator) -> None:
    descriptor = open_together(node, 10_000)
    with agreement(node, "looking"):
        assert descriptor is not None
        memory = mmap.mmap(descriptor, 10_000)
        assert os.fstat(descriptor).st_nlink == 0
        assert len(memory) == 10_000
        os.close(descriptor)


@pytest.mark.mpi
def test_memory_that_cannot_be_reserved_is_refused_on_all_ranks(
    node: Communicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    before = len(list(Path("/proc/self/fd").iterdir()))
    descriptor = open_together(node, 10_000)
    with agreement(node, "looking"):
        assert descriptor is None
        # fewer, if what an earlier test left was closed meanwhile
        assert len(list(Path("/proc/self/fd").iterdir())) <= before


@pytest.mark.mpi
def test_memory_that_one_rank_cannot_open_is_refused_on_all(
    node: Communicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    if node.rank == node.size - 1 and node.size > 1:
        monkeypatch.setattr(shared, "_open", lambda path: None)
    descriptor = open_together(node, 10_000)
    with agreement(node, "looking"):
        assert (descriptor is None) == (node.size > 1)
        if descriptor is not None:
            os.close(descriptor)


@pytest.mark.mpi
def test_ranks_that_cannot_look_into_each_others_proc_share_it_all_the_same(
    node: Communicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with one container, and so one user namespace, per rank."""
    paths = []

    def refuse(path: bytes) -> int | None:
        paths.append(path)
        return None if path.startswith(b"/proc/") else os.open(path, os.O_RDWR)

    monkeypatch.setattr(shared, "_open", refuse)
    descriptor = open_together(node, 10_000)
    node.broadcast(b"", "rank 0 has taken its name away")
    with agreement(node, "looking"):
        assert descriptor is not None
        assert os.fstat(descriptor).st_nlink == 0
        assert os.fstat(descriptor).st_size == 10_000
        assert all(not Path(os.fsdecode(path)).exists() for path in paths[1:])
        os.close(descriptor)
