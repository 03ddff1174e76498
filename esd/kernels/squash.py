"""Strict squashing functions of whole vectors, and their inverses."""

from __future__ import annotations

import math

import numpy as np

from esd.kernels import inlined, kernel
from esd.kernels.elementary import tanh

f32 = np.float32

_LOG2_E = 1.4426950408889634
_LN2_HIGH = 0.693147180369123816490  # 32 bits, so that its products with exponents are exact
_LN2_LOW = 1.90821492927058770002e-10
_NOTHING = 746.0  # e^−x is 0 in float64 from here on
_FARTHEST = f32(0.5 * _NOTHING)
_TERMS = 14  # of the series of e^f for |f| ≤ ½ ln 2: the next one is less than 1e-17
_FAR = f32(9.1)  # from here on the strict tanh is taken as 1
_HALVINGS = 64


@kernel
def tanh_of(x, out):
    """The tanh of each number, float32 [n] → float32 [n]."""
    for i in range(x.size):
        out[i] = tanh(x[i])


@kernel
def inverse_tanh_of(y, out):
    """The float32 whose strict tanh comes nearest to each number, float64 [n] within ±1 → float32 [n] within ±9.1.

    By bisection: a logarithm of the machine's library would not have the same bits everywhere.
    """
    for i in range(y.size):
        low, high = -_FAR, _FAR
        for _ in range(_HALVINGS):
            middle = f32(f32(0.5) * f32(low + high))
            if np.float64(tanh(middle)) < y[i]:
                low = middle
            else:
                high = middle
        below, above = y[i] - np.float64(tanh(low)), np.float64(tanh(high)) - y[i]
        out[i] = low if below < above else high


@inlined
def _lesser_share(a):
    """1/(1 + e^2a) in float64 for a float32 a ≥ 0, to a few units in the last place: no digit is lost far from 0."""
    x = -2.0 * np.float64(a)
    if x < -_NOTHING:
        return 0.0
    n = math.floor(x * _LOG2_E + 0.5)
    f = (x - n * _LN2_HIGH) - n * _LN2_LOW
    e = 1.0
    for k in range(_TERMS, 0, -1):
        e = 1.0 + f / k * e
    e = math.ldexp(e, int(n))
    return e / (1.0 + e)


@kernel
def lesser_shares_of(h, out):
    """The smaller one of (1 + tanh h)/2 and (1 − tanh h)/2, float32 [n] → float64 [n]; NaN stays NaN."""
    for i in range(h.size):
        out[i] = _lesser_share(abs(h[i])) if h[i] == h[i] else np.nan


@kernel
def inverse_lesser_shares_of(shares, out):
    """The float32 h ≥ 0 whose share comes nearest to each, float64 [n] in [0, ½] → float32 [n]: by bisection."""
    for i in range(shares.size):
        near, far = f32(0.0), _FARTHEST
        for _ in range(_HALVINGS):
            middle = f32(f32(0.5) * f32(near + far))
            if _lesser_share(middle) > shares[i]:
                near = middle
            else:
                far = middle
        above, below = _lesser_share(near) - shares[i], shares[i] - _lesser_share(far)
        out[i] = near if above <= below else far
