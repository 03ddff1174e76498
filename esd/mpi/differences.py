"""What differs between ranks, in words that name their nodes; only a few short texts travel."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from esd.errors import shortened
from esd.mpi.comm import Communicator, gather
from esd.mpi.texts import node_names, texts_of

MOST_LISTED = 3  # things that differ, values of each, and nodes that have one
LONGEST = 500  # characters


def differs(comm: Communicator, text: str) -> bool:
    """Whether not all ranks have the same text; every rank has to call."""
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    numbers = gather(comm, number, "comparing what they have loaded")
    return bool((numbers != numbers[0]).any())


def differences(comm: Communicator, found: Mapping[str, str]) -> str:
    """Which of some values are not the same on all ranks, and on which nodes; empty if all are.

    Args:
        comm: the ranks; each has to call.
        found: values of this rank by name; all ranks have the same names, in the same order.
    """
    named = [name for name, value in found.items() if differs(comm, value)]
    if not named:
        return ""
    nodes = node_names(comm)
    told = [_told(comm, name, found[name], nodes) for name in named[:MOST_LISTED]]
    return shortened("; ".join(told), LONGEST)


def _told(comm: Communicator, name: str, own: str, nodes: list[str]) -> str:
    """Who has what, in the order of ranks."""
    where: dict[str, list[str]] = {}
    for node, value in zip(nodes, texts_of(comm, own, "naming what differs"), strict=True):
        having = where.setdefault(value, [])
        if node not in having:
            having.append(node)
    values = [
        f"{value or 'none'} on {', '.join(having[:MOST_LISTED])}"
        + (f" and {len(having) - MOST_LISTED} more" if len(having) > MOST_LISTED else "")
        for value, having in [*where.items()][:MOST_LISTED]
    ]
    return f"{name} is {' and '.join(values)}"
