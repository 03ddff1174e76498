"""The ranks of a job as one object: all of them, those of this node, their memory, and the queue that they draw from.

It is made from a communicator alone, so after the loss of a rank a team of the survivors is ``Team(smaller)``.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator
from types import TracebackType

from esd.mpi.comm import Communicator, RankLostError
from esd.mpi.schedule import Schedule
from esd.mpi.shared import allocate


class Team:
    """Ranks that share the work of a run. Every rank has to make its team, and to enter and leave it.

    Args:
        ranks: all of them.

    Attributes:
        ranks: all of them.
        node: those of this machine. Before the ``with`` block: all of them, as if they were on one.
    """

    def __init__(self, ranks: Communicator) -> None:
        """Name the ranks; nothing is exchanged yet."""
        self.ranks = ranks
        self.node: Communicator = ranks
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Team:
        """Find the ranks of this node, and set up their queue."""
        self._gather_round()
        return self

    def _gather_round(self) -> None:
        with contextlib.ExitStack() as opened:
            self.node = opened.enter_context(self.ranks.node())
            self._schedule = Schedule(self.ranks, self.node)
            opened.callback(self._schedule.close)
            self._closing = opened.pop_all()

    def recover(self, loss: RankLostError) -> None:
        """Make the team anew from the ranks that are left: their numbers, nodes and queues; all of them have to call.

        Args:
            loss: that this rank was told of.

        Raises:
            RankLostError: if one more is lost meanwhile: call it again.
        """
        self.node.revoke()  # whoever waits there has to come here, too
        self._closing.__exit__(type(loss), loss, None)
        self._closing = contextlib.ExitStack()
        self.ranks.recover()
        self._gather_round()

    def rows(self, generation: int, rows: int) -> Iterator[int]:
        """Draw rows of a generation until those of the node are gone."""
        return self._schedule.rows(generation, rows)

    def memory(self, size: int, what: str) -> mmap.mmap:
        """Memory that all ranks of this node see, filled with zeros; every rank of it has to call.

        Args:
            size: in bytes.
            what: needs it, for messages.

        Raises:
            RunError: on all ranks of the node, if there is not enough.
        """
        return allocate(self.node, size, what)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Let go of the queue and of the node."""
        return self._closing.__exit__(kind, error, traceback)
