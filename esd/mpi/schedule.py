"""Who evaluates whom. Any rank may take any row, since an evaluation is a pure function (law 1).

Between nodes rows are dealt out by rank count. Within a node ranks draw them from one queue, because episodes differ
in length: a rank that is done early takes the next row instead of waiting. The queue is one word of shared memory that
ranks count up in atomic steps. There is no helper process and no lock: a rank that dies or is stopped holds up nobody.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Container, Iterator
from typing import Protocol

import numpy as np

from esd import watch
from esd.kernels.tickets import take
from esd.mpi.comm import Communicator, gather
from esd.mpi.shared import open_together

WORD_BYTES = 8  # of the shared memory


def rows_of_node(rows: int, size: int, ranks: Container[int]) -> list[int]:
    """The rows dealt to the node that holds these of ``size`` ranks, in the order in which its ranks draw them."""
    return [row for row in range(rows) if row % size in ranks]


class Queue(Protocol):
    """Hands out the numbers 0, 1, 2, … of a generation, each to one caller."""

    def take(self, generation: int) -> int:
        """The next number of this generation."""

    def close(self) -> None:
        """Let go of it."""


class OwnQueue:
    """The queue of a process that shares it with nobody."""

    def __init__(self) -> None:
        """Nothing is taken yet."""
        self._generation, self._next = -1, 0

    def take(self, generation: int) -> int:
        """See ``Queue.take``."""
        if generation != self._generation:
            self._generation, self._next = generation, 0
        self._next += 1
        return self._next - 1

    def close(self) -> None:
        """Nothing to let go of."""


class SharedQueue:
    """The queue of a node's ranks.

    A ticket carries its generation: the first to ask in a new one starts it over. Nobody asks for an old one any more,
    since a generation ends with an exchange that all ranks reach only after their last ticket.

    Args:
        descriptor: of a file of at least ``WORD_BYTES`` zeros that all ranks of the node have opened.
    """

    def __init__(self, descriptor: int) -> None:
        """Map the file."""
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, WORD_BYTES)
        self._word = np.frombuffer(self._memory, np.uint64)

    def take(self, generation: int) -> int:
        """See ``Queue.take``."""
        return int(take(self._word, generation))

    def close(self) -> None:
        """Unmap and close; the memory is gone when the last rank has done so."""
        del self._word  # a mapping that an array shows can't be closed
        self._memory.close()
        with contextlib.suppress(OSError):  # a user's code may have done it
            os.close(self._descriptor)


class Schedule:
    """The rows that this rank evaluates, generation by generation.

    Args:
        comm: all ranks; every one of them has to make its schedule.
        node: those of this machine.
    """

    def __init__(self, comm: Communicator, node: Communicator) -> None:
        """Set up the node's queue; if its memory can't be had, every rank has fixed rows of its own."""
        self._size = comm.size
        self._queue: Queue = OwnQueue()
        self._ranks = {int(rank) for rank in gather(node, comm.rank, "naming the node's ranks")}
        if node.size > 1:
            descriptor = open_together(node, WORD_BYTES)
            if descriptor is not None:
                self._queue = SharedQueue(descriptor)
            else:
                self._ranks = {comm.rank}

    def rows(self, generation: int, rows: int) -> Iterator[int]:
        """Draw rows of a generation until those of the node are gone."""
        own = rows_of_node(rows, self._size, self._ranks)
        while (ticket := self._queue.take(generation)) < len(own):
            watch.at(generation, own[ticket])
            yield own[ticket]
        watch.at(generation, -1)

    def close(self) -> None:
        """Let go of the queue."""
        self._queue.close()
