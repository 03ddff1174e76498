"""Gymnasium spaces ↔ flat vectors: observations in, actions out."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from esd.config.settings import FORMAT
from esd.episodes import observations
from esd.episodes.action_parts import Box, Discrete, Part, Tables, Unsupported, part_of
from esd.episodes.checked import MisfitError, described, shortened
from esd.errors import UsageError
from esd.kernels import actions

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

NUMBERS = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
SUPPORTED = "supported: Box, Discrete, MultiDiscrete, MultiBinary, and Dict or Tuple of these"


def space_of(env: object, which: str, name: str) -> spaces.Space[Any]:
    """An environment's ``observation_space`` or ``action_space``.

    Raises:
        UsageError: if it has none, or what it has is no space of Gymnasium's.
    """
    who = f"env.id = {name!r}: {which}"
    try:
        space = getattr(env, which)
    except Exception as error:
        raise UsageError(
            f"{who} is missing ({type(error).__name__}: {shortened(error)}); __init__ has to set it to a space of "
            "gymnasium.spaces"
        ) from error
    if isinstance(space, spaces.Space):
        return space
    kind = f"{type(space).__module__}.{type(space).__name__}"
    is_old = kind.startswith("gym.")
    old = "; spaces of gym are not supported: import gymnasium instead of gym" if is_old else ""
    what = "None" if space is None else f"a {kind.removeprefix('builtins.')}"
    raise UsageError(f"{who} is {what}, expected a space of gymnasium.spaces{old}")


def _flaw(space: spaces.Space[Any]) -> str:
    """Why no numbers can come from a space; empty if they can."""
    for leaf in observations.leaves(space):
        if not isinstance(leaf, NUMBERS):  # Gymnasium flattens Text and OneOf as well
            return f"{type(leaf).__name__} has no fixed number of numbers"
        if isinstance(leaf, spaces.Box) and leaf.dtype.kind == "f":
            if np.isnan(leaf.low).any() or np.isnan(leaf.high).any():
                return "its bounds are NaN"
        elif isinstance(leaf, spaces.Discrete) and leaf.n < 1:
            return f"n is {leaf.n}"
        elif isinstance(leaf, spaces.MultiDiscrete) and (np.asarray(leaf.nvec) < 1).any():
            return "nvec has numbers below 1"
    return "" if spaces.flatdim(space) else "it has no numbers"


class ObservationFlattener:
    """Checks observations, and writes them into one buffer in the order of Gymnasium's ``flatten``.

    Attributes:
        space: of the observations.
        size: numbers in an observation.
        buffer: float32 [size]; float64 if observations are normalized and float32 can't hold them.
        take: writes an observation into it, and returns whether all its numbers are finite.
        vector: what does it, if observations are vectors of floats and ``buffer`` is float32.
    """

    def __init__(
        self,
        space: spaces.Space[Any],
        name: str,
        format: int = FORMAT,
        normalized: bool = False,
    ) -> None:
        """Prepare for one observation space.

        Args:
            space: of the observations.
            name: of the environment, for messages.
            format: of the run's config. In the first one nothing is checked, and all is cast to float32.
            normalized: observations will be normalized.

        Raises:
            UsageError: naming a space that has no fixed flat size (Sequence, Graph) or isn't numbers (Text, OneOf).
        """
        self.space = space
        if flaw := _flaw(space):
            raise UsageError(
                f"env.id = {name!r}: observation space {shortened(space)}: {flaw}; {SUPPORTED}"
            )
        self.size = int(spaces.flatdim(space))
        double = normalized and format > 1 and not observations.fits_float32(space)
        self.buffer: npt.NDArray[Any] = np.zeros(self.size, np.float64 if double else np.float32)
        self._narrow = np.zeros(self.size, np.float32)
        self.take = observations.taker(space, self.buffer)
        own = getattr(self.take, "__self__", None)
        self.vector: observations.Vector | None = None
        if isinstance(own, observations.Vector) and format > 1 and not double:
            self.vector = own
        if format == 1:
            self.take = self._take_unchecked

    def __call__(self, observation: Any) -> npt.NDArray[Any]:
        """The observation as floats [size], in a buffer that the next call overwrites.

        Raises:
            MisfitError: if it does not fit the space.
        """
        self.take(observation)
        return self.buffer

    def normalize(
        self, flat: npt.NDArray[Any], scale: tuple[Float64s, Float64s], sums: Float64s
    ) -> Float32s:
        """Add a flat observation to sums, and normalize it; both from all of its digits.

        Args:
            flat: ``buffer``; may be overwritten.
            scale: mean and inverse deviation, float64 [size].
            sums: float64 [2, size], of observations and of their squares.
        """
        if flat.dtype == np.float64:
            actions.observe_double(flat, *scale, *sums, self._narrow)
            return self._narrow
        actions.observe(flat, *scale, *sums)
        return flat

    def _take_unchecked(self, observation: Any) -> bool:
        """As the first format does it: what fits somehow is taken, and a NaN is for the network."""
        try:
            if isinstance(self.space, spaces.Box) and len(self.space.shape) == 1:
                self.buffer[:] = observation
            elif isinstance(self.space, spaces.Box):
                self.buffer[:] = np.ravel(observation)
            else:
                self.buffer[:] = cast(Float32s, spaces.flatten(self.space, observation))
        except Exception as error:
            raise MisfitError(
                f"the observation is {described(observation)}: expected one of {shortened(self.space)}"
            ) from error
        return True


class ActionDecoder:
    """Turns a policy's outputs into an action of the environment's space.

    Discrete: the largest logit. MultiDiscrete: the largest logit of each segment. MultiBinary: 1 for each output above
    0. Box: see ``actions.to_box``; of integers: rounded. Dict and Tuple: each part from outputs of its own, in the
    order in which Gymnasium flattens them.

    Attributes:
        space: of the actions.
        size: outputs that a policy has to have.
        bounded: every output is a number of a Box with finite bounds.
        action_size: numbers in an action of a compiled episode.
        squashed: outputs lie in [−1, 1] already.
        tables: what a compiled episode decodes by: sizes and first choices of the segments of a discrete action,
            int64 [segments], and bounds of a Box, float32 [size]; whichever the action is not has size 0. None of an
            action that is neither.
        is_plain: one choice, or a Box of one dimension of float32.
        decode: the action of outputs, or None if an output is NaN (or, for Box, infinite).
    """

    def __init__(self, space: spaces.Space[Any], name: str) -> None:
        """Prepare for one action space.

        Raises:
            UsageError: naming an unsupported space.
        """
        self.space = space
        try:
            if flaw := _flaw(space):
                raise Unsupported(flaw)
            self._part: Part = part_of(space)
        except Unsupported as error:
            raise UsageError(
                f"env.id = {name!r}: action space {shortened(space)} is not supported: {error}; {SUPPORTED}"
            ) from None
        self.size, self.bounded = self._part.size, self._part.bounded
        self.tables: Tables | None = self._part.tables
        self.action_size = self.size
        if self.tables is not None:
            self.action_size = self.tables[0].size or self.tables[2].size
        self.decode = self._part.decode
        self.is_plain = isinstance(self._part, Discrete) or (
            type(self._part) is Box and self._part.plain
        )

    @property
    def squashed(self) -> bool:
        """See the class."""
        return self._part.squashed

    @property
    def described(self) -> str:
        """The space in a word, for messages: "Discrete(2)", "Box(6,)"."""
        kind = type(self.space).__name__
        if isinstance(self.space, spaces.Box):
            return f"{kind}{self.space.shape}"
        if self.tables is None:
            return shortened(self.space)[:60]
        sizes = self.tables[0].tolist()
        return f"{kind}({sizes[0] if len(sizes) == 1 else sizes})"[:60]

    def outputs_are_squashed(self, squashed: bool) -> None:
        """Say whether the policy's outputs lie in [−1, 1] already."""
        self._part.squashed = squashed

    def __call__(self, outputs: Float32s) -> Any:
        """The action, or None if an output is NaN (or, for Box, infinite)."""
        return self.decode(outputs)


def action_numbers(action: Any) -> Float32s:
    """An action as float32 numbers, those of a Dict or a Tuple one part after the other."""
    if isinstance(action, dict):
        action = tuple(action.values())
    if isinstance(action, tuple):
        return np.concatenate([action_numbers(part) for part in action])
    return np.array(action, np.float32).reshape(-1)
