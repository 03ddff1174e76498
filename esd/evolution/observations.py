"""Observation normalization: what a run has learned about the scale of its observations, part of state_t.

Every member's episodes add to sums of their own, which travel in the member's record and are folded in member order,
so the statistics are the same bits on any number of ranks. Within a generation they are frozen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ObservationStatistics:
    """Sums over all observations seen in training.

    Attributes:
        count: how many.
        sums: float64 [observation_size]; of size 0 when normalization is off.
        squares: Σ o², the same shape.
    """

    count: float
    sums: Float64s
    squares: Float64s

    @classmethod
    def empty(cls, size: int) -> ObservationStatistics:
        """Nothing seen yet."""
        return cls(0.0, np.zeros(size), np.zeros(size))

    @property
    def size(self) -> int:
        """Numbers in an observation; 0 when normalization is off."""
        return int(self.sums.size)

    def scale(self) -> tuple[Float64s, Float64s]:
        """Mean and inverse standard deviation, float64 [size] each; 0 and 1 before anything was seen."""
        if self.count == 0.0:
            return np.zeros(self.size), np.ones(self.size)
        mean = self.sums / self.count
        variance = np.maximum(self.squares / self.count - mean * mean, 0.0)
        return mean, 1.0 / np.sqrt(variance + 1e-8)

    def fold(self, counts: Float64s, sums: Float64s, squares: Float64s) -> ObservationStatistics:
        """Add the members' sums, in member order.

        Args:
            counts: float64 [members].
            sums: float64 [members, size].
            squares: float64 [members, size].

        A member whose sums are not finite (its physics exploded) is ignored.
        """
        count, total, total_squares = self.count, self.sums.copy(), self.squares.copy()
        for n, s, q in zip(counts, sums, squares, strict=True):
            if np.isfinite(s).all() and np.isfinite(q).all():
                count += float(n)
                total += s
                total_squares += q
        return ObservationStatistics(count, total, total_squares)
