"""A wrapper that plays the zero action: what a world gives to somebody who does nothing."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs


class ZeroAction(gymnasium.ActionWrapper[Any, Any, Any], RecordConstructorArgs):
    """Any environment, played with the zero action, whatever action is given.

    Zero is, of a Box, zeros clipped to its bounds; of Discrete and MultiDiscrete, the first action; of MultiBinary,
    zeros; of Dict and Tuple, the zero of each part.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        """Find the zero action.

        Raises:
            ValueError: if the action space has none.
        """
        RecordConstructorArgs.__init__(self)
        gymnasium.ActionWrapper.__init__(self, env)
        zero(env.action_space)

    def action(self, action: Any) -> Any:
        """The zero action, new each time, since an environment may keep it."""
        return zero(self.env.action_space)


def zero(space: spaces.Space[Any]) -> Any:
    """The zero action of a space.

    Raises:
        ValueError: if it has none.
    """
    if isinstance(space, spaces.Box):
        return np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)
    if isinstance(space, spaces.Discrete):
        return space.dtype.type(space.start)
    if isinstance(space, spaces.MultiDiscrete):
        return np.array(space.start, space.dtype)
    if isinstance(space, spaces.MultiBinary):
        return np.zeros(space.shape, space.dtype)
    if isinstance(space, spaces.Dict):
        return {key: zero(part) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(zero(part) for part in space.spaces)
    raise ValueError(
        f"action space {space} has no zero action; expected Box, Discrete, MultiDiscrete, MultiBinary, or Dict or "
        "Tuple of these"
    )
