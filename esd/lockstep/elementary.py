"""``esd.kernels.elementary`` on tensors, function by function and operation by operation: the same bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from esd.kernels.elementary import COSINE, LOG, SINE


def _f32(value: float) -> float:
    """The float32 nearest to a number, as the float that torch takes for a scalar."""
    return float(np.float32(value))


_TANH_LIMIT = _f32(9.1)
_MINUS_TWO_LN2 = _f32(-2.0 * np.log(2.0))


def square_root(x: Tensor) -> Tensor:
    """Square root of float32, rounded to nearest.

    By way of float64: torch's own on the CPU is the Intel library's, which is one unit off for 16 % of arguments. A
    root of a float32 keeps at least 2⁻⁵⁰ from the middle between two of them, so an ulp of float64 changes nothing.
    """
    return x.to(torch.float64).sqrt().to(torch.float32)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent of float32; NaN stays NaN."""
    limit = _f32(0.5) * _TANH_LIMIT
    a = (x * 0.5).clamp(-limit, limit)
    s = a * a
    p = 135135.0 + s * (17325.0 + s * (378.0 + s))
    q = 135135.0 + s * (62370.0 + s * (3150.0 + s * 28.0))
    return (2.0 * a) * (p * q) / (q * q + s * (p * p))


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """c₀ + x(c₁ + x(c₂ + …)), by Horner's scheme."""
    *others, last = map(_f32, coefficients)
    value: Tensor | float = last
    for coefficient in reversed(others):
        value = coefficient + x * value
    return torch.as_tensor(value)


def minus_two_log(m: Tensor, exponent: Tensor) -> Tensor:
    """−2·ln(m·2^e), for m in [√½, √2), both float32."""
    f = m - 1.0
    return exponent * _MINUS_TWO_LN2 + f * _polynomial(f, LOG)


def sine(x: Tensor) -> Tensor:
    """Sine of float32 in [−π/4, π/4]."""
    z = x * x
    return x + (x * z) * _polynomial(z, SINE)


def cosine(x: Tensor) -> Tensor:
    """Cosine of float32 in [−π/4, π/4]."""
    return _polynomial(x * x, (1.0, *COSINE))
