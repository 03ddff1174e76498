"""Vectors of |h|: cut into pieces that fit a cache, and summed as a whole by whoever has a slice of them.

A sum over all coordinates is always made of float64 partials of fixed blocks of 4,096 coordinates, added in block
order, so that it is the same bits however many ranks share the vector (law 4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esd.evolution import strict_math
from esd.kernels.distribution import block_dots, block_spreads
from esd.kernels.reduce import REDUCTION_BLOCK, block_sums_of_squares, in_order

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Norm = Callable[[Float32s], float]
Gather = Callable[[Float64s], Float64s]

PIECE = 65_536  # coordinates


def pieces(size: int) -> Iterator[slice]:
    """Cut a vector into pieces that fit a core's cache together with their temporaries.

    They start on blocks of 4,096 coordinates.
    """
    return (slice(start, min(start + PIECE, size)) for start in range(0, size, PIECE))


def euclidean_norm(x: Float32s) -> float:
    """‖x‖ of a whole vector, summed in fixed blocks."""
    return math.sqrt(in_order(block_sums_of_squares(x)))


def mean_square(pieces: Iterable[Float32s]) -> float:
    """Mean of the squares of a vector given in pieces that start on blocks: what ``fitness_penalty`` multiplies."""
    size, partials = 0, []
    for piece in pieces:
        size += piece.size
        partials.append(block_sums_of_squares(piece))
    return float(in_order(np.concatenate(partials))) / size


@dataclass(frozen=True)
class Spread:
    """How far deviations lie apart."""

    geometric_mean: float
    smallest: float
    largest: float

    def scalars(self) -> dict[str, float]:
        """As numbers of a state."""
        return {
            "sigma": self.geometric_mean,
            "sigma_min": self.smallest,
            "sigma_max": self.largest,
        }


@dataclass(frozen=True)
class Whole:
    """Reductions over whole vectors of which the caller has one slice that starts on a block.

    All ranks that share a vector make the same calls in the same order: each waits for the others' slices.

    Attributes:
        size: |h|.
        gather: from the slice's partials of blocks, float64 [k, own blocks], to those of all blocks in their order,
            float64 [k, blocks]. What it returns may be overwritten by the next but one call.
    """

    size: int
    gather: Gather

    def sums(self, partials: Float64s) -> Float64s:
        """Totals of partial sums of blocks; float64 [k, own blocks] → [k]."""
        return np.array([in_order(row) for row in self.gather(partials)])

    def norm(self, x: Float32s) -> float:
        """‖x‖ from the slice x."""
        return math.sqrt(self.sums(block_sums_of_squares(x)[None])[0])

    def dot(self, x: Float32s, y: Float32s) -> float:
        """x·y from slices of both."""
        return float(self.sums(block_dots(x, y)[None])[0])

    def largest(self, x: Float32s) -> float:
        """Max |x| from the slice x."""
        starts = np.arange(0, x.size, REDUCTION_BLOCK)
        most = np.maximum.reduceat(np.abs(x), starts) if x.size else x
        return float(self.gather(most.astype(np.float64)[None]).max())

    def spread(self, x: Float32s) -> Spread:
        """Geometric mean, smallest and largest of positive coordinates, from a slice."""
        logs, least, most = self.gather(block_spreads(x))
        mean = strict_math.exp(float(in_order(logs)) / self.size)
        return Spread(mean, float(least.min()), float(most.max()))
