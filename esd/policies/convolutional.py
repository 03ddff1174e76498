"""Two evolved convolutions in front of another policy: for environments whose observations are pictures.

Najarro & Risi 2020 (arXiv 2007.02686) see CarRacing so. The convolutions are part of h, but no rule changes them
during an episode; the network behind them, which may be plastic, sees 648 features.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from esd.errors import UsageError
from esd.evolution.layout import Layout
from esd.evolution.noise import Purpose, uniforms
from esd.kernels import convolution
from esd.kernels.lanes import aligned_zeros
from esd.policies.base import Interface, LoadsPieces, Policy, Traceable

Float32s = npt.NDArray[np.float32]

SHAPES = {
    "conv1.w": (
        convolution.MAPS1,
        convolution.CHANNELS,
        convolution.KERNEL1,
        convolution.KERNEL1,
    ),
    "conv2.w": (convolution.MAPS2, convolution.MAPS1, convolution.KERNEL2, convolution.KERNEL2),
}


class ConvolutionalPolicy:
    """Convolutions and the policy behind them.

    h holds ``conv1.w`` [6, 3, 3, 3] and ``conv2.w`` [8, 6, 5, 5] (maps, channels, rows, columns), then what the other
    policy has. Pictures are square RGB of 0 to 255, at least 84×84, and shrunk to that by means over areas.

    Args:
        interface: what is met.
        behind: makes the other policy for what it meets.

    Raises:
        UsageError: if observations are no such pictures.
    """

    def __init__(self, interface: Interface, behind: Callable[[Interface], Policy]) -> None:
        """Build for one environment."""
        size = math.isqrt(interface.observation_size // convolution.CHANNELS)
        if (
            size < convolution.SIDE
            or size * size * convolution.CHANNELS != interface.observation_size
        ):
            raise UsageError(
                f"policy.convolutions = true: an observation has {interface.observation_size} numbers, expected "
                f"a square RGB picture of at least {convolution.SIDE}×{convolution.SIDE} pixels"
            )
        policy = behind(Interface(convolution.FEATURES, interface.action_size, interface.bounded))
        assert isinstance(policy, LoadsPieces)
        self._behind, self._load_behind = policy, policy.load_piece
        order = policy.layout.order
        self._own = Layout(SHAPES, order)
        self.layout = Layout({**SHAPES, **policy.layout.shapes}, order)
        self.squashed = policy.squashed
        self._size = size
        self._first, self._share = areas(size, convolution.SIDE)
        self._weights = np.zeros(self._own.size, np.float32)
        self._taps = (np.empty(0, np.float32), np.empty(0, np.float32))
        scratch = convolution.PLANES + convolution.POOLED + convolution.ROWS
        self._scratch = aligned_zeros(scratch + convolution.CHANNELS * size)
        self._features = aligned_zeros(convolution.FEATURES)

    def initial_parameters(self, seed: int) -> Float32s:
        """Convolutions uniform within ±1/√inputs of a sum, as torch's are; then the other policy's."""
        drawn = uniforms(seed, Purpose.INITIAL_H, self._own.size, first=2)
        for array in self._own.unpack(drawn).values():
            array *= np.float32(1.0 / math.sqrt(array[0].size))
        return np.concatenate([drawn, self._behind.initial_parameters(seed)])

    def load(self, parameters: Float32s) -> None:
        """Take the weights of the convolutions, and give the others on."""
        self.load_piece(0, parameters)

    def load_piece(self, start: int, values: Float32s) -> None:
        """See ``LoadsPieces``."""
        own = self._weights[start : start + values.size]
        own[:] = values[: own.size]
        if own.size < values.size:
            self._load_behind(start + own.size - self._own.size, values[own.size :])

    def reset(self, seed: int) -> None:
        """Begin an episode of the policy behind."""
        # per input of a sum its weights for all maps, as they are read
        one, two = (
            np.moveaxis(array, 0, -1).reshape(-1)
            for array in self._own.unpack(self._weights).values()
        )
        self._taps = (one, two)
        self._behind.reset(seed)

    def act(self, observation: Float32s) -> Float32s:
        """See the picture, float32 [size·size·3], and act."""
        return self._behind.act(self.see(observation))

    def activities(self) -> list[Float32s]:
        """See ``Traceable``: those of the network behind, from the features on."""
        return self._inside().activities()

    def weights(self) -> list[Float32s]:
        """See ``Traceable``: those of the network behind; the convolutions stay the same."""
        return self._inside().weights()

    def _inside(self) -> Traceable:
        assert isinstance(self._behind, Traceable)
        return self._behind

    def see(self, observation: Float32s) -> Float32s:
        """The features of a picture, float32 [648], in memory that the next call overwrites."""
        convolution.features(
            observation,
            self._size,
            self._first,
            self._share,
            *self._taps,
            self._scratch,
            self._features,
        )
        return self._features


def areas(size: int, parts: int) -> tuple[npt.NDArray[np.int64], Float32s]:
    """Cut a side into equal parts.

    Args:
        size: pixels of the side.
        parts: how many; no more than pixels.

    Returns:
        For each part the first pixel that it touches, int64 [parts], and how much of the part each pixel from there
        on makes up, float32 [parts, taps]; the rows add to 1.
    """
    step = size / parts
    # (a part's ends are multiples of 1/parts of a pixel: whole ones are found without rounding)
    first = np.arange(parts) * size // parts
    last = -(-(np.arange(1, parts + 1) * size) // parts)
    taps = int((last - first).max())
    first = np.minimum(first, size - taps)
    pixels = first[:, None] + np.arange(taps)
    begin, end = np.arange(parts)[:, None] * step, np.arange(1, parts + 1)[:, None] * step
    share = np.clip(np.minimum(pixels + 1, end) - np.maximum(pixels, begin), 0.0, None) / step
    return first.astype(np.int64), share.astype(np.float32)
