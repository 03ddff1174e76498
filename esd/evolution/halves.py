"""Do the two halves of a population point in the same direction? A gradient that they don't agree on is noise.

The gradient estimate is a sum over mirrored pairs, g = g₁ + g₂, of which g₁ is the sum over the first half of the
pairs. An update passes through g₁ on its way to g, so that the comparison costs no second rebuild of the noise. Their
cosine is a sum over blocks of 4,096 coordinates like every other one over h: the same bits on any number of ranks.

Without any signal the cosine is 0 on average, with a standard deviation of 1/√|h|.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from esd.evolution.vectors import Float32s, Float64s
from esd.kernels.reduce import REDUCTION_BLOCK, block_sums_of_squares

SUMS = 3  # ‖g‖², ‖g₁‖² and ‖g₂‖²


class Halves:
    """What one slice of an update shows of the halves.

    Attributes:
        partials: ‖g‖², ‖g₁‖² and ‖g₂‖² of the slice's blocks, float64 [3, blocks]; zeros if nothing was seen.
    """

    def __init__(self, size: int) -> None:
        """Begin with a slice of so many coordinates, of which nothing was seen."""
        self.partials: Float64s = np.zeros((SUMS, -(-size // REDUCTION_BLOCK)))

    def see(self, start: int, first: Float32s, whole: Float32s) -> None:
        """Take note of some blocks.

        Args:
            start: the coordinate of ``whole[0]`` within the slice, a multiple of 4,096.
            first: the sum over the first half of the pairs, float32 [n]; overwritten.
            whole: the sum over all pairs, float32 [n].
        """
        blocks = slice(start // REDUCTION_BLOCK, -(-(start + whole.size) // REDUCTION_BLOCK))
        self.partials[0, blocks] = block_sums_of_squares(whole)
        self.partials[1, blocks] = block_sums_of_squares(first)
        self.partials[2, blocks] = block_sums_of_squares(np.subtract(whole, first, out=first))


def first_half(weights: Float32s) -> Float32s:
    """The weights of pairs, with 0 for those of the second half."""
    kept = weights.copy()
    kept[weights.size // 2 :] = 0.0
    return kept


def agreement(sums: Sequence[float]) -> float | None:
    """The cosine of the angle between g₁ and g₂, from the sums over all blocks; None if one of them is 0.

    g₁·g₂ is (‖g‖² − ‖g₁‖² − ‖g₂‖²)/2: squares are summed several times as fast as products.
    """
    whole, first, second = sums
    lengths = math.sqrt(first) * math.sqrt(second)
    return 0.5 * (whole - first - second) / lengths if 0.0 < lengths < math.inf else None
