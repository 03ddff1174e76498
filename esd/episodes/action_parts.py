"""From a policy's outputs to an action of a space, part by part: what ``spaces.ActionDecoder`` is made of.

Each part takes its own outputs, in the order in which Gymnasium flattens the space, and gives None if one of them is
NaN (or, for Box, infinite).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from esd.kernels import actions

Float32s = npt.NDArray[np.float32]
Tables = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Float32s, Float32s]

EXACT_INTEGERS = 1 << 24  # float32 holds all integers up to this
LARGEST = float(np.finfo(np.float32).max)


class Unsupported(Exception):  # noqa: N818  # the caller says it in an error of its own
    """A space that no part is for; its text says why."""


class Part(Protocol):
    """One space's share of the outputs.

    Attributes:
        size: outputs that it takes.
        bounded: every output is a number between finite bounds.
        squashed: outputs lie in [−1, 1] already.
        tables: see ``ActionDecoder``; None where a compiled episode can't decode such an action.
    """

    size: int
    bounded: bool
    tables: Tables | None

    @property
    def squashed(self) -> bool:
        """Whether outputs lie in [−1, 1] already."""

    @squashed.setter
    def squashed(self, squashed: bool) -> None: ...

    def decode(self, outputs: Float32s) -> Any:
        """The action that outputs, float32 [size], stand for."""


def part_of(space: spaces.Space[Any]) -> Part:
    """The part for a space.

    Raises:
        Unsupported: if there is none.
    """
    if isinstance(space, spaces.Discrete):
        return Discrete(space)
    if isinstance(space, spaces.MultiDiscrete):
        return MultiDiscrete(space)
    if isinstance(space, spaces.MultiBinary):
        return MultiBinary(space)
    if isinstance(space, spaces.Box):
        return IntegerBox(space) if space.dtype.kind in "iub" else Box(space)
    if isinstance(space, spaces.Dict):
        return Several(space.spaces.values(), tuple(space.spaces))
    if isinstance(space, spaces.Tuple):
        return Several(space.spaces, None)
    raise Unsupported("no such action is supported")


class Discrete:
    """The largest of n logits."""

    bounded = squashed = False

    def __init__(self, space: spaces.Discrete[Any]) -> None:
        """Prepare."""
        self.size, self._first = int(space.n), int(space.start)
        none = np.empty(0, np.float32)
        sizes, first = np.array([[self.size], [self._first]], np.int64)
        self.tables: Tables | None = sizes, first, none, none

    def decode(self, outputs: Float32s) -> int | None:
        """See ``Part``."""
        index: int = actions.argmax(outputs)
        return None if index < 0 else index + self._first


class MultiDiscrete:
    """The largest logit of each segment."""

    bounded = squashed = False

    def __init__(self, space: spaces.MultiDiscrete[Any]) -> None:
        """Prepare."""
        self._dtype = space.dtype
        self._sizes = np.asarray(space.nvec, np.int64).reshape(-1)
        self._start = np.asarray(space.start, np.int64)
        self.size = int(self._sizes.sum())
        none = np.empty(0, np.float32)
        self.tables: Tables | None = self._sizes, self._start.reshape(-1), none, none

    def decode(self, outputs: Float32s) -> npt.NDArray[Any] | None:
        """See ``Part``."""
        chosen = np.empty(self._sizes.size, np.int64)
        if not actions.argmax_segments(outputs, self._sizes, chosen):
            return None
        return (chosen.reshape(self._start.shape) + self._start).astype(self._dtype)


class MultiBinary:
    """1 for each output above 0."""

    bounded = squashed = False
    tables: Tables | None = None

    def __init__(self, space: spaces.MultiBinary) -> None:
        """Prepare."""
        self._shape, self._dtype = tuple(space.shape or ()), space.dtype
        self.size = int(np.prod(self._shape, dtype=np.int64))

    def decode(self, outputs: Float32s) -> npt.NDArray[Any] | None:
        """See ``Part``."""
        if np.isnan(outputs).any():
            return None
        return (outputs > 0.0).astype(self._dtype).reshape(self._shape)


class Box:
    """See ``actions.to_box``.

    Attributes:
        low: lower bounds, float32 [size].
        high: upper bounds, the same.
        own_ends: see ``own_ends``.
    """

    squashed = False

    def __init__(self, space: spaces.Box[Any]) -> None:
        """Prepare."""
        if np.isnan(space.low).any() or np.isnan(space.high).any():
            raise Unsupported("its bounds are NaN")
        with np.errstate(over="ignore", invalid="ignore"):  # a bound beyond float32 is none
            self.low = np.ascontiguousarray(space.low, np.float32).reshape(-1)
            self.high = np.ascontiguousarray(space.high, np.float32).reshape(-1)
            finite = np.isfinite(self.low) & np.isfinite(self.high)
            too_wide = finite & ~np.isfinite(self.high - self.low)
        if too_wide.any():
            raise Unsupported(
                "its bounds are finite, but too far apart for float32: use Box(-np.inf, np.inf, …) for no bounds"
            )
        self._shape, self._dtype = space.shape, space.dtype
        self.plain = len(space.shape) == 1 and space.dtype == np.float32
        self.size, self.bounded = self.low.size, bool(finite.all())
        self.own_ends = own_ends(space)
        none = np.empty(0, np.int64)
        self.tables: Tables | None = None
        if self.own_ends is None:
            self.tables = none, none, self.low, self.high

    def decode(self, outputs: Float32s) -> npt.NDArray[Any] | None:
        """See ``Part``."""
        out = np.empty(self.size, np.float32)  # new each time: an environment may keep it
        if not actions.to_box(outputs, self.squashed, self.low, self.high, out):
            return None
        if self.plain:
            return out
        inside = out if self.own_ends is None else np.clip(out, *self.own_ends)
        return inside.reshape(self._shape).astype(self._dtype)


def own_ends(space: spaces.Box[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    """The least and the largest action, where what float32 makes of the bounds can lead to one outside of the space.

    0.7 in float64 is 0.69999999 in float32, and float16 holds no number above 65,504.

    Returns:
        Arrays [size] of the space's dtype or float32, whichever is wider; None where they are not needed.
    """
    if space.dtype.kind != "f":
        return None  # whole numbers are rounded
    limits, wide = np.finfo(space.dtype), np.promote_types(space.dtype, np.float32)
    low = np.maximum(space.low, limits.min).astype(wide).reshape(-1)
    high = np.minimum(space.high, limits.max).astype(wide).reshape(-1)
    # the least and the largest float32 that comes of them
    least = np.clip(space.low.astype(wide), -LARGEST, LARGEST).astype(np.float32).reshape(-1)
    most = np.clip(space.high.astype(wide), -LARGEST, LARGEST).astype(np.float32).reshape(-1)
    return None if (least >= low).all() and (most <= high).all() else (low, high)


class IntegerBox(Box):
    """A Box of integers: as one of floats, then rounded to the nearest integer, of halves to the even one."""

    def __init__(self, space: spaces.Box[Any]) -> None:
        """Prepare."""
        bounds = [abs(int(bound)) for ends in (space.low, space.high) for bound in ends.flat]
        if max(bounds, default=0) > EXACT_INTEGERS:
            raise Unsupported(
                f"a Box of integers needs bounds of at most ±{EXACT_INTEGERS:,}, which float32 can tell apart"
            )
        super().__init__(space)
        self.tables = None

    def decode(self, outputs: Float32s) -> npt.NDArray[Any] | None:
        """See ``Part``."""
        out = np.empty(self.size, np.float32)
        if not actions.to_box(outputs, self.squashed, self.low, self.high, out):
            return None
        return np.rint(out).reshape(self._shape).astype(self._dtype)


class Several:
    """A Dict or a Tuple: its parts one after the other."""

    tables: Tables | None = None

    def __init__(self, parts: Any, keys: Sequence[str] | None) -> None:
        """Prepare; ``keys`` are those of a Dict, None of a Tuple."""
        self._parts, self._keys = [part_of(part) for part in parts], keys
        ends = np.cumsum([0, *(part.size for part in self._parts)]).tolist()
        self._slices = [slice(*ends[i : i + 2]) for i in range(len(self._parts))]
        self.size = int(ends[-1])
        self.bounded = bool(self._parts) and all(part.bounded for part in self._parts)

    @property
    def squashed(self) -> bool:
        """See ``Part``."""
        return any(part.squashed for part in self._parts)

    @squashed.setter
    def squashed(self, squashed: bool) -> None:
        for part in self._parts:
            part.squashed = squashed

    def decode(self, outputs: Float32s) -> dict[str, Any] | tuple[Any, ...] | None:
        """See ``Part``."""
        chosen = []
        for part, its in zip(self._parts, self._slices, strict=True):
            action = part.decode(outputs[its])
            if action is None:
                return None
            chosen.append(action)
        return tuple(chosen) if self._keys is None else dict(zip(self._keys, chosen, strict=True))
