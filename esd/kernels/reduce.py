"""Sums over h in a fixed order: float64 partials of fixed blocks, which the caller adds in block order.

Because the blocks don't depend on who computes them, a norm is the same bits on any number of ranks (law 4).
"""

from __future__ import annotations

import numpy as np

from esd.kernels import kernel

REDUCTION_BLOCK = 4096


@kernel
def block_sums_of_squares(x):
    """Σ x² of each block of 4,096 coordinates, float64 [⌈n/4096⌉], added in coordinate order."""
    blocks = (x.size + REDUCTION_BLOCK - 1) // REDUCTION_BLOCK
    partials = np.zeros(blocks, np.float64)
    for block in range(blocks):
        total = 0.0
        for c in range(block * REDUCTION_BLOCK, min((block + 1) * REDUCTION_BLOCK, x.size)):
            value = np.float64(x[c])
            total += value * value
        partials[block] = total
    return partials


@kernel
def in_order(partials):
    """Σ partials, first to last."""
    total = 0.0
    for partial in partials:
        total += partial
    return total
