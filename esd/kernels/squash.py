"""The strict tanh of whole vectors, and its inverse."""

from __future__ import annotations

import numpy as np

from esd.kernels import kernel
from esd.kernels.elementary import tanh

f32 = np.float32

_FAR = f32(9.1)  # from here on tanh is 1 in float32
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
