"""Random directions made perpendicular to each other."""

from __future__ import annotations

import numpy as np

from esd.kernels import kernel


@kernel
def orthonormalize(rows, passes):
    """Make rows perpendicular and of length 1, one after the other, by Gram and Schmidt.

    A second pass gives full precision. The rotations of a hash have one: their bits are those of all runs so far.

    Args:
        rows: float64 [n, m], n ≤ m, linearly independent, as random ones are; overwritten.
        passes: how often a row is freed of those before it.
    """
    n, m = rows.shape
    for i in range(n):
        for _ in range(passes):
            for j in range(i):
                along = 0.0
                for k in range(m):
                    along += rows[i, k] * rows[j, k]
                for k in range(m):
                    rows[i, k] -= along * rows[j, k]
        square = 0.0
        for k in range(m):
            square += rows[i, k] * rows[i, k]
        length = np.sqrt(square)
        for k in range(m):
            rows[i, k] /= length
