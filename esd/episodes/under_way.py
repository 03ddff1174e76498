"""Members whose compiled episodes are under way at once: which episode each is in, and what its episodes gave."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from esd.config.settings import Config
from esd.episodes.compiled_episodes import CompiledSteps
from esd.episodes.environments import Environments, Outcome, outcome_of
from esd.episodes.evaluator import Task
from esd.episodes.slots import Slots

Float64s = npt.NDArray[np.float64]


def are_alike(compiled: Sequence[CompiledSteps]) -> bool:
    """Whether one kernel can make the steps of all: their actions and what they write are of one kind."""
    first = compiled[0]
    return all(
        one.shown.dtype == first.shown.dtype
        and [table.tolist() for table in one.tables] == [table.tolist() for table in first.tables]
        for one in compiled
    )


@dataclass
class _Member:
    """A member that is being played.

    Attributes:
        task: whose episodes these are.
        played: episodes so far.
        totals, counts: of returns and episodes on each variant.
        steps, observations: so far.
        before: the sums of observations at the beginning of the episode.
    """

    task: Task
    totals: list[float]
    counts: list[int]
    played: int = 0
    steps: int = 0
    observations: int = 0
    before: Float64s = field(default_factory=lambda: np.empty(0))


class UnderWay:
    """Members, each in a slot.

    Attributes:
        slots: the memory of their episodes.
        members: who is in which slot.
    """

    def __init__(
        self,
        config: Config,
        environments: Environments,
        compiled: Callable[[int], Sequence[CompiledSteps]],
        slots: int,
    ) -> None:
        """Nobody is playing.

        Args:
            config: of the run.
            environments: say how long episodes may be, and how observations are scaled.
            compiled: gives the environments of a slot, by variant.
            slots: how many members at once.
        """
        self._config, self._environments, self._compiled = config, environments, compiled
        size = environments.interface.observation_size
        self.slots = Slots(slots, list(compiled(0)), size)
        self.members: dict[int, _Member] = {}

    def take(self, slot: int, task: Task) -> None:
        """Give a slot to a member."""
        variants = len(self._environments.variants)
        self.members[slot] = _Member(task, [0.0] * variants, [0] * variants)
        self.slots.sums[slot] = 0.0

    def next_episode(self, slot: int) -> int:
        """The number of the episode that a slot's member is in, or begins next."""
        return self.members[slot].played

    def begin(self, slot: int, limit: int | None) -> None:
        """Begin a slot's next episode, of at most ``limit`` steps if given."""
        one = self.members[slot]
        seeds = one.task.seeds[one.played]
        compiled = self._compiled(slot)[seeds.variant]
        steps = self._environments.step_limit(seeds.variant)
        self.slots.begin(
            slot,
            compiled,
            seeds.environment,
            (
                min(steps, limit or steps),
                self._config.env.stop_after_negative,
                self._config.format > 1,
                compiled.double and self._environments.scale is not None,
            ),
        )
        one.before = self.slots.sums[slot].copy()

    def ended(self) -> list[int]:
        """Slots whose episodes have ended, but whose members have not been told."""
        return [slot for slot in self.members if not self.slots.playing[slot]]

    def end_episode(self, slot: int) -> bool:
        """Count an episode that has ended; whether its member has another one to play."""
        one = self.members[slot]
        variant = one.task.seeds[one.played].variant
        total, steps = float(self.slots.totals[slot]), int(self.slots.steps[slot])
        one.totals[variant] += total
        one.counts[variant] += 1
        one.steps += steps
        one.played += 1
        if math.isfinite(total):
            one.observations += steps
        else:
            self.slots.sums[slot] = one.before
        return one.played < len(one.task.seeds)

    def remove(self, slot: int) -> tuple[Task, Outcome, Float64s | None]:
        """Empty a slot: whose it was, and what its episodes gave, as ``Environments.play`` and ``observed`` have it."""
        one = self.members.pop(slot)
        outcome = outcome_of(one.task.seeds, one.totals, one.counts, one.steps, one.observations)
        if not self._config.env.normalize_observations:
            return one.task, outcome, None
        sums = np.concatenate([[float(one.observations)], *self.slots.sums[slot]])
        return one.task, outcome, sums
