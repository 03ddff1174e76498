"""Sums over h in a fixed order: float64 partials of fixed blocks, which the caller adds in block order.

Because the blocks don't depend on who computes them, a norm is the same bits on any number of ranks (law 4).
"""

from __future__ import annotations

import numpy as np

from esd.kernels import inlined, kernel

REDUCTION_BLOCK = 4096


@inlined
def _sum_of_squares(x, start, stop):
    """Σ x² in coordinate order, float64."""
    total = 0.0
    for c in range(start, stop):
        value = np.float64(x[c])
        total += value * value
    return total


@kernel
def block_sums_of_squares(x):
    """Σ x² of each block of 4,096 coordinates, float64 [⌈n/4096⌉], added in coordinate order.

    Four blocks go side by side: one sum alone waits for each of its additions.
    """
    size = REDUCTION_BLOCK
    whole = x.size // size
    partials = np.zeros((x.size + size - 1) // size, np.float64)
    for first in range(0, whole - 3, 4):
        a = 0.0
        b = 0.0
        c = 0.0
        d = 0.0
        four = x[first * size : (first + 4) * size]
        for k in range(size):
            p = np.float64(four[k])
            q = np.float64(four[k + size])
            r = np.float64(four[k + 2 * size])
            s = np.float64(four[k + 3 * size])
            a += p * p
            b += q * q
            c += r * r
            d += s * s
        partials[first] = a
        partials[first + 1] = b
        partials[first + 2] = c
        partials[first + 3] = d
    for block in range(whole // 4 * 4, partials.size):
        partials[block] = _sum_of_squares(x, block * size, min((block + 1) * size, x.size))
    return partials


@kernel
def in_order(partials):
    """Σ partials, first to last."""
    total = 0.0
    for partial in partials:
        total += partial
    return total
