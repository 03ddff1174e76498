"""What lets a program play whole episodes of an environment without Python: its physics as two C functions.

An environment that has them offers this as ``env.unwrapped.compiled``; ``docs/worlds.md`` says what they take and give.
Its own ``reset`` and ``step`` go through the same two functions, so both ways give the same bits.
"""

from __future__ import annotations

import copy
import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import Env

Float32s = npt.NDArray[np.float32]

_RESET = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, *[ctypes.c_void_p] * 3)
_STEP = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 5)


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
    """

    def __init__(
        self,
        reset: Any,
        step: Any,
        parameters: list[float],
        state_size: int,
        observation_size: int,
        action_size: int,
    ) -> None:
        """Prepare functions compiled by ``kernels.c_function``."""
        self.reset_address, self.step_address = reset.address, step.address
        self.parameters = np.array(parameters, np.float64)
        self.state = np.zeros(state_size)
        self._observation = np.zeros(observation_size, np.float32)
        self._action = np.zeros(action_size, np.float32)
        self._reward = np.zeros(1)
        self._bind()

    def _bind(self) -> None:
        """Make the functions callable, with the addresses of this object's own memory."""
        self._reset, self._step = _RESET(self.reset_address), _STEP(self.step_address)
        memory = (self.parameters, self.state, self._observation)
        self._reset_arguments = [array.ctypes.data for array in memory]
        self._step_arguments = [
            array.ctypes.data for array in (self._action, *memory, self._reward)
        ]

    def __deepcopy__(self, memo: dict[int, Any]) -> Compiled:
        """A copy with memory of its own: of a C function ctypes makes none, and the addresses are the original's."""
        copied = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(copied, name, value.copy())
        copied._bind()
        memo[id(self)] = copied
        return copied

    def reset(self, seed: int) -> Float32s:
        """Begin the episode of a 64-bit seed; its first observation."""
        self._reset(seed, *self._reset_arguments)
        return self._observation.copy()

    def step(self, action: Any) -> tuple[Float32s, float, bool]:
        """Make a step: observation, reward, and whether the episode has terminated."""
        self._action[:] = action
        over = self._step(*self._step_arguments)
        return self._observation.copy(), float(self._reward[0]), bool(over)
