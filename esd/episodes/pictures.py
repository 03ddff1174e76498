"""Whether observations are the pictures that ``policy.convolutions`` reads: the number of elements alone doesn't say.

A (3, 84, 84) has as many numbers as an (84, 84, 3), and so has a (42, 168, 3); floats from 0 to 1 are nearly black.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from gymnasium import spaces

from esd.config.settings import Config
from esd.errors import UsageError, shortened
from esd.kernels.convolution import CHANNELS, SIDE

FIRST_FORMAT = 1  # whose runs go on with whatever they see
WRAPPER = 'env.wrappers = [{id = "gymnasium.wrappers:RescaleObservation", kwargs = {min_obs = 0.0, max_obs = 255.0}}]'


def check_pictures(config: Config, seen: Iterable[tuple[str, spaces.Space[Any]]]) -> None:
    """Refuse what a policy with convolutions can't see.

    Args:
        config: of the run.
        seen: environments' ids and their observation spaces.

    Raises:
        UsageError: naming the environment, what its observations are, and the wrapper that helps.
    """
    convolutions = getattr(config.policy.settings, "convolutions", False)
    if not convolutions or config.format == FIRST_FORMAT:
        return
    if config.env.normalize_observations:
        raise UsageError(
            "policy.convolutions = true with env.normalize_observations = true: pictures of 0 to 255 are scaled "
            "already; set env.normalize_observations = false"
        )
    for name, space in seen:
        advice = _what_helps(space)
        if advice:
            raise UsageError(
                f"policy.convolutions = true: env.id = {shortened(repr(name))} has observations {_described(space)}, "
                f"expected RGB pictures (n, n, {CHANNELS}) of n = {SIDE} or more, from 0 to 255; {advice}"
            )


def _described(space: spaces.Space[Any]) -> str:
    if not isinstance(space, spaces.Box):
        return f"of the space {shortened(str(space), 150)}"
    low, high = float(np.min(space.low)), float(np.max(space.high))
    return f"of shape {space.shape}, from {low:g} to {high:g}"


def _what_helps(space: spaces.Space[Any]) -> str:
    """What makes such pictures of a space's elements; empty if they are."""
    if not isinstance(space, spaces.Box) or len(space.shape) not in (2, 3, 4):
        return "use policy.convolutions = false"
    shape = space.shape
    if len(shape) == 4:
        return "remove the wrapper that stacks frames"
    if len(shape) == 2 or (shape[2] != CHANNELS and shape[0] != CHANNELS):
        return (
            f"there must be {CHANNELS} channels: remove gymnasium.wrappers:GrayscaleObservation, or repeat or drop "
            "channels with a subclass of gymnasium.wrappers.TransformObservation"
        )
    if shape[2] != CHANNELS:
        return (
            "move the channels to the end with a subclass of gymnasium.wrappers.TransformObservation that calls "
            "np.moveaxis(observation, 0, -1) (docs/policies.md, Pictures)"
        )
    if shape[0] != shape[1] or shape[0] < SIDE:
        return (
            f"resize them with a subclass of gymnasium.wrappers.ResizeObservation of shape ({SIDE}, {SIDE}) "
            "(docs/policies.md, Pictures)"
        )
    if np.any(space.low != 0) or np.any(space.high != 255):
        if np.isfinite(space.low).all() and np.isfinite(space.high).all():
            return f"remove the wrapper that scales them, or undo it: {WRAPPER}"
        return "declare the bounds 0 and 255 in the environment's observation_space"
    return ""
