"""Rows of the generation under way: kept as they are finished, and used again by a resume on any number of ranks."""

from __future__ import annotations

import contextlib

import numpy as np
import numpy.typing as npt

from esd.errors import warn
from esd.evolution.records import Records
from esd.evolution.state import RunState
from esd.mpi.team import Team
from esd.run import in_progress
from esd.run.folder import RunFolder
from esd.run.in_progress import KeptRows, key_of

Flags = npt.NDArray[np.bool_]


class FinishedRows:
    """What this rank has evaluated of a generation, and what others had before a resume.

    Args:
        team: all ranks.
        folder: of the run.
        identity: of its settings.
        resumes: rows may have been kept of the first generation.
    """

    def __init__(self, team: Team, folder: RunFolder, identity: str, resumes: bool) -> None:
        """Nothing is kept or read yet."""
        self._team, self._folder, self._identity = team, folder.in_progress, identity
        self._kept = KeptRows(self._folder, team.ranks.rank, warn)
        self._resumes, self._complete = resumes, False

    def begin(self, state: RunState, records: Records) -> Flags:
        """Begin a generation; every rank has to call.

        Args:
            state: that its rows are evaluated from.
            records: of the generation, empty; this rank's share of what was kept is put in, what follows is kept.

        Returns:
            Which rows are done, by whichever rank.
        """
        done = np.zeros(len(records.table), np.bool_)
        if self._resumes and not self._complete:
            done = self.use_kept(state, records, np.ones_like(done))
        self.keep(state, records)
        return done

    def keep(self, state: RunState, records: Records) -> None:
        """Keep what this rank evaluates from here on."""
        self._kept.begin(lambda: key_of(self._identity, state), more=not self._complete)
        records.written = self._kept.add

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

    def flush(self) -> None:
        """Keep what is finished, if it has taken long enough to be worth it: the other ranks may take hours."""
        self._kept.write()

    def generation_is_kept(self) -> None:
        """Say that the journal has the generation."""
        if not self._complete and self._team.ranks.rank == 0:  # of a call with more ranks
            in_progress.remove(self._folder, self._team.ranks.size)
        self._complete = True

    def end(self) -> None:
        """Rank 0: remove what is left, once all is in the journal."""
        if self._team.ranks.rank == 0 and self._complete:
            in_progress.remove(self._folder)

    def close(self) -> None:
        """Close this rank's file."""
        with contextlib.suppress(OSError):
            self._kept.close()
