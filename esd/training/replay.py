"""The records that follow the checkpoint, from rank 0's disk to all ranks: one generation at a time, in pieces.

A journal may be larger than memory and than what MPI sends at once; before the checkpoint nobody needs it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from esd.evolution.records import Records
from esd.mpi.comm import Communicator, gather, sum_or_fail
from esd.run.journal import JournalContents
from esd.training.node_state import NodeState, UpdateFailedError

PIECE = 1 << 20  # bytes of one message
WHAT = "replaying the journal"


def catch_up(
    comm: Communicator, memory: NodeState, contents: JournalContents | None, variants: int
) -> None:
    """Go on to where the journal ends, on all ranks alike.

    Args:
        comm: all ranks.
        memory: of this node, with a state of the run; nodes may differ in its generation.
        contents: the journal; rank 0's alone.
        variants: on how many bodies each row was evaluated.

    Raises:
        JobFailedError: on all ranks, if any failed.
    """
    first = int(gather(comm, memory.state.generation, WHAT).min())
    entries = iter(()) if contents is None else contents.entries(first)
    error: Exception | None = None
    while True:
        records, head = None, np.zeros(4, np.uint64)
        if comm.rank == 0 and error is None:
            try:
                generation, records = next(entries, (0, None))
                if records is not None:
                    head[:] = (generation, records.members, *records.table.shape)
            except Exception as caught:
                error = caught
        sum_or_fail(comm, head, error, WHAT)  # also ends here if the last update failed
        generation, members, rows, width = (int(number) for number in head)
        if not rows:
            return
        table = np.empty((rows, width), np.uint64) if records is None else records.table
        for piece in _pieces(table):
            _broadcast(comm, piece)
        try:
            if generation >= memory.state.generation:
                memory.advance(Records.of_table(table, members, variants))
        except UpdateFailedError as failure:
            error = failure.reason


def _pieces(table: np.ndarray) -> Iterator[np.ndarray]:
    """A table in pieces that can be written to."""
    flat = table.reshape(-1)
    for start in range(0, flat.size, PIECE // 8):
        yield flat[start : start + PIECE // 8]


def _broadcast(comm: Communicator, piece: np.ndarray) -> None:
    """Rank 0's piece, on every rank."""
    if comm.size > 1:
        sent = comm.broadcast(piece.tobytes() if comm.rank == 0 else b"", WHAT)
        if comm.rank:
            piece[:] = np.frombuffer(sent, np.uint64)
