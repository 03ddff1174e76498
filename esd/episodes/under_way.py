"""Members whose compiled episodes are under way at once: which episode each is in, and what its episodes gave."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from esd.config.settings import Config
from esd.episodes.compiled_episodes import CompiledSteps
from esd.episodes.environments import Environments, Outcome
from esd.episodes.evaluator import Task
from esd.episodes.seeds import EpisodeSeeds
from esd.episodes.slots import Slots
from esd.episodes.tally import Tally

Float64s = npt.NDArray[np.float64]


def are_alike(compiled: Sequence[CompiledSteps]) -> bool:
    """Whether one kernel can make the steps of all: their actions and what they write are of one kind."""
    first = compiled[0]
    return all(
        one.shown.dtype == first.shown.dtype
        and [table.tolist() for table in one.tables] == [table.tolist() for table in first.tables]
        for one in compiled
    )


class _Member(Tally):
    """A member that is being played.

    Attributes:
        played: episodes so far.
        before: the sums of observations at the beginning of the episode.
    """

    played = 0
    before: Float64s


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
        self.members[slot] = _Member(task, len(self._environments.variants))
        self.slots.sums[slot] = 0.0

    def begin(self, slot: int, limit: int | None) -> EpisodeSeeds:
        """Begin a slot's next episode, of at most ``limit`` steps if given; returns its seeds."""
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
        return seeds

    def ended(self) -> list[int]:
        """Slots whose episodes have ended, but whose members have not been told."""
        return [slot for slot in self.members if not self.slots.playing[slot]]

    def end_episode(self, slot: int) -> bool:
        """Count an episode that has ended; whether its member has another one to play."""
        one = self.members[slot]
        variant = one.task.seeds[one.played].variant
        total = float(self.slots.totals[slot])
        one.count(variant, total, int(self.slots.steps[slot]))
        one.played += 1
        if not math.isfinite(total):
            self.slots.sums[slot] = one.before
        return one.played < len(one.task.seeds)

    def remove(self, slot: int) -> tuple[Task, Outcome, Float64s | None]:
        """Empty a slot: whose it was, and what its episodes gave, as ``Environments.play`` and ``observed`` have it."""
        one = self.members.pop(slot)
        if not self._config.env.normalize_observations:
            return one.task, one.outcome(), None
        sums = np.concatenate([[float(one.observations)], *self.slots.sums[slot]])
        return one.task, one.outcome(), sums
