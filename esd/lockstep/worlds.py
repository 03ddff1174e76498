"""The environments of all slots, stepped together: by their compiled steps in one call, or one after the other.

They stay on the CPU. Gymnasium's vector environments reset and seed theirs by index, ours are seeded by (generation,
member, episode) (law 1), and a slot is refilled as soon as its row is done.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from esd.episodes.checked import too_long
from esd.episodes.compiled_episodes import CompiledSteps
from esd.episodes.environments import Environments, Episodes, Outcome
from esd.episodes.evaluator import OF_ONE_MEMBER, Task, blaming, failed
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.episodes.slots import UNSCALED
from esd.episodes.under_way import UnderWay, are_alike
from esd.errors import EsdError
from esd.evolution.state import RunState
from esd.time_limit import TimeLimitError, ended_after, time_limit

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

Reset = Callable[[int, int], None]  # a slot's network, by the seed of an episode
Ended = tuple[Task, Outcome, Float64s | None]


class Worlds(Protocol):
    """What slots play in.

    Attributes:
        observations: of all slots, float32 [slots, observation_size]; those of idle slots mean nothing.
    """

    observations: Float32s

    def start(self, state: RunState) -> None:
        """Forget who was playing, and freeze the observation statistics of a state."""

    def playing(self) -> set[int]:
        """The slots that have a row to play."""

    def begin(self, state: RunState, slot: int, task: Task, limit: int | None) -> Iterator[Ended]:
        """Give a row to a slot; yields what it gave if it is over at once."""

    def step(self, state: RunState, outputs: Float32s) -> Iterator[Ended]:
        """Go on with the outputs of all slots' networks; yields the rows that are over."""

    def close(self) -> None:
        """Close the environments."""


def worlds_of(rollout: Rollout, slots: int, reset: Reset) -> Worlds:
    """What slots play in: compiled if all variants are, and if one call can make the steps of all."""
    compiled = rollout.environments.all_steps()
    if compiled is not None and are_alike(compiled):
        return CompiledWorlds(rollout, slots, reset, all(one.has_lanes for one in compiled))
    return PythonWorlds(rollout, slots, reset)


def _environments(rollout: Rollout) -> Environments:
    """New ones; what they print when they are made, the rollout's have printed."""
    config = rollout.config
    with _unheard():
        environments = Environments(config.env, config.format)
    environments.outputs_are_squashed(rollout.policy.squashed)
    return environments


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Drop what is written to stderr meanwhile, by C as well."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


class CompiledWorlds:
    """Compiled environments, all of whose steps are one call."""

    def __init__(self, rollout: Rollout, slots: int, reset: Reset, shared: bool) -> None:
        """Make the first environments.

        Args:
            rollout: whose environments are compiled.
            slots: how many members at once.
            reset: of a slot's network.
            shared: all slots may play in the same environments, each in memory of its own.
        """
        self._rollout, self._reset, self._shared = rollout, reset, shared
        self._limit: int | None = None
        self._environments: dict[int, Environments] = {}  # a slot's is made when it is first needed
        self._steps: dict[int, list[CompiledSteps]] = {}
        self._first = self._steps_of(0)[0]
        self._under_way = UnderWay(
            rollout.config, self._environments[0], lambda slot: self._steps_of(slot), slots
        )
        self._slots = self._under_way.slots
        self.observations = self._slots.observations

    def _steps_of(self, slot: int) -> list[CompiledSteps]:
        """By variant."""
        slot = 0 if self._shared else slot
        if slot not in self._steps:
            self._environments[slot] = environments = _environments(self._rollout)
            environments.compile_steps()
            steps = environments.all_steps()
            assert steps is not None  # they are what the rollout's are
            self._steps[slot] = steps
        return self._steps[slot]

    def start(self, state: RunState) -> None:
        """See ``Worlds.start``."""
        self._environments[0].use_statistics(state.observations)
        self._under_way.members.clear()
        self._slots.playing[...] = 0

    def playing(self) -> set[int]:
        """See ``Worlds.playing``."""
        return set(self._under_way.members)

    def begin(self, state: RunState, slot: int, task: Task, limit: int | None) -> Iterator[Ended]:
        """See ``Worlds.begin``."""
        self._limit = limit
        self._under_way.take(slot, task)
        yield from self._begin(state, slot)

    def _begin(self, state: RunState, slot: int) -> Iterator[Ended]:
        """Begin the next of a slot's episodes that a network sees anything of; yields the row if there is none."""
        task, more = self._under_way.members[slot].task, True
        while more:
            outcome: Outcome | None = None
            with blaming(state, task):
                try:
                    seeds = self._under_way.begin(slot, self._limit)
                    self._reset(slot, seeds.policy)
                except OF_ONE_MEMBER as error:
                    outcome = failed(error, self._rollout.config.env, self._environments[0])
                else:
                    if self._slots.look(slot, self._scale):
                        return
            if outcome is not None:
                del self._under_way.members[slot]
                yield task, outcome, None
                return
            more = self._under_way.end_episode(slot)
        yield self._under_way.remove(slot)

    def step(self, state: RunState, outputs: Float32s) -> Iterator[Ended]:
        """See ``Worlds.step``."""
        with ended_after(None if self._limit else self._rollout.config.env.episode_seconds):
            ended = self._slots.step(self._first, self._scale, outputs)
        if not ended:
            return
        for slot in self._under_way.ended():
            if self._under_way.end_episode(slot):
                yield from self._begin(state, slot)
            else:
                yield self._under_way.remove(slot)

    @property
    def _scale(self) -> tuple[Float64s, Float64s]:
        return self._environments[0].scale or UNSCALED

    def close(self) -> None:
        """See ``Worlds.close``."""
        for environments in self._environments.values():
            environments.close()


@dataclass
class _Running:
    """What a slot is playing.

    Attributes:
        task: the row.
        episodes: its episodes.
        seconds: that an episode may take; None: it is not timed.
        took: those that the episode under way has taken so far.
    """

    task: Task
    episodes: Episodes
    seconds: float | None
    took: float = 0.0


class PythonWorlds:
    """Environments of any kind, one per slot, stepped in turn."""

    def __init__(self, rollout: Rollout, slots: int, reset: Reset) -> None:
        """Make none yet.

        Args:
            rollout: whose environments these are like.
            slots: how many members at once.
            reset: of a slot's network.
        """
        self._rollout, self._reset = rollout, reset
        self._environments: dict[int, Environments] = {}  # a slot's is made when it is first needed
        self._running: dict[int, _Running] = {}
        self.observations = np.zeros((slots, rollout.interface.observation_size), np.float32)

    def start(self, state: RunState) -> None:
        """See ``Worlds.start``."""
        self._running.clear()
        for environments in self._environments.values():
            environments.use_statistics(state.observations)

    def playing(self) -> set[int]:
        """See ``Worlds.playing``."""
        return set(self._running)

    def begin(self, state: RunState, slot: int, task: Task, limit: int | None) -> Iterator[Ended]:
        """See ``Worlds.begin``."""
        if slot not in self._environments:
            environments = _environments(self._rollout)
            environments.use_statistics(state.observations)
            self._environments[slot] = environments

        def begin(seeds: EpisodeSeeds) -> None:
            self._reset(slot, seeds.policy)

        episodes = self._environments[slot].play(task.seeds, begin, limit)
        seconds = self._rollout.config.env.episode_seconds
        # not at the start, when kernels may have to be compiled
        self._running[slot] = now = _Running(task, episodes, seconds if limit is None else None)
        with blaming(state, task):
            try:
                self.observations[slot] = self._go_on(slot, now, None)
            except StopIteration as end:  # its first observation was none that a network could see
                over = self._ended(slot, end.value)
            except OF_ONE_MEMBER as error:
                over = self._failed(slot, error)
            else:
                return
        yield over

    def step(self, state: RunState, outputs: Float32s) -> Iterator[Ended]:
        """See ``Worlds.step``."""
        for slot, now in list(self._running.items()):
            try:
                self.observations[slot] = self._go_on(slot, now, outputs[slot])
            except StopIteration as end:
                yield self._ended(slot, end.value)
            except OF_ONE_MEMBER as error:
                with blaming(state, now.task):
                    over = self._failed(slot, error)
                yield over
            except Exception as error:
                with blaming(state, now.task):
                    raise error from error.__cause__

    def _ended(self, slot: int, outcome: Outcome) -> Ended:
        """A slot's row is over."""
        task = self._running.pop(slot).task
        return task, outcome, self._environments[slot].observed(outcome)

    def _go_on(self, slot: int, now: _Running, outputs: Float32s | None) -> Float32s:
        """The next observation of a slot; None begins its episodes.

        Raises:
            StopIteration: if they are over.
            BrokenEnvironmentError: if the environment is, or an episode has taken longer than ``env.episode_seconds``.
        """
        answer = cast(Callable[[Float32s | None], Float32s], now.episodes.send)
        if now.seconds is None:
            return answer(outputs)
        config, environments = self._rollout.config.env, self._environments[slot]
        seconds, began = now.seconds, time.monotonic()
        try:
            with time_limit(max(0.001, seconds - now.took), "env.episode_seconds") as restart:

                def another() -> None:
                    nonlocal began
                    began, now.took = time.monotonic(), 0.0
                    restart(seconds)

                environments.begins = another
                return answer(outputs)
        except TimeLimitError:
            raise too_long(config) from None
        finally:
            now.took += time.monotonic() - began

    def _failed(self, slot: int, error: EsdError) -> Ended:
        """A slot's row has raised: it gave nothing, or ends the run."""
        outcome = failed(error, self._rollout.config.env, self._environments[slot])
        return self._running.pop(slot).task, outcome, None

    def close(self) -> None:
        """See ``Worlds.close``."""
        for environments in self._environments.values():
            environments.close()
