"""The records of one generation: all that ranks exchange, and all that the journal keeps.

A table of uint64, one row per member and one per episode of the center. Floats are in it as their bits: each slot is
written by exactly one rank and zero elsewhere, so an integer sum over ranks moves every bit unchanged (a float sum
would turn −0.0 into +0.0 and depend on the order). The writers column of the same message proves it.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from esd.evolution.reduction import REDUCTIONS

Uint64s = npt.NDArray[np.uint64]
Float64s = npt.NDArray[np.float64]

PENALTY, STEPS, EPISODES, STATUS, WRITERS, RETURNS = range(6)


class Status(enum.IntEnum):
    """How an evaluation ended."""

    DONE = 0
    NOT_FINITE = 1  # a NaN or infinite return, action or observation
    # it raised, took too long, or ended its process again and again: what a clock or a dead process decided is only
    # here, so it is journaled, replayed, and never evaluated again
    NO_RESULT = 2


class Records:
    """One generation's table.

    Attributes:
        table: uint64 [members + center_episodes, width]; columns as named above, the last of them one per variant,
            then (with observation normalization) the count of observations, their sums and their squares.
        members: rows that are members; the others are center episodes.
        variants: on how many bodies each row was evaluated.
        failure: why the first row failed that this process has written, in words; it is not exchanged.
        written: is called with every row that ``write`` has filled, and its record; None: nobody is.
    """

    def __init__(
        self, members: int, center_episodes: int, observation_size: int, variants: int = 1
    ) -> None:
        """Make an empty table; ``observation_size`` is 0 without observation normalization."""
        width = RETURNS + variants + (1 + 2 * observation_size if observation_size else 0)
        self.members, self.variants = members, variants
        self.table: Uint64s = np.zeros((members + center_episodes, width), np.uint64)
        self.written: Callable[[int, Uint64s], None] | None = None
        self.failure = ""

    @classmethod
    def of_table(cls, table: Uint64s, members: int, variants: int = 1) -> Records:
        """Wrap a table that is already filled."""
        records = cls.__new__(cls)
        records.members, records.variants, records.table = members, variants, table
        records.written, records.failure = None, ""
        return records

    @property
    def center_episodes(self) -> int:
        """Rows that are episodes of the center."""
        return len(self.table) - self.members

    def write(
        self,
        row: int,
        *,
        returns: Sequence[float],
        steps: int,
        episodes: int,
        status: Status,
        penalty: float = 0.0,
        observations: Float64s | None = None,
    ) -> None:
        """Fill one row, ``returns`` with one mean return per variant; its writers count becomes 1."""
        record = self.table[row]
        floats = record.view(np.float64)
        floats[PENALTY], floats[RETURNS : RETURNS + self.variants] = penalty, returns
        record[STEPS:RETURNS] = steps, episodes, int(status), 1
        if observations is not None:
            floats[RETURNS + self.variants :] = observations
        if self.written is not None:
            self.written(row, record)

    def write_no_result(self, row: int) -> None:
        """Fill the row of an evaluation that gave nothing: it ranks last, whatever the shaping."""
        nothing = [math.nan] * self.variants
        self.write(row, returns=nothing, steps=0, episodes=0, status=Status.NO_RESULT)

    @property
    def all_written_once(self) -> bool:
        """Whether every slot was written by exactly one rank."""
        return bool((self.table[:, WRITERS] == 1).all())

    def _returns(self, rows: slice) -> Float64s:
        return self.table[rows, RETURNS : RETURNS + self.variants].copy().view(np.float64)

    def fitness(self, reduction: str) -> Float64s:
        """What is ranked: the members' returns less the penalty, reduced over variants, float64 [members].

        Args:
            reduction: a name in ``reduction.REDUCTIONS``.
        """
        penalties = self.table[: self.members, PENALTY].copy().view(np.float64)
        return REDUCTIONS[reduction](self.returns - penalties[:, None])

    @property
    def returns(self) -> Float64s:
        """The members' mean returns, float64 [members, variants]."""
        return self._returns(slice(self.members))

    @property
    def center_returns(self) -> Float64s:
        """Returns of the center's episodes, float64 [center_episodes, variants]."""
        return self._returns(slice(self.members, None))

    @property
    def steps(self) -> int:
        """Environment steps of all rows."""
        return int(self.table[:, STEPS].sum())

    @property
    def episodes(self) -> int:
        """Episodes of all rows."""
        return int(self.table[:, EPISODES].sum())

    @property
    def failed_members(self) -> int:
        """How many members have no fitness."""
        return int(np.count_nonzero(self.table[: self.members, STATUS] != int(Status.DONE)))

    def rows_with(self, status: Status) -> npt.NDArray[np.int64]:
        """The rows that ended so."""
        return np.flatnonzero(self.table[:, STATUS] == int(status))

    @property
    def observations(self) -> tuple[Float64s, Float64s, Float64s]:
        """Counts [members], sums and squares [members, observation_size] of what the members saw."""
        floats = self.table[: self.members, RETURNS + self.variants :].view(np.float64)
        size = (floats.shape[1] - 1) // 2
        return floats[:, 0], floats[:, 1 : 1 + size], floats[:, 1 + size :]
