"""A vector times a matrix whose columns lie side by side, sixteen to a vector."""

from __future__ import annotations

import numpy as np

from esd.kernels import inlined
from esd.kernels.lanes import LANES, load, splat, store

f32 = np.float32


@inlined
def multiply(x, matrix, start, stride, columns, out):
    """Set out[j] = Σ x[i]·M[i, j], each sum over i in order, so that it is the same on every processor.

    Args:
        x: float32 [rows].
        matrix: float32; the rows of M [rows, columns] lie in it one ``stride`` apart, from ``start`` on.
        start: int64.
        stride: int64.
        columns: int64, a multiple of 16.
        out: float32 [columns]; written.
    """
    column = 0
    # four sums of vectors go side by side: one alone waits for each of its additions
    while column + 4 * LANES <= columns:
        s0 = splat(f32(0.0))
        s1 = splat(f32(0.0))
        s2 = splat(f32(0.0))
        s3 = splat(f32(0.0))
        at = start + column
        for i in range(x.size):
            value = splat(x[i])
            s0 = s0 + load(matrix, at) * value
            s1 = s1 + load(matrix, at + LANES) * value
            s2 = s2 + load(matrix, at + 2 * LANES) * value
            s3 = s3 + load(matrix, at + 3 * LANES) * value
            at += stride
        store(out, column, s0)
        store(out, column + LANES, s1)
        store(out, column + 2 * LANES, s2)
        store(out, column + 3 * LANES, s3)
        column += 4 * LANES
    while column < columns:
        s0 = splat(f32(0.0))
        at = start + column
        for i in range(x.size):
            s0 = s0 + load(matrix, at) * splat(x[i])
            at += stride
        store(out, column, s0)
        column += LANES
