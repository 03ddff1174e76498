"""tanh, exp, log, sine and cosine from +, ×, ÷, square root and bit operations alone.

libm's versions are scalar calls (59 M samples/s) and differ between machines. These vectorize, and since every
operation in them is one that IEEE 754 rounds exactly one way, they give the same bits everywhere.
"""

from __future__ import annotations

import numpy as np

from esd.kernels import inlined

f32 = np.float32
i32 = np.int32

HALF = f32(0.5)
_ONE = f32(1.0)
_TWO = f32(2.0)
TANH_LIMIT = f32(9.1)  # from here on float32 tanh is 1 to within half a unit in the last place
_MINUS_TWO_LN2 = f32(-2.0 * np.log(2.0))

# Coefficients of smallest greatest error, fitted for this project in float64 and rounded one after the other: of
# −2·ln(1 + f) for the powers of f, relative; of sine and cosine for the powers of x.
LOG = (
    -1.9999999,
    1.0000072,
    -0.6667015,
    0.49940366,
    -0.39800245,
    0.3449638,
    -0.32442936,
    0.20224588,
)
SINE = (-0.16666655, 0.008332192, -0.00019518791)
COSINE = (-0.49999896, 0.041656334, -0.0013598228)
# of (eˣ − 1 − x)/x² in [−½ ln 2, ½ ln 2], such that the error relative to eˣ is 3e-9 before rounding
EXP = (0.49999994, 0.16666521, 0.041668389, 0.0083687166, 0.0013814599)
_L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = map(f32, LOG)
_S3, _S5, _S7 = map(f32, SINE)
_C2, _C4, _C6 = map(f32, COSINE)
_E2, _E3, _E4, _E5, _E6 = map(f32, EXP)
_LOG2_E = f32(1.0 / np.log(2.0))
_LN2_HIGH = f32(0.693359375)  # nine bits, so its products with exponents are exact
_LN2_LOW = f32(np.log(2.0) - 0.693359375)
_ROUNDER = f32(1.5 * 2**23)  # adding it leaves no room for a fraction
_EXP_LEAST = f32(-87.0)  # e^x would soon be subnormal
_EXP_MOST = f32(88.0)


@inlined
def tanh(x):
    """Hyperbolic tangent of a float32, absolute error ≤ 3e-7 (tests/kernels/test_elementary.py).

    Lambert's continued fraction for tanh(x/2), cut after six terms, then tanh(2a) = 2t/(1 + t²), which squeezes
    the fraction's error at large x to nothing. All coefficients are positive, so nothing cancels. NaN stays NaN.
    """
    a = x * HALF
    limit = HALF * TANH_LIMIT
    if a > limit:
        a = limit
    if a < -limit:
        a = -limit
    s = a * a
    p = f32(135135.0) + s * (f32(17325.0) + s * (f32(378.0) + s))
    q = f32(135135.0) + s * (f32(62370.0) + s * (f32(3150.0) + s * f32(28.0)))
    return (_TWO * a) * (p * q) / (q * q + s * (p * p))


@inlined
def minus_two_log(mantissa, exponent):
    """−2·ln(m·2^e), for m in [√½, √2) and e both given as float32, relative error ≤ 4e-7.

    A minimax polynomial of m − 1 without a constant term, so that ln 1 is 0; a division would cost more.
    """
    f = mantissa - _ONE
    p = f * (_L1 + f * (_L2 + f * (_L3 + f * (_L4 + f * (_L5 + f * (_L6 + f * (_L7 + f * _L8)))))))
    return exponent * _MINUS_TWO_LN2 + p


@inlined
def sine(x):
    """Sine of a float32 in [−π/4, π/4]: minimax, cut at 4e-9."""
    z = x * x
    return x + (x * z) * (_S3 + z * (_S5 + z * _S7))


@inlined
def cosine(x):
    """Cosine of a float32 in [−π/4, π/4]: minimax, cut at 4e-8."""
    z = x * x
    return _ONE + z * (_C2 + z * (_C4 + z * _C6))


@inlined
def exp(x):
    """e^x of a float32 up to 88 (more is taken for 88), relative error ≤ 2e-7; 0 below −87. NaN stays NaN.

    e^x = 2^n·e^f with n the nearest integer to x/ln 2. exp(0) is exactly 1.
    """
    a = x
    if a > _EXP_MOST:
        a = _EXP_MOST
    if a < _EXP_LEAST:
        a = _EXP_LEAST
    shifted = np.float32(a * _LOG2_E + _ROUNDER)
    n = shifted - _ROUNDER
    f = (a - n * _LN2_HIGH) - n * _LN2_LOW
    p = _ONE + (f + (f * f) * (_E2 + f * (_E3 + f * (_E4 + f * (_E5 + f * _E6)))))
    # the low bits of the shifted sum are n: as an exponent they make 2^n, with no conversion that NaN would defeat
    bits = np.int32(i32(shifted.view(np.int32) + i32(127)) << i32(23))
    value = p * bits.view(np.float32)
    return f32(0.0) if x < _EXP_LEAST else value
