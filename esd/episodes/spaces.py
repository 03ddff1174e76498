"""Gymnasium spaces ↔ flat vectors: observations in, actions out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from esd.errors import UsageError
from esd.kernels import actions

Float32s = npt.NDArray[np.float32]


def _is_made_of_numbers(space: spaces.Space[Any]) -> bool:
    """Whether a space is one that we flatten: Gymnasium flattens Text and OneOf as well, but not into numbers."""
    if isinstance(space, spaces.Dict):
        return all(map(_is_made_of_numbers, space.spaces.values()))
    if isinstance(space, spaces.Tuple):
        return all(map(_is_made_of_numbers, space.spaces))
    return isinstance(
        space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
    )


class ObservationFlattener:
    """Writes observations into one float32 buffer: Box as it is, everything else by Gymnasium's own ``flatten``.

    Attributes:
        space: the observations' space.
        size: numbers in an observation.
    """

    def __init__(self, space: spaces.Space[Any], name: str) -> None:
        """Prepare for one observation space.

        Raises:
            UsageError: naming a space that has no fixed flat size (Sequence, Graph) or isn't numbers (Text, OneOf).
        """
        self.space = space
        try:
            flat_space = spaces.flatten_space(space)
            self.size = int(spaces.flatdim(space))
        except (NotImplementedError, ValueError):
            flat_space = None
        if not isinstance(flat_space, spaces.Box) or not _is_made_of_numbers(space):
            raise UsageError(
                f"env.id = {name!r}: observation space {space} has no fixed flat size; "
                "supported: Box, Discrete, MultiDiscrete, MultiBinary and Dict or Tuple of these"
            )
        self.buffer = np.zeros(self.size, np.float32)
        self._is_vector = isinstance(space, spaces.Box) and len(space.shape) == 1
        self._is_box = isinstance(space, spaces.Box)

    def __call__(self, observation: Any) -> Float32s:
        """The observation as float32 [size], in a buffer that the next call overwrites."""
        if self._is_vector:
            self.buffer[:] = observation
        elif self._is_box:
            self.buffer[:] = np.ravel(observation)
        else:
            self.buffer[:] = cast(Float32s, spaces.flatten(self.space, observation))
        return self.buffer


class ActionDecoder:
    """Turns a policy's outputs into an action of the environment's space.

    Discrete: the largest logit. MultiDiscrete: the largest logit of each segment. Box: see ``actions.to_box``.

    Attributes:
        size: outputs that a policy has to have.
        bounded: the space is a Box with finite bounds everywhere.
        action_size: numbers in an action.
        squashed: outputs lie in [−1, 1] already.
        tables: what a compiled episode decodes by: sizes and first choices of the segments of a discrete action,
            int64 [segments], and bounds of a Box, float32 [size]; whichever the action is not has size 0.
    """

    def __init__(self, space: spaces.Space[Any], name: str) -> None:
        """Prepare for one action space.

        Raises:
            UsageError: naming an unsupported space.
        """
        self._space = space
        self.bounded = False
        segments, first = np.empty((2, 0), np.int64)
        low, high = np.empty((2, 0), np.float32)
        self._decode: Callable[[Float32s], Any]
        if isinstance(space, spaces.Discrete):
            self.size = int(space.n)
            self._first = int(space.start)
            segments, first = np.array([[self.size], [self._first]], np.int64)
            self._decode = self._discrete
        elif isinstance(space, spaces.MultiDiscrete):
            self._sizes = np.asarray(space.nvec, np.int64).reshape(-1)
            self._start = np.asarray(space.start, np.int64)
            self.size = int(self._sizes.sum())
            segments, first = self._sizes, self._start.reshape(-1)
            self._decode = self._multi_discrete
        elif isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
            low = self._low = np.ascontiguousarray(space.low, np.float32).reshape(-1)
            high = self._high = np.ascontiguousarray(space.high, np.float32).reshape(-1)
            self._plain = len(space.shape) == 1 and space.dtype == np.float32
            self.size = self._low.size
            self.bounded = bool(np.isfinite(self._low).all() and np.isfinite(self._high).all())
            self._decode = self._box
        else:
            raise UsageError(
                f"env.id = {name!r}: action space {space} is not supported; "
                "supported: Discrete, MultiDiscrete and Box of floats"
            )
        self.action_size = segments.size or low.size
        self.tables = segments, first, low, high
        self.squashed = False

    @property
    def described(self) -> str:
        """The space in a word, for messages: "Discrete(2)", "Box(6,)"."""
        kind = type(self._space).__name__
        if isinstance(self._space, spaces.Box):
            return f"{kind}{self._space.shape}"
        sizes = self.tables[0].tolist()
        return f"{kind}({sizes[0] if len(sizes) == 1 else sizes})"[:60]

    def outputs_are_squashed(self, squashed: bool) -> None:
        """Say whether the policy's outputs lie in [−1, 1] already."""
        self.squashed = squashed

    def __call__(self, outputs: Float32s) -> Any:
        """The action, or None if an output is NaN (or, for Box, infinite)."""
        return self._decode(outputs)

    def _discrete(self, outputs: Float32s) -> int | None:
        index = actions.argmax(outputs)
        return None if index < 0 else index + self._first

    def _multi_discrete(self, outputs: Float32s) -> npt.NDArray[Any] | None:
        chosen = np.empty(self._sizes.size, np.int64)
        if not actions.argmax_segments(outputs, self._sizes, chosen):
            return None
        return (chosen.reshape(self._start.shape) + self._start).astype(self._space.dtype)

    def _box(self, outputs: Float32s) -> npt.NDArray[Any] | None:
        out = np.empty(self.size, np.float32)  # new each time: an environment may keep it
        if not actions.to_box(outputs, self.squashed, self._low, self._high, out):
            return None
        return out if self._plain else out.reshape(self._space.shape).astype(self._space.dtype)
