"""A wrapper that shows a policy what it did last and what it was paid: what it needs to find out about its body."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.error import InvalidAction
from gymnasium.utils import RecordConstructorArgs

from esd_envs.compiled_around import StepAround

Numbers = npt.NDArray[np.floating[Any]]


class LastActionAndReward(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Any environment with vectors of floats as observations: the last action and its reward stand behind them.

    An action of a Box is shown as its numbers, a choice as a one among zeros. Before the first step all are zero.
    Observations keep their type.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        """Find the new observation space.

        Raises:
            ValueError: if observations or actions are none that can be written one after the other.
        """
        RecordConstructorArgs.__init__(self)
        gymnasium.Wrapper.__init__(self, env)
        seen, done = env.observation_space, env.action_space
        if not (isinstance(seen, spaces.Box) and np.issubdtype(seen.dtype, np.floating)):
            raise ValueError(f"observation space {seen}: expected a Box of floats")
        bounds = [
            (np.ravel(space.low), np.ravel(space.high))
            for space in (seen, done)
            if isinstance(space, spaces.Box)
        ]
        self._table: list[
            tuple[int, int]
        ]  # of each number of an action: choices (0: none) and the first of them
        if isinstance(done, spaces.Box):
            self._table = [(0, 0)] * int(np.prod(done.shape))
        elif isinstance(done, spaces.Discrete):
            self._table = [(int(done.n), int(done.start))]
        elif isinstance(done, spaces.MultiDiscrete):
            choices, first = np.ravel(done.nvec).tolist(), np.ravel(done.start).tolist()
            self._table = list(zip(choices, first, strict=True))
        else:
            raise ValueError(f"action space {done}: expected Box, Discrete or MultiDiscrete")
        if not isinstance(done, spaces.Box):
            width = sum(choices for choices, _ in self._table)
            bounds.append((np.zeros(width), np.ones(width)))
        bounds.append((np.full(1, -np.inf), np.full(1, np.inf)))
        low, high = (np.concatenate(ends).astype(seen.dtype) for ends in zip(*bounds, strict=True))
        self.observation_space = spaces.Box(low, high, dtype=seen.dtype.type)
        self._shown = int(np.prod(seen.shape))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Numbers, dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._with_zeros(observation), info

    def step(self, action: Any) -> tuple[Numbers, Any, bool, bool, dict[str, Any]]:
        """Act, and show the action and the reward.

        Raises:
            InvalidAction: if the environment takes an action that is not of its space; a Box's may be out of bounds.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        seen = self._with_zeros(observation)
        at = self._shown
        numbers = np.ravel(action).tolist()
        if len(numbers) != len(self._table):
            raise InvalidAction(f"action = {action!r}: expected one of {self.env.action_space}")
        for number, (choices, first) in zip(numbers, self._table, strict=True):
            if choices:
                if number not in range(first, first + choices):
                    raise InvalidAction(
                        f"action = {action!r}: expected one of {self.env.action_space}"
                    )
                seen[at + int(number) - first] = 1.0
            else:
                seen[at] = number
            at += max(1, choices)
        seen[at] = reward
        return seen, reward, terminated, truncated, info

    def _with_zeros(self, observation: Any) -> Numbers:
        seen: Numbers = np.zeros(self.observation_space.shape or (), self.observation_space.dtype)
        seen[: self._shown] = np.ravel(observation)
        return seen

    def compiled_around(self, inside: Any) -> StepAround:
        """See ``compiled_around.GoesAround``."""
        from esd_envs.kernels import around

        wide = self.observation_space.dtype == np.float64
        observation = np.zeros(
            self.observation_space.shape or (), np.float64 if wide else np.float32
        )
        step = around.step_informed_wide if wide else around.step_informed
        made = StepAround(
            inside,
            step.address,
            self._table,
            observation,
            reset_address=0 if wide else around.reset_informed.address,
        )
        made.parameters[around.SHOWN] = self._shown
        return made
