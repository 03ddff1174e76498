"""tanh, log, sine and cosine from +, ×, ÷, square root and bit operations alone.

libm's versions are scalar calls (59 M samples/s) and differ between machines. These vectorize, and since every
operation in them is one that IEEE 754 rounds exactly one way, they give the same bits everywhere.
"""

from __future__ import annotations

import numpy as np

from esd.kernels import inlined

f32 = np.float32
i32 = np.int32

_HALF = f32(0.5)
_ONE = f32(1.0)
_TWO = f32(2.0)
_TANH_LIMIT = f32(9.1)  # from here on float32 tanh is 1 to within half a unit in the last place
_LN2 = f32(np.log(2.0))
_MINUS_TWO_LN2 = f32(-2.0 * np.log(2.0))


@inlined
def tanh(x):
    """Hyperbolic tangent of a float32, absolute error ≤ 3e-7 (tests/kernels/test_elementary.py).

    Lambert's continued fraction for tanh(x/2), cut after six terms, then tanh(2a) = 2t/(1 + t²), which squeezes
    the fraction's error at large x to nothing. All coefficients are positive, so nothing cancels. NaN stays NaN.
    """
    a = x * _HALF
    limit = _HALF * _TANH_LIMIT
    if a > limit:
        a = limit
    if a < -limit:
        a = -limit
    s = a * a
    p = f32(135135.0) + s * (f32(17325.0) + s * (f32(378.0) + s))
    q = f32(135135.0) + s * (f32(62370.0) + s * (f32(3150.0) + s * f32(28.0)))
    return (_TWO * a) * (p * q) / (q * q + s * (p * p))


@inlined
def minus_two_log(mantissa_bits, exponent):
    """−2·ln(m·2^e), for m in [√½, √2) given as a float32 and e as an int32.

    ln m = 2·artanh(s), s = (m − 1)/(m + 1), |s| ≤ 0.172: five terms of the series leave 2e-9.
    """
    m = mantissa_bits
    s = (m - _ONE) / (m + _ONE)
    z = s * s
    series = _ONE + z * (f32(1 / 3) + z * (f32(1 / 5) + z * (f32(1 / 7) + z * f32(1 / 9))))
    return f32(exponent) * _MINUS_TWO_LN2 - (f32(4.0) * s) * series


@inlined
def sine(x):
    """Sine of a float32 in [−π/4, π/4]: Taylor, next term 1.8e-9."""
    z = x * x
    return x * (
        _ONE + z * (f32(-1 / 6) + z * (f32(1 / 120) + z * (f32(-1 / 5040) + z * f32(1 / 362880))))
    )


@inlined
def cosine(x):
    """Cosine of a float32 in [−π/4, π/4]: Taylor, next term 2.5e-8."""
    z = x * x
    return _ONE + z * (f32(-1 / 2) + z * (f32(1 / 24) + z * (f32(-1 / 720) + z * f32(1 / 40320))))
