"""The ranks of a job as one object: all of them, those of this node, their memory, and the queue that they draw from.

It is made from a communicator alone, so after the loss of a rank a team of the survivors is ``Team(smaller)``.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator
from types import TracebackType

from esd.mpi import leftovers, segments, session_folders
from esd.mpi.comm import Communicator, RankLostError, gather
from esd.mpi.launch import report_to_supervisor
from esd.mpi.places import Places
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
        self._places: Places | None = None
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Team:
        """Find the ranks of this node, and set up their queue."""
        self.join()
        try:
            gather(self.ranks, 1, "meeting the ranks of all machines")
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        if self.ranks.rank == 0:
            report_to_supervisor("watched")  # from here on the others find a rank that is stopped
        if self.node.rank == 0:
            segments.sweep()
            session_folders.sweep()
        return self

    def join(self) -> None:
        """The same again with the ranks that are left, after ``leave`` and ``ranks.recover``; all have to call."""
        with contextlib.ExitStack() as opened:
            self.node = opened.enter_context(self.ranks.node())
            try:
                self._schedule = Schedule(self.ranks, self.node)
                places, before = Places(self.ranks, self.node), self._places
            except RankLostError:
                self.node.revoke()
                raise
            opened.callback(self._schedule.close)
            if self.node.rank == 0:
                leftovers.sweep()
            self.ranks.arrivals = self.node.arrivals = places.arrivals
            self._places = places
            if before is not None:
                before.close()
            self._closing = opened.pop_all()

    def leave(self, loss: RankLostError) -> None:
        """Let go of the node and its queue because a rank is lost; whoever waits there is told of it.

        Args:
            loss: that this rank was told of.
        """
        self.ranks.arrivals = self.node.arrivals = None  # but the ranks go on to look at each other
        self.node.revoke()
        self._closing.__exit__(type(loss), loss, None)
        self._closing = contextlib.ExitStack()

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
        self.ranks.arrivals = self.node.arrivals = None
        if isinstance(error, RankLostError):
            self.node.revoke()  # whoever waits there has to hear of it
        if self._places is not None:
            self._places.leave()
            self._places = None
        return self._closing.__exit__(kind, error, traceback)
