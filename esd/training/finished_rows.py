"""Rows of the generation under way: kept as they are finished, and used again by a resume on any number of ranks."""

from __future__ import annotations

import contextlib

import numpy as np
import numpy.typing as npt

from esd.config.settings import Config
from esd.errors import warn
from esd.evolution.records import Records
from esd.evolution.state import RunState
from esd.mpi.comm import gather
from esd.mpi.team import Team
from esd.run import in_progress, losses
from esd.run.folder import RunFolder
from esd.run.in_flight import InFlight
from esd.run.in_progress import KeptRows, Uint64s, key_of
from esd.training.suspects import WHAT, Suspects, ToDo

Flags = npt.NDArray[np.bool_]


class FinishedRows:
    """What this rank has evaluated of a generation, and what others had before a resume.

    Args:
        team: all ranks.
        folder: of the run.
        identity: of its settings.
        config: of the run.
        resumes: rows may have been kept of the first generation.
    """

    def __init__(
        self, team: Team, folder: RunFolder, identity: str, config: Config, resumes: bool
    ) -> None:
        """Nothing is kept or read yet."""
        self._team, self._folder, self._identity = team, folder.in_progress, identity
        # this rank's number in the job, and their number: later ones change when ranks are lost
        self._rank, self._ranks = team.ranks.rank, team.ranks.size
        self._kept = KeptRows(self._folder, self._rank, warn)
        rows = config.population + max(1, config.run.center_episodes)
        self.in_flight = InFlight(self._folder, self._rank, rows, identity, warn)
        self._suspects = Suspects(team, folder, identity, config)
        self._resumes, self._complete, self._opened = resumes, False, False
        self._lost = False  # ranks have been

    def begin(self, state: RunState, records: Records) -> ToDo:
        """Begin a generation; every rank has to call.

        Args:
            state: that its rows are evaluated from.
            records: of the generation, empty; this rank's share of what was kept is put in, what follows is kept.

        Returns:
            The rows that nobody has.

        Raises:
            JobFailedError: on all ranks, if a row ends every process that evaluates it (see ``Suspects``).
        """
        to_do = ToDo(list(range(len(records.table))))
        self.keep(state, records)
        if self._resumes and not self._complete:
            missing = ~self.use_kept(state, records, np.ones(len(records.table), np.bool_))
            to_do = self._suspects.to_do(state, records, missing, None)
            self.flush(now=True)
        if not self._opened:
            self._opened = True
            self.in_flight.open()
        self.in_flight.begin(state.generation)
        return to_do

    def go_on(self, state: RunState, records: Records, missing: Flags, begun: bool) -> ToDo:
        """Go on with a generation when ranks were lost; every rank has to call.

        Args:
            state: that its rows are evaluated from.
            records: of the generation; this rank's share of what lost ranks have kept is put in.
            missing: the rows that no living rank has.
            begun: ``begin`` was called.

        Returns:
            The rows that nobody has.

        Raises:
            JobFailedError: see ``begin``.
        """
        if not begun:
            self.keep(state, records)
            self.in_flight.begin(state.generation)
        missing = missing & ~self.use_kept(state, records, missing)
        self._lost = True
        living = frozenset(gather(self._team.ranks, self._rank, WHAT).tolist())
        to_do = self._suspects.to_do(state, records, missing, living)
        self.flush(now=True)
        return to_do

    def keep(self, state: RunState, records: Records) -> None:
        """Keep what this rank evaluates from here on."""
        self._kept.begin(lambda: key_of(self._identity, state), more=not self._complete)
        records.written = self._written

    def _written(self, row: int, record: Uint64s) -> None:
        self._kept.add(row, record)
        self.in_flight.done(row)

    def use_kept(self, state: RunState, records: Records, wanted: Flags) -> Flags:
        """Put in what was kept of some rows: rank 0 what it can read, then each other node what only it can.

        Every rank has to call.

        Args:
            state: that they are evaluated from.
            records: this rank's share is put in.
            wanted: which rows nobody has.

        Returns:
            Which of them are done, by whichever rank.
        """
        comm, table = self._team.ranks, np.zeros_like(records.table)
        if self._team.node.rank == 0 and self._folder.is_dir():
            in_progress.read(self._folder, key_of(self._identity, state), table)
        found = table.any(axis=1) & wanted
        done = np.zeros(len(table), np.bool_)
        for first in (True, False):
            offered = (found & ~done if (comm.rank == 0) == first else np.zeros_like(done)).astype(
                np.uint64
            )
            counts = offered.copy()
            comm.sum(counts, "naming the rows that are done")
            own = (offered == 1) & (counts == 1)  # two nodes that share a disk would both give it
            records.table[own] = table[own]
            done |= counts == 1
        return done

    def flush(self, now: bool = False) -> None:
        """Keep what is finished, if it has taken long enough to be worth it, or ``now``: the others may take hours."""
        self._kept.write(now)

    def generation_is_kept(self) -> None:
        """Say that the journal has the generation."""
        if not self._complete and self._team.ranks.rank == 0:  # of a call with more ranks
            in_progress.remove(self._folder, self._ranks)
        if self._lost:
            self._lost = False
            with contextlib.suppress(OSError):
                losses.path_of(self._folder).unlink()
        self._complete = True

    def end(self) -> None:
        """Rank 0: remove what is left, once all is in the journal."""
        if self._team.ranks.rank == 0 and self._complete:
            in_progress.remove(self._folder)

    def close(self) -> None:
        """Close this rank's files."""
        with contextlib.suppress(OSError):
            self._kept.close()
        self.in_flight.close()
