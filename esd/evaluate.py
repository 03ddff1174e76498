"""Evaluation of a state on the test stream: episodes that training and selection never see."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esd.config import Config
from esd.errors import UsageError
from esd.mpi.comm import Communicator, agreement
from esd.mpi.schedule import Schedule
from esd.noise import Purpose
from esd.records import Records
from esd.rollout import EpisodeSeeds, Rollout
from esd.state import RunState

# 97.5 % quantile of Student's t for 1, 2, … degrees of freedom; beyond, the normal's by Cornish–Fisher to 3 digits
_T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Evaluation:
    """Returns of one state over test episodes.

    Attributes:
        returns: float64 [episodes], in episode order.
        steps: environment steps of all of them.
    """

    returns: npt.NDArray[np.float64]
    steps: int

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def std(self) -> float:
        """Standard deviation over episodes (n − 1); NaN for one episode."""
        return float(self.returns.std(ddof=1)) if self.returns.size > 1 else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean over episodes of this one run: episode noise, not the spread over runs."""
        n = self.returns.size
        half = _t_quantile(n - 1) * self.std / math.sqrt(n) if n > 1 else math.nan
        return self.mean - half, self.mean + half


def _t_quantile(degrees: int) -> float:
    if degrees <= len(_T_QUANTILES):
        return _T_QUANTILES[degrees - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def evaluate(
    comm: Communicator, config: Config, state: RunState, episodes: int, seed: int
) -> Evaluation:
    """Play test episodes with the center h; observation statistics are frozen.

    Args:
        comm: the ranks that share the episodes.
        config: of the run; its environment may have been changed.
        state: what to evaluate.
        episodes: how many.
        seed: of the test stream.

    Returns:
        The same on every rank.

    Raises:
        JobFailedError: on all ranks, if any failed.
    """
    with comm.node() as node:
        schedule = Schedule(comm, node)
    with agreement(comm, "evaluating"):
        rollout = Rollout(config)
        size = rollout.policy.layout.size
        if size != state.h.size:
            raise UsageError(
                f"env.id = {config.env.id!r}: its policy has {size} coordinates, the run's h has {state.h.size}: "
                "observations or actions are of another size"
            )
        rollout.use_statistics(state.observations)
        variants = range(len(rollout.variants))
        records = Records(0, episodes, 0, len(variants))
        for row in schedule.rows(0, episodes):
            outcome = rollout.evaluate(
                state.h,
                [EpisodeSeeds.named(seed, Purpose.TEST_EPISODE, 0, 0, row, v) for v in variants],
            )
            records.write(
                row,
                returns=outcome.returns,
                steps=outcome.steps,
                episodes=outcome.episodes,
                status=outcome.status,
            )
        rollout.close()
    schedule.close()
    comm.sum(records.table.reshape(-1), "the exchange of test episodes")
    return Evaluation(records.center_returns.mean(axis=1), records.steps)
