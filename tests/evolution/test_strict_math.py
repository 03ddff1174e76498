"""exp, ln and tanh of our own against libm's, whose errors are below one unit in the last place."""

from __future__ import annotations

import math

import numpy as np
import pytest

from esd.evolution import strict_math


def test_exp_is_libms_to_four_units_in_the_last_place() -> None:
    for x in np.random.default_rng(1).uniform(-700, 700, 20_000).tolist():
        assert strict_math.exp(x) == pytest.approx(math.exp(x), rel=4 * 2.0**-52)
    for x in np.random.default_rng(2).uniform(-1, 1, 5_000).tolist():
        assert strict_math.exp(x) == pytest.approx(math.exp(x), rel=4 * 2.0**-52)


def test_log_is_libms_to_four_units_in_the_last_place() -> None:
    for x in 10.0 ** np.random.default_rng(1).uniform(-300, 300, 20_000):
        assert strict_math.log(float(x)) == pytest.approx(math.log(x), rel=4 * 2.0**-52)
    for x in np.random.default_rng(2).uniform(0.5, 2.0, 5_000).tolist():
        assert strict_math.log(x) == pytest.approx(math.log(x), rel=4 * 2.0**-52)


def test_tanh_is_libms_within_a_few_roundings() -> None:
    for x in np.random.default_rng(1).uniform(-25, 25, 20_000).tolist():
        assert strict_math.tanh(x) == pytest.approx(math.tanh(x), rel=1e-12, abs=1e-15)


def test_special_values() -> None:
    assert strict_math.exp(0.0) == 1.0
    assert strict_math.log(1.0) == strict_math.tanh(0.0) == 0.0
    assert strict_math.exp(-1000.0) == 0.0
    assert strict_math.exp(1000.0) == strict_math.exp(math.inf) == math.inf
    assert strict_math.exp(-math.inf) == 0.0
    assert math.isnan(strict_math.exp(math.nan))
    assert strict_math.tanh(-math.inf) == -1.0
