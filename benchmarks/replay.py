"""What a generation takes when ranks draw rows of known lengths: the schedule, replayed event by event."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from esd.mpi.schedule import rows_of_node

Lengths = npt.NDArray[np.float64]
# rows dealt to a node → the same rows in the order in which they are drawn
Order = Callable[[list[int]], list[int]]


def nodes_of(size: int, nodes: int) -> list[range]:
    """The ranks of each node when every node holds a block of them, as mpirun places them by default.

    Raises:
        ValueError: if they can't be spread evenly.
    """
    if nodes < 1 or size % nodes:
        raise ValueError(f"{size} ranks can't be spread evenly over {nodes} nodes")
    each = size // nodes
    return [range(node * each, (node + 1) * each) for node in range(nodes)]


def drawn(lengths: Lengths, ranks: int, ticket: float = 0.0) -> float:
    """When the last of some ranks is done that draw rows of these lengths from one queue, in this order.

    Args:
        lengths: time per row.
        ranks: how many draw.
        ticket: time to take a number from the queue, which only one rank at a time can do.
    """
    done = [0.0] * ranks  # when each rank has finished what it has drawn so far; a heap
    queue_free = 0.0
    for length in lengths.tolist():
        queue_free = max(done[0], queue_free) + ticket
        heapq.heapreplace(done, queue_free + length)
    return max(done)


def scheduled(
    lengths: Lengths, size: int, nodes: int, order: Order | None = None, ticket: float = 0.0
) -> float:
    """The time of a generation under esd's schedule: rows are dealt to nodes, then drawn within each."""
    own = [rows_of_node(len(lengths), size, ranks) for ranks in nodes_of(size, nodes)]
    ordered = [order(rows) if order else rows for rows in own]
    return max(drawn(lengths[rows], size // nodes, ticket) for rows in ordered)


def fixed(lengths: Lengths, size: int) -> float:
    """The time when every rank has a block of rows of its own."""
    return max(float(block.sum()) for block in np.array_split(lengths, size))


def ideal(lengths: Lengths, size: int) -> float:
    """Σ lengths / ranks: nobody ever waits. Often impossible."""
    return float(lengths.sum()) / size


def bound(lengths: Lengths, size: int) -> float:
    """What no schedule can beat: the ideal, but no less than the longest row."""
    return max(ideal(lengths, size), float(lengths.max(initial=0.0)))


def longest_first(lengths: Lengths) -> Order:
    """By lengths that are known beforehand: of these rows (nobody has them), or of another generation's."""
    return lambda rows: sorted(rows, key=lambda row: -lengths[row])


def last_first(first_of_the_last: int) -> Order:
    """The episodes of the center, which stand after the members, before them."""
    return lambda rows: sorted(rows, key=lambda row: row < first_of_the_last)
