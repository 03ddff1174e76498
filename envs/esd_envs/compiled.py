"""What lets a program play whole episodes of an environment without Python: its physics as two C functions.

An environment that has them offers this as ``env.unwrapped.compiled``; ``docs/worlds.md`` says what they take and give.
Its own ``reset`` and ``step`` go through the same two functions, so both ways give the same bits.
"""

from __future__ import annotations

import ctypes
import math
from operator import index
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import Env, spaces
from gymnasium.error import InvalidAction, ResetNeeded

Float32s = npt.NDArray[np.float32]

_RESET = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, *[ctypes.c_void_p] * 3)
_STEP = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 5)
_MOST = float(np.finfo(np.float32).max)


def episode_seed(env: Env[Any, Any], seed: int | None) -> int:
    """The seed given, or the next of the environment's own generator, as Gymnasium has it."""
    return int(env.np_random.integers(1 << 63)) if seed is None else seed


class Compiled:
    """The two functions and their memory.

    Attributes:
        reset_address: of the function that begins an episode.
        step_address: of the function that makes a step.
        parameters: float64, what both read: the same in all episodes.
        state: float64, what both may keep: an episode's own.
        begun: whether ``reset`` has been called.
    """

    def __init__(
        self,
        reset: Any,
        step: Any,
        parameters: list[float],
        state_size: int,
        observation_size: int,
        action_space: spaces.Space[Any],
    ) -> None:
        """Prepare functions compiled by ``kernels.c_function``; actions are Discrete or a Box of one number."""
        self._kernels, self._action_space, self.begun = (reset, step), action_space, False
        self.parameters = np.array(parameters, np.float64)
        self.state = np.zeros(state_size)
        self._observation = np.zeros(observation_size, np.float32)
        self._action = np.zeros(1, np.float32)
        self._reward = np.zeros(1)
        self._bind()

    def _bind(self) -> None:
        """Make the functions callable, with the addresses of this object's own memory."""
        space = self._action_space
        self._choices = range(0)
        if isinstance(space, spaces.Discrete):
            self._choices = range(int(space.start), int(space.start + space.n))
        self.reset_address, self.step_address = (kernel.address for kernel in self._kernels)
        self._reset, self._step = _RESET(self.reset_address), _STEP(self.step_address)
        memory = (self.parameters, self.state, self._observation)
        self._reset_arguments = [array.ctypes.data for array in memory]
        self._step_arguments = [
            array.ctypes.data for array in (self._action, *memory, self._reward)
        ]

    def __getstate__(self) -> dict[str, Any]:
        """All but addresses: a copy has memory of its own, and another process its own functions."""
        return {
            name: value
            for name, value in vars(self).items()
            if name not in ("_reset", "_step", "_reset_arguments", "_step_arguments")
            and not name.endswith("_address")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Find the functions and the memory again."""
        vars(self).update(state)
        self._bind()

    def reset(self, seed: int) -> Float32s:
        """Begin the episode of a 64-bit seed; its first observation."""
        self.begun = True
        self._reset(seed, *self._reset_arguments)
        return self._observation.copy()

    def step(self, action: Any) -> tuple[Float32s, float, bool]:
        """Make a step: observation, reward, and whether the episode has terminated.

        Raises:
            ResetNeeded: before the first reset.
            InvalidAction: if the action is not of the action space; numbers of a Box may be out of bounds.
        """
        if not self.begun:
            raise ResetNeeded("expected a call of reset() before the first step()")
        self._action[0] = self._number(action)
        over = self._step(*self._step_arguments)
        return self._observation.copy(), float(self._reward[0]), bool(over)

    def _number(self, action: Any) -> float:
        """An action as a number of float32."""
        try:
            if self._choices:
                choice = index(action)
                if choice in self._choices:
                    return choice
            else:
                vector = action if isinstance(action, np.ndarray) else np.asarray(action)
                number = float(vector.item()) if vector.shape == (1,) else math.nan
                if math.isfinite(number):
                    return min(max(number, -_MOST), _MOST)
        except (TypeError, ValueError, OverflowError):
            pass
        raise InvalidAction(f"action = {action!r}: expected one of {self._action_space}")
