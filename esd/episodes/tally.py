"""What the episodes of one task have given so far, where they are counted one by one."""

from __future__ import annotations

import math

from esd.episodes.environments import Outcome, outcome_of
from esd.episodes.evaluator import Task


class Tally:
    """Counts the episodes of a task.

    Attributes:
        task: whose they are.
        observations: how many are in the sums of observations.
    """

    def __init__(self, task: Task, variants: int) -> None:
        """Nothing was played yet."""
        self.task, self.observations = task, 0
        self._totals, self._counts, self._steps = [0.0] * variants, [0] * variants, 0

    def count(self, variant: int, total: float, steps: int) -> None:
        """Count an episode on a variant, with its return and its steps."""
        self._totals[variant] += total
        self._counts[variant] += 1
        self._steps += steps
        if math.isfinite(total):
            self.observations += steps

    def outcome(self) -> Outcome:
        """What they gave, as ``Environments.play`` has it."""
        return outcome_of(
            self.task.seeds, self._totals, self._counts, self._steps, self.observations
        )
