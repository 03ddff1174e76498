"""exp, ln and tanh of single numbers in float64, from +, ×, ÷ and powers of two alone.

libm's round differently from one version, and from one processor, to the next, and what an algorithm computes from them
becomes part of h (law 4). The series go on until nothing changes, so all are right to a few units in the last place.
"""

from __future__ import annotations

import math

_LN2_HIGH = 0.693147180369123816490  # 32 bits, so that its products with exponents are exact
_LN2_LOW = 1.90821492927058770002e-10


def exp(x: float) -> float:
    """e^x; 0 below −745, infinite above 709.78."""
    if x != x:
        return x
    if x < -746.0:
        return 0.0
    if x > 710.0:
        return math.inf
    n = round(x / (_LN2_HIGH + _LN2_LOW))
    f = (x - n * _LN2_HIGH) - n * _LN2_LOW
    term = total = 1.0
    k = 1
    while total + term * f / k != total:
        term *= f / k
        total += term
        k += 1
    try:
        return math.ldexp(total, n)
    except OverflowError:
        return math.inf


def log(x: float) -> float:
    """Ln x for x > 0."""
    mantissa, exponent = math.frexp(x)
    if mantissa < 0.7071067811865476:
        mantissa, exponent = 2.0 * mantissa, exponent - 1
    s = (mantissa - 1.0) / (mantissa + 1.0)  # ln m = 2 artanh s
    power, total, k = s, s, 1
    while total + power * s * s / (k + 2) != total:
        power *= s * s
        k += 2
        total += power / k
    return exponent * _LN2_HIGH + (exponent * _LN2_LOW + 2.0 * total)


def tanh(x: float) -> float:
    """Hyperbolic tangent."""
    if abs(x) > 20.0:
        return math.copysign(1.0, x)
    e = exp(2.0 * abs(x))
    return math.copysign((e - 1.0) / (e + 1.0), x)
