"""The shipped test functions have the minima that they are known for."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
import pytest

from esd.config.kinds import OBJECTIVES
from esd.objectives import test_functions as functions

MINIMA = {"sphere": 0.0, "rosenbrock": 1.0, "rastrigin": 0.0, "rotated_ellipsoid": 0.0}


@pytest.mark.parametrize("name", MINIMA)
def test_the_minimum_is_zero_where_it_should_be(name: str) -> None:
    function: Callable[[np.ndarray], float] = OBJECTIVES.find(name)
    minimum = np.full((2, 5), MINIMA[name])
    assert function(minimum) == pytest.approx(0.0, abs=1e-12)
    rng = np.random.default_rng(0)
    assert all(function(minimum + rng.normal(0.0, 0.1, (2, 5))) > 0.0 for _ in range(50))


def test_values_agree_with_the_formulas() -> None:
    x = np.array([0.5, -1.0, 2.0])
    assert functions.sphere(x) == 5.25
    assert functions.rosenbrock(x) == 100 * 1.25**2 + 0.25 + 100 * 1.0 + 4.0
    expected = sum(v * v - 10 * np.cos(2 * np.pi * v) + 10 for v in x)
    assert functions.rastrigin(x) == pytest.approx(expected)


def test_the_ellipsoid_is_rotated_and_has_its_condition() -> None:
    """The matrix of the quadratic form, by its values on unit vectors and their sums."""
    size = 6
    axes = np.eye(size)
    matrix = np.array(
        [
            [
                (functions.rotated_ellipsoid(a + b) - functions.rotated_ellipsoid(a - b)) / 4.0
                for b in axes
            ]
            for a in axes
        ]
    )
    np.testing.assert_allclose(
        np.linalg.eigvalsh(matrix), 1e6 ** (np.arange(size) / (size - 1)), rtol=1e-6
    )
    assert np.abs(matrix - np.diag(np.diag(matrix))).max() > 1e4


def test_the_noise_is_a_function_of_the_seed_and_averages_out() -> None:
    x = np.full(4, 2.0)
    values = np.array([functions.noisy_sphere(x, seed=seed) for seed in range(2000)])
    assert functions.noisy_sphere(x, seed=3) == values[3]
    assert abs(values.mean() - 16.0) < 5.0 / np.sqrt(2000)
    assert abs(values.std() - 1.0) < 0.1
    assert functions.noisy_sphere(x, seed=3, noise=0.0) == 16.0


def test_a_single_number_is_refused_by_the_valley() -> None:
    with pytest.raises(ValueError, match="two numbers or more"):
        functions.rosenbrock(np.ones(1))


def test_every_one_has_a_text_that_stands_alone_in_the_list() -> None:
    for name in OBJECTIVES.names():
        text = inspect.getdoc(OBJECTIVES.find(name))
        assert text is not None
        assert len(text.splitlines()[0]) > 20, name
