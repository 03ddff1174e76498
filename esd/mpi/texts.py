"""Short texts of ranks, on all of them: names and versions, for messages (law 3: a few bytes for each rank)."""

from __future__ import annotations

import socket

import numpy as np

from esd.mpi.comm import Communicator

TEXT_BYTES = 64


def texts_of(comm: Communicator, text: str, what: str) -> list[str]:
    """The text of every rank, cut off after 64 bytes; every rank has to call.

    Args:
        comm: the ranks.
        text: of this one.
        what: for messages.
    """
    words = np.zeros((comm.size, TEXT_BYTES // 8), np.uint64)
    encoded = text.encode("utf-8", "replace")[:TEXT_BYTES].ljust(TEXT_BYTES, b"\0")
    words[comm.rank] = np.frombuffer(encoded, np.uint64)
    flat = words.reshape(-1)
    comm.sum(flat, what)
    return [
        row.tobytes().rstrip(b"\0").decode(errors="replace") for row in flat.reshape(words.shape)
    ]


def node_names(comm: Communicator) -> list[str]:
    """The name of every rank's machine, shortened; every rank has to call."""
    return texts_of(comm, socket.gethostname(), "naming the nodes")
