"""What search distributions sum over rebuilt noise: moments of ε, its inner products, and the spread of deviations.

Everything is added in a fixed order: over pairs one after the other, over coordinates in order within a block of
4,096, in float64 (laws 2 and 4).
"""

from __future__ import annotations

import numpy as np

from esd.kernels import inlined, kernel
from esd.kernels.elementary import exp, minus_two_log
from esd.kernels.philox import add
from esd.kernels.reduce import REDUCTION_BLOCK

f32 = np.float32
i32 = np.int32
u32 = np.uint32


@inlined
def add_weighted(e, weights, square_weight, sums, squares):
    """sums[l] += weights[l]·ε and squares += square_weight·(ε² − 1) for one pair."""
    for row in range(weights.size):
        weight = weights[row]
        out = sums[row]
        for k in range(e.size):
            out[k] += weight * e[k]
    for k in range(e.size):
        squares[k] += square_weight * (e[k] * e[k] - f32(1.0))


@inlined
def add_dot(e, weight, v, out):
    """Add weight·ε to out; ε·v and ε², summed in order."""
    for k in range(e.size):
        out[k] += weight * e[k]
    dot = 0.0
    square = 0.0
    for k in range(e.size):
        value = np.float64(e[k])
        dot += value * np.float64(v[k])
        square += value * value
    return dot, square


@kernel
def add_moments(
    kind, start, weights, square_weights, generation, purpose, key0, key1, sums, squares
):
    """sums[l] += Σ_p weights[l, p]·ε_p and squares += Σ_p square_weights[p]·(ε_p² − 1), in pair order.

    Args:
        kind: of the noise.
        start: the coordinate of squares[0].
        weights: float32 [l, pairs].
        square_weights: float32 [pairs].
        generation: uint32.
        purpose: uint32.
        key0: uint32.
        key1: uint32.
        sums: float32 [l, n].
        squares: float32 [n].
    """
    one = np.ones(1, np.float32)
    buffer = np.empty(REDUCTION_BLOCK, np.float32)
    for low in range(0, squares.size, REDUCTION_BLOCK):
        high = min(low + REDUCTION_BLOCK, squares.size)
        e = buffer[: high - low]
        of_squares = squares[low:high]
        for p in range(square_weights.size):
            e[:] = f32(0.0)
            add(kind, start + low, one, u32(p), generation, purpose, key0, key1, e, e)
            add_weighted(e, weights[:, p], square_weights[p], sums[:, low:high], of_squares)


@kernel
def add_and_correlate(
    kind, start, weights, first_pair, generation, purpose, key0, key1, v, out, partials
):
    """Add Σ_p weights[p]·ε_p to out, and of every block of 4,096 coordinates sum ε_p v and ε_p².

    Args:
        kind: of the noise.
        start: the coordinate of out[0], a multiple of 4,096.
        weights: float32 [pairs].
        first_pair: uint32, the pair of weights[0].
        generation: uint32.
        purpose: uint32.
        key0: uint32.
        key1: uint32.
        v: float32 [n].
        out: float32 [n].
        partials: float64 [2, pairs, ⌈n/4096⌉], overwritten with Σ ε_p v and Σ ε_p².
    """
    one = np.ones(1, np.float32)
    buffer = np.empty(REDUCTION_BLOCK, np.float32)
    for block in range(partials.shape[2]):
        low = block * REDUCTION_BLOCK
        high = min(low + REDUCTION_BLOCK, out.size)
        e = buffer[: high - low]
        sums = out[low:high]
        direction = v[low:high]
        for p in range(weights.size):
            e[:] = f32(0.0)
            pair = u32(first_pair + u32(p))
            add(kind, start + low, one, pair, generation, purpose, key0, key1, e, e)
            dot, square = add_dot(e, weights[p], direction, sums)
            partials[0, p, block] = dot
            partials[1, p, block] = square


@kernel
def block_dots(x, y):
    """Σ x·y of each block of 4,096 coordinates, float64 [⌈n/4096⌉], added in coordinate order."""
    partials = np.zeros((x.size + REDUCTION_BLOCK - 1) // REDUCTION_BLOCK, np.float64)
    for block in range(partials.size):
        total = 0.0
        for k in range(block * REDUCTION_BLOCK, min((block + 1) * REDUCTION_BLOCK, x.size)):
            total += np.float64(x[k]) * np.float64(y[k])
        partials[block] = total
    return partials


@inlined
def _log(x):
    """Ln x of a positive, normal float32."""
    value = np.float32(x)
    bits = value.view(np.int32)
    exponent = i32(i32(bits - i32(0x3F3504F3)) >> i32(23))
    mantissa_bits = np.int32(bits - i32(exponent << i32(23)))
    return f32(-0.5) * minus_two_log(mantissa_bits.view(np.float32), f32(exponent))


@kernel
def block_spreads(x):
    """Σ ln x, the smallest and the largest x of each block of 4,096 coordinates; float64 [3, ⌈n/4096⌉], x positive."""
    spreads = np.zeros((3, (x.size + REDUCTION_BLOCK - 1) // REDUCTION_BLOCK), np.float64)
    for block in range(spreads.shape[1]):
        first = block * REDUCTION_BLOCK
        total = 0.0
        least = x[first]
        most = x[first]
        for k in range(first, min(first + REDUCTION_BLOCK, x.size)):
            total += np.float64(_log(x[k]))
            least = min(least, x[k])
            most = max(most, x[k])
        spreads[0, block] = total
        spreads[1, block] = least
        spreads[2, block] = most
    return spreads


@kernel
def exponentials(x, out):
    """Out = eˣ; float32 [n] both, out may be x."""
    for k in range(x.size):
        out[k] = exp(x[k])
