"""Rows that ranks were evaluating when they were lost: how often, whether one is the reason, and what becomes of it.

A rank that was asked to end says nothing about its rows, and neither does one that was lost with several under way,
but those are evaluated one at a time from then on. So a row is judged only if it was alone.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esd.config.objective import STOP
from esd.config.settings import Config
from esd.errors import FinalError, warn
from esd.evolution.records import Records
from esd.evolution.state import RunState
from esd.mpi.comm import Uint64s, raise_if_any_failed
from esd.mpi.team import Team
from esd.run import in_flight, losses
from esd.run.folder import RunFolder
from esd.run.in_flight import Left
from esd.run.in_progress import key_of
from esd.run.losses import Event, Suspicion

Flags = npt.NDArray[np.bool_]

MOST_NAMED = 4  # rows in a message
WHAT = "naming what lost ranks were evaluating"


@dataclass(frozen=True)
class ToDo:
    """Rows of a generation that nobody has yet.

    Attributes:
        rows: those that ranks draw, in their order.
        suspects: those of them that are evaluated with no other one in the process; they come first.
        alone: those that rank 0 evaluates, before it draws, one at a time while no other rank evaluates a suspect.
    """

    rows: list[int]
    suspects: frozenset[int] = frozenset()
    alone: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """How many evaluations are left."""
        return len(self.rows) + len(self.alone)


class Suspects:
    """What all ranks know of lost ranks' rows.

    Args:
        team: all ranks.
        folder: of the run.
        identity: of its settings.
        config: of the run.
    """

    def __init__(self, team: Team, folder: RunFolder, identity: str, config: Config) -> None:
        """Nothing is known yet."""
        self._team, self._folder, self._identity = team, folder.in_progress, identity
        self._config = config
        self._key = b""  # of the state whose rows are held
        self._held: dict[int, Suspicion] = {}
        self._counted: set[int] = set()  # ranks of this job whose loss was counted

    def to_do(
        self, state: RunState, records: Records, missing: Flags, living: frozenset[int] | None
    ) -> ToDo:
        """Count what lost ranks had under way, and judge; every rank has to call.

        Args:
            state: that rows are evaluated from.
            records: of the generation; rank 0's gets the rows that are judged to rank last.
            missing: which rows nobody has.
            living: numbers in this job of the ranks that are left; None at its start, when all of the one before
                are gone.

        Raises:
            JobFailedError: on all ranks, if a row was judged and ``on_failure`` is to stop.
        """
        self._learn(state, missing, living)
        missing = missing & ~self._judged(state, records, missing)
        held = {row: self._held[row] for row in sorted(self._held) if missing[row]}
        unclear = tuple(row for row, one in held.items() if one.losses > 1 and not one.alone)
        alone = unclear if len(unclear) > 1 else ()
        suspects = frozenset(held) - {*alone}
        if held and self._team.ranks.rank == 0:
            warn(
                f"generation {state.generation}: processes were lost while they evaluated {_named(held, records)}; "
                "these are now evaluated alone, to find out whether one of them is the cause"
            )
        others = [row for row in np.flatnonzero(missing).tolist() if row not in held]
        return ToDo(sorted(suspects) + others, suspects, alone)

    def _learn(self, state: RunState, missing: Flags, living: frozenset[int] | None) -> None:
        """Bring what all ranks hold against rows up to date."""
        comm, rows = self._team.ranks, len(missing)
        found = self._left(state.generation, rows, living)
        owners, late = self._exchanged(found, rows)
        if comm.rank == 0:
            self._count(state, np.where(missing, owners, 0), late, living is not None)
        for left in found:  # before any rank may make a new file of that name
            with contextlib.suppress(OSError):
                left.path.unlink()
        table = np.zeros((4, rows), np.uint64)
        if comm.rank == 0:
            for row, one in self._held.items():
                if row < rows:
                    table[:, row] = one.losses, one.alone, one.time, one.judged
        comm.sum(table.reshape(-1), WHAT)
        self._held = {
            row: Suspicion(int(table[0, row]), int(table[1, row]), *map(bool, table[2:, row]))
            for row in np.flatnonzero(table[0]).tolist()
        }

    def _left(self, generation: int, rows: int, living: frozenset[int] | None) -> list[Left]:
        """What lost ranks have left that this node can see; on its first rank alone."""
        if self._team.node.rank or not self._folder.is_dir():
            return []
        found = in_flight.left(self._folder, self._identity, generation, rows)
        return [one for one in found if living is None or one.rank not in living]

    def _exchanged(self, found: list[Left], rows: int) -> tuple[Uint64s, Uint64s]:
        """By row, who was evaluating it, counted from 1, and whether it took too long: as rank 0 knows it, or others.

        Nodes may share a disk, or have one each.
        """
        comm = self._team.ranks
        own = np.zeros((3, rows), np.uint64)
        for one in found:
            if one.by_itself:
                for column, value in enumerate((one.rank + 1, 1, int(one.time))):
                    own[column, list(one.rows)] = value
        known = np.zeros((3, rows), np.uint64)
        for first in (True, False):
            message = own * (known[1] == 0) if (comm.rank == 0) == first else np.zeros_like(own)
            comm.sum(message.reshape(-1), WHAT)
            known += message * (message[1] == 1)
        return known[0], known[2]

    def _count(self, state: RunState, owners: Uint64s, late: Uint64s, each: bool) -> None:
        """Rank 0: add what has happened to what is held, and keep it.

        Args:
            state: that rows are evaluated from.
            owners: see ``_exchanged``; 0 of rows that are done.
            late: see there.
            each: every rank has died of its own; otherwise the whole job may have been killed.
        """
        key = key_of(self._identity, state)
        if key != self._key:
            self._key, self._counted = key, self._counted if each else set()
            self._held = losses.read(self._folder, key)
        ranks = {int(owner) for owner in owners[owners > 0]} - (self._counted if each else set())
        self._counted |= ranks if each else set()
        groups = [{rank} for rank in sorted(ranks)] if each else [ranks]
        events: list[tuple[int, Event]] = []
        for group in groups:
            under_way = np.flatnonzero(np.isin(owners, [*group])).tolist()
            most = max((self._losses(row) for row in under_way), default=0)
            blamed = [row for row in under_way if self._losses(row) == most]
            event = Event.LOST_ALONE if len(blamed) == 1 else Event.LOST
            if len(blamed) == 1 and late[blamed[0]] and self._limit is not None:
                event = Event.TOOK_TOO_LONG
            events += [(row, event) for row in blamed]
        self._hold(events)

    @property
    def _limit(self) -> float | None:
        """Of the wall time of a row's episodes or calls."""
        config = self._config
        return (
            config.objective.max_seconds if config.objective.named else config.env.episode_seconds
        )

    def _losses(self, row: int) -> int:
        return self._held.get(row, Suspicion()).losses

    def _hold(self, events: list[tuple[int, Event]]) -> None:
        """Rank 0: hold events against rows, here and on disk."""
        for row, event in events:
            self._held[row] = self._held.get(row, Suspicion()).after(event)
        if events:
            try:
                losses.append(self._folder, self._key, events)
            except OSError as error:
                warn(
                    f"{losses.path_of(self._folder)}: can't be written ({error.strerror}); a later start will not "
                    "know which evaluations were running when processes were lost"
                )

    def _judged(self, state: RunState, records: Records, missing: Flags) -> Flags:
        """Which rows have no result because they end their processes.

        Raises:
            JobFailedError: on all ranks, if there is one and ``on_failure`` is to stop.
        """
        comm = self._team.ranks
        stops = self._config.on_failure == STOP
        guilty = [
            row
            for row, one in sorted(self._held.items())
            if missing[row] and (one.holds or (one.judged and not stops))
        ]
        judged = np.zeros(len(missing), np.bool_)
        judged[guilty] = True
        texts = [
            f"generation {state.generation}, {_who(row, records)}: {self._why(row)}"
            for row in guilty
        ]
        if comm.rank == 0:
            self._hold(
                [(row, Event.JUDGED) for row in guilty if stops or not self._held[row].judged]
            )
        if guilty and stops:
            setting = "objective" if self._config.objective.named else "env"
            more = f" (and {len(guilty) - 1} more)" if len(guilty) > 1 else ""
            error = FinalError(
                f"{texts[0]}{more}. Fix the code that it runs and run the same command again, or let such members "
                f'rank last: --set {setting}.on_failure="worst"'
            )
            raise_if_any_failed(comm.rank, np.ones(comm.size, np.uint64), error)
        if comm.rank == 0:
            for row, text in zip(guilty, texts, strict=True):
                records.write_no_result(row)
                warn(f"{text}; it has no result and ranks last")
        return judged

    def _why(self, row: int) -> str:
        """What a row that was judged has done."""
        one, config = self._held[row], self._config
        if one.time:
            setting = "objective.max_seconds" if config.objective.named else "env.episode_seconds"
            limit = "" if self._limit is None else f" = {self._limit:g}"  # it was lifted meanwhile
            return f"it took longer than {setting}{limit}, and its process had to be ended"
        return (
            f"its evaluation has crashed the process {one.losses} times, the last time with no other evaluation "
            "running"
        )


def _named(held: dict[int, Suspicion], records: Records) -> str:
    """Rows with the number of their losses; at most some of them."""
    some = [f"{_who(row, records)} ({one.losses} of {losses.LOSSES})" for row, one in held.items()]
    more = len(some) - MOST_NAMED
    return ", ".join(some[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _who(row: int, records: Records) -> str:
    """Whose evaluation a row is."""
    if row < records.members:
        return f"member {row}"
    return f"the center (episode {row - records.members})"
