"""Memory of compiled episodes that are under way at once, and the call that makes a step of each."""

from __future__ import annotations

from collections.abc import Generator
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from esd.episodes.compiled_episodes import CompiledSteps
from esd.kernels import many_episodes

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Scale = tuple[Float64s, Float64s]

UNSCALED: Scale = (np.empty(0), np.empty(0))


class Slots:
    """One slot for each episode.

    Attributes:
        playing: whether a slot is, int64 [slots].
        steps: of its episode so far, int64 [slots].
        totals: rewards so far, float64 [slots]; NaN after an output or an observation that ends an episode.
        sums: of observations and of their squares, float64 [slots, 2, observation_size]; added to.
        observations: what networks see next, float32 [slots, observation_size].
        addresses, bounds, body, shown, action, reward, progress: see ``kernels.many_episodes``.
    """

    def __init__(self, slots: int, like: list[CompiledSteps], observation_size: int) -> None:
        """Allocate.

        Args:
            slots: how many.
            like: the environments that are going to be played in; their actions and observations are alike.
            observation_size: numbers in an observation.
        """
        self.addresses = np.zeros(slots, np.int64)
        self.bounds = np.zeros((slots, 4), np.int64)
        widths = [max(1, *(one.arrays[i].size for one in like)) for i in (0, 1)]
        self.body = np.zeros((slots, widths[0])), np.zeros((slots, widths[1]))
        self.shown: npt.NDArray[Any] = np.zeros((slots, observation_size), like[0].shown.dtype)
        self.action = np.zeros(like[0].decode.action_size, np.float32)
        self.reward = np.zeros(1)
        self.sums = np.zeros((slots, 2, observation_size))
        self.observations = np.zeros((slots, observation_size), np.float32)
        counts = np.zeros((3, slots), np.int64)
        self.progress = counts, np.zeros(slots)
        self.playing, self.steps, self.totals = counts[0], counts[1], self.progress[1]
        self._counts = counts

    def begin(
        self, slot: int, steps: CompiledSteps, seed: int, bounds: tuple[int, int, bool, bool]
    ) -> None:
        """Begin an episode.

        Args:
            slot: where.
            steps: of the environment; nothing else may be under way in it unless it ``has_lanes``.
            seed: of the environment.
            bounds: as of ``kernels.episode.play``.
        """
        parameters, state = (array[slot] for array in self.body)
        steps.begin_elsewhere(seed, parameters, state, self.shown[slot])
        self.addresses[slot] = steps.addresses[1]
        self.bounds[slot] = bounds
        self._counts[:, slot] = 1, 0, 0
        self.totals[slot] = 0.0

    def look(self, slot: int, scale: Scale) -> bool:
        """Write the first observation of an episode; False if there is none that a network could see."""
        return bool(
            many_episodes.first_look(
                slot, self.bounds, self.shown, scale, self.sums, self.observations, self.progress
            )
        )

    def step(self, steps: CompiledSteps, scale: Scale, outputs: Float32s) -> int:
        """Make a step of every slot that is playing.

        Args:
            steps: any of the environments.
            scale: mean and inverse deviation of observations; of size 0 without.
            outputs: of the networks, float32 [slots, n].

        Returns:
            How many episodes have ended.
        """
        ended: int = many_episodes.step(
            self.addresses,
            self.bounds,
            self.body,
            (self.shown, self.action, self.reward),
            steps.tables,
            steps.decode.squashed,
            scale,
            self.sums,
            outputs,
            self.observations,
            self.progress,
        )
        return ended


class SteppedEpisodes(CompiledSteps):
    """A compiled environment whose episodes are played one after the other, with outputs from Python."""

    def play(
        self, seed: int, bounds: tuple[int, int, bool], scale: Scale | None, sums: Float64s
    ) -> Generator[Float32s, Float32s, tuple[float, int]]:
        """Play one episode; yields observations, and wants outputs, as ``Environments.play`` does.

        Args:
            seed: of the environment.
            bounds: as of ``CompiledEpisodes.play``.
            scale: mean and inverse deviation of observations; None without.
            sums: of observations and of their squares, float64 [2, observation_size]; added to.

        Returns:
            Its return (NaN if an action or an observation was not finite) and its steps.
        """
        slots, outputs = self._slots, self._outputs
        slots.sums[0] = sums
        slots.begin(0, self, seed, (*bounds, self.double and scale is not None))
        scaling = scale or UNSCALED
        observation, goes_on = slots.observations[0], slots.look(0, scaling)
        while goes_on:
            outputs[0] = yield observation
            goes_on = not slots.step(self, scaling, outputs)
        sums[...] = slots.sums[0]
        return float(slots.totals[0]), int(slots.steps[0])

    def left_behind(self) -> bytes:
        """The last observation, action and reward of the last episode."""
        slots = self._slots
        last = (slots.shown, slots.observations, slots.action, slots.reward)
        return b"".join(array.tobytes() for array in last)

    @cached_property
    def _slots(self) -> Slots:
        return Slots(1, [self], self.observation_size)

    @cached_property
    def _outputs(self) -> Float32s:
        return np.zeros((1, self.decode.size), np.float32)
