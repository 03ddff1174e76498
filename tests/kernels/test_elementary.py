"""The polynomial tanh, exp, log, sine and cosine against numpy's float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest

from esd.kernels import elementary

Float32s = npt.NDArray[np.float32]

QUARTER_PI = np.float32(np.pi / 4)


def mapped(function: Callable[..., Any]) -> Callable[[Float32s], Float32s]:
    """Apply a scalar kernel to each element, compiled as strictly as the kernels are."""

    @numba.njit
    def each(x: Float32s) -> Float32s:
        y = np.empty_like(x)
        for i in range(x.size):
            y[i] = function(x[i])
        return y

    compiled: Callable[[Float32s], Float32s] = each
    return compiled


tanh = mapped(elementary.tanh)
exp = mapped(elementary.exp)
sine = mapped(elementary.sine)
cosine = mapped(elementary.cosine)


@numba.njit  # type: ignore[misc]
def minus_two_log(m, exponent):  # type: ignore[no-untyped-def]
    y = np.empty_like(m)
    for i in range(m.size):
        y[i] = elementary.minus_two_log(m[i], exponent)
    return y


def floats_between(low: float, high: float, stride: int) -> Float32s:
    """Every stride-th float32 from low to high, both positive."""
    first, last = np.array([low, high], np.float32).view(np.int32)
    return np.arange(first, last + 1, stride, dtype=np.int32).view(np.float32)


@pytest.fixture(scope="module")
def positive() -> Float32s:
    """Two million float32 over all magnitudes, and every one of some around the limit of 9.1."""
    return np.concatenate([floats_between(1e-30, 20.0, 547), floats_between(9.0, 9.2, 1)])


def test_tanh_is_within_three_ten_millionths(positive: Float32s) -> None:
    exact = np.tanh(positive.astype(np.float64))
    assert np.abs(tanh(positive) - exact).max() <= 3e-7


def test_tanh_of_small_numbers_keeps_its_relative_precision(positive: Float32s) -> None:
    """An absolute bound alone would be met by zero."""
    small = positive[positive < 0.5]
    exact = np.tanh(small.astype(np.float64))
    assert (np.abs(tanh(small) - exact) / exact).max() <= 4e-7


def test_tanh_is_odd(positive: Float32s) -> None:
    assert np.array_equal(tanh(-positive), -tanh(positive))
    zeros = tanh(np.array([0.0, -0.0], np.float32))
    assert np.array_equal(np.signbit(zeros), [False, True])


def test_tanh_never_falls_by_more_than_its_error() -> None:
    """Rounding makes it dip by up to four units in the last place, nowhere more."""
    x = np.sort(floats_between(0.01, 20.0, 53))
    y = tanh(x)
    assert np.diff(y).min() >= -4 * 2.0**-23
    assert np.all(np.diff(y[:: x.size // 100]) >= -4 * 2.0**-23)
    assert np.all(np.diff(tanh(np.arange(-4.0, 4.0, 0.01, dtype=np.float32))) > 0)


def test_tanh_of_infinity_is_one_within_its_error() -> None:
    """It is 1 − 2⁻²³: the argument is limited to 9.1, where the last rounding happens to fall short of 1."""
    y = tanh(np.array([np.inf, 1e30, -1e30, -np.inf], np.float32))
    assert np.abs(y - [1, 1, -1, -1]).max() <= 3e-7


def test_tanh_of_nan_is_nan() -> None:
    assert np.isnan(tanh(np.array([np.nan, -np.nan], np.float32))).all()


def test_minus_two_log_has_a_relative_error_of_four_ten_millionths() -> None:
    """Over all mantissas in [√½, √2) and all exponents of Box–Muller's uniform in [2⁻³², 1]."""
    m = np.arange(0x3F3504F3, 0x3F3504F3 + 2**23, 61, dtype=np.int32).view(np.float32)
    assert m[0] >= np.sqrt(0.5) - 1e-7
    assert m[-1] < np.sqrt(2.0)
    for exponent in range(-32, 1):
        exact = -2.0 * (np.log(m.astype(np.float64)) + exponent * np.log(2.0))
        error = np.abs(minus_two_log(m, np.float32(exponent)) - exact)
        assert np.all(error <= 4e-7 * np.abs(exact))


def test_minus_two_log_of_one_is_exactly_zero() -> None:
    assert minus_two_log(np.ones(1, np.float32), np.float32(0))[0] == 0.0


def test_minus_two_log_is_never_negative_up_to_one() -> None:
    """Its square root is the radius of a Gaussian pair."""
    below = np.arange(0x3F3504F3, 0x3F800001, 7, dtype=np.int32).view(np.float32)
    assert minus_two_log(below, np.float32(0)).min() >= 0.0


@pytest.mark.parametrize(
    ("function", "exact", "bound"), [(sine, np.sin, 7e-8), (cosine, np.cos, 1e-7)]
)
def test_sine_and_cosine_are_within_their_bounds(
    function: Callable[[Float32s], Float32s], exact: Callable[..., Any], bound: float
) -> None:
    """About one unit in the last place below 1 (6e-8); the cut cosine adds 4e-8."""
    x = np.concatenate(
        [
            floats_between(1e-20, QUARTER_PI, 499),
            np.linspace(0, QUARTER_PI, 10**6, dtype=np.float32),
        ]
    )
    for signed in (x, -x):
        assert np.abs(function(signed) - exact(signed.astype(np.float64))).max() <= bound


def test_sine_keeps_its_relative_precision_near_zero() -> None:
    x = floats_between(1e-20, QUARTER_PI, 499)
    exact = np.sin(x.astype(np.float64))
    assert (np.abs(sine(x) - exact) / exact).max() <= 1e-7


def test_exp_has_a_relative_error_of_two_ten_millionths(positive: Float32s) -> None:
    x = np.concatenate(
        [-positive, positive, np.linspace(-87, 88, 10**6, dtype=np.float32)], dtype=np.float32
    )
    exact = np.exp(x.astype(np.float64))
    assert (np.abs(exp(x) - exact) / exact).max() <= 2e-7


def test_exp_of_zero_is_one_and_far_below_it_is_zero() -> None:
    """A softmax relies on both: its largest weight is 1, and what was never found weighs nothing."""
    y = exp(np.array([0.0, -0.0, -88.0, -1e30, -np.inf], np.float32))
    assert y.tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_exp_of_much_is_large_and_of_nan_is_nan() -> None:
    y = exp(np.array([89.0, np.inf, np.nan], np.float32))
    assert (y[:2] > 1e38).all()
    assert np.isnan(y[2])
