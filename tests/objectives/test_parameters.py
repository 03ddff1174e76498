"""From h to the values that a function gets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esd.config.objective import ParameterConfig
from esd.objectives.parameters import bounded, initial_h, layout_of, values_of

FINITE = st.floats(-1e6, 1e6)
COORDINATES = st.floats(-(2.0**99), 2.0**99, width=32)


def one(h: float, low: float | None, high: float | None, bounds: str) -> float:
    """One coordinate within its bounds."""
    ends = [None if end is None else np.array([end]) for end in (low, high)]
    return float(bounded(np.array([h], np.float32), *ends, bounds)[0])


def values(h: np.ndarray, **parameters: ParameterConfig) -> dict[str, np.ndarray]:
    return values_of(parameters, layout_of(parameters), h.astype(np.float32))


@settings(deadline=None)
@given(
    h=COORDINATES,
    ends=st.tuples(FINITE, FINITE),
    bounds=st.sampled_from(["clip", "reflect", "transform"]),
)
def test_values_never_leave_their_bounds(h: float, ends: tuple[float, float], bounds: str) -> None:
    low, high = min(ends), max(ends)
    if low < high:
        assert low <= one(h, low, high, bounds) <= high


@settings(deadline=None)
@given(h=COORDINATES, end=FINITE, bounds=st.sampled_from(["clip", "reflect"]))
def test_one_bound_alone_is_kept_too(h: float, end: float, bounds: str) -> None:
    assert one(h, end, None, bounds) >= end
    assert one(h, None, end, bounds) <= end
    assert one(h, None, None, bounds) == h


@settings(deadline=None)
@given(h=st.floats(-2.0, 2.0, width=32), bounds=st.sampled_from(["clip", "reflect"]))
def test_what_is_inside_stays_the_same_bits(h: float, bounds: str) -> None:
    assert one(h, -2.1, 2.3, bounds) == h
    assert one(h, -2.1, None, bounds) == h
    assert one(h, None, 2.3, bounds) == h


@pytest.mark.parametrize(
    ("h", "low", "high", "value"),
    [
        (1.25, 0.0, 1.0, 0.75),
        (-0.25, 0.0, 1.0, 0.25),
        (2.25, 0.0, 1.0, 0.25),
        (-1.25, 0.0, 1.0, 0.75),
        (3.0, 0.0, 1.0, 1.0),
        (7.5, 2.0, 4.0, 3.5),
        (-3.0, -1.0, None, 1.0),
        (5.0, None, 4.0, 3.0),
    ],
)
def test_reflection_mirrors_at_the_bound_that_was_crossed(
    h: float, low: float | None, high: float | None, value: float
) -> None:
    assert one(h, low, high, "reflect") == value


@settings(deadline=None)
@given(
    h=st.floats(-100.0, 100.0, width=32),
    step=st.floats(-0.5, 0.5, width=32),
    high=st.floats(0.1, 10.0),
)
def test_reflection_is_continuous(h: float, step: float, high: float) -> None:
    """Its slope is ±1: values differ by at most as much as coordinates do."""
    other = float(np.float32(h + step))
    difference = abs(one(h, -0.5, high, "reflect") - one(other, -0.5, high, "reflect"))
    assert difference <= abs(other - h) + 1e-12


def test_the_transformation_is_a_tanh_between_the_bounds() -> None:
    h = np.linspace(-12.0, 12.0, 501).astype(np.float32)
    low, high = np.full(501, -3.0), np.full(501, 5.0)
    expected = -3.0 + 8.0 * (1.0 + np.tanh(h.astype(np.float64))) / 2.0
    np.testing.assert_allclose(bounded(h, low, high, "transform"), expected, atol=8.0 * 2e-7)


@pytest.mark.parametrize(
    ("initial", "low", "high"),
    [(1e-8, 0.0, 1.0), (1.0, 0.0, 1e8), (1e-7, 0.0, 1.0), (1e-30, 0.0, 1.0), (-1e-9, -5.0, 0.0)],
)
def test_a_transformed_value_near_a_bound_of_zero_keeps_its_digits(
    initial: float, low: float, high: float
) -> None:
    parameter = ParameterConfig((), initial, low, high, "transform")
    found = float(values(initial_h({"x": parameter}, seed=3), x=parameter)["x"])
    # as near as h in float32 allows: a unit in its last place is a share of 2 ulp of the value
    assert found == pytest.approx(initial, rel=1e-5)
    old = initial_h({"x": parameter}, 3, format=2)
    before = values_of({"x": parameter}, layout_of({"x": parameter}), old, format=2)["x"]
    assert before != pytest.approx(initial, rel=1e-5), "runs of format 2 go on with what they had"


def test_a_transformed_value_rises_with_h_and_never_is_a_bound() -> None:
    h = np.linspace(-500.0, 500.0, 20_001).astype(np.float32)
    for low, high in ((0.0, 1.0), (-3.0, 5.0), (-1e30, 1e30)):
        ends = np.full(h.size, low), np.full(h.size, high)
        found = bounded(h, *ends, "transform")
        assert (np.diff(found) >= 0.0).all()
        assert low < found[0] < found[-1] < high
        exact = [low + (high - low) / (1.0 + math.exp(-2.0 * x)) for x in h[abs(h) < 300].tolist()]
        np.testing.assert_allclose(
            found[abs(h) < 300], exact, rtol=1e-14, atol=1e-14 * abs(low), strict=True
        )
    assert math.isnan(one(math.nan, 0.0, 1.0, "transform"))


@pytest.mark.parametrize("bounds", ["clip", "reflect", "transform"])
@pytest.mark.parametrize("initial", [-1.5, 0.0, 1e-3, 3.7, 4.9])
def test_the_initial_values_are_those_of_h_0(bounds: str, initial: float) -> None:
    parameter = ParameterConfig((2, 3), initial, -2.0, 5.0, bounds)
    found = values(initial_h({"x": parameter}, seed=3), x=parameter)["x"]
    assert found.shape == (2, 3)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, initial, atol=7.0 * 1.2e-7)


def test_initial_values_and_bounds_may_be_given_one_by_one() -> None:
    initial = [[1.0, 2.0], [3.0, 4.0]]
    parameter = ParameterConfig((2, 2), initial, [[0.0, 0.0], [0.0, 3.5]], 10.0)
    assert values(initial_h({"x": parameter}, 0), x=parameter)["x"].tolist() == initial
    assert values(np.zeros(4), x=parameter)["x"].tolist() == [[0.0, 0.0], [0.0, 3.5]]


@pytest.mark.parametrize("bounds", ["clip", "reflect", "transform"])
def test_uniform_initial_values_fill_the_range_and_depend_on_the_seed_alone(bounds: str) -> None:
    parameter = ParameterConfig((4000,), "uniform", 2.0, 6.0, bounds)
    h = initial_h({"x": parameter}, seed=1)
    found = values(h, x=parameter)["x"]
    assert found.min() >= 2.0
    assert found.max() <= 6.0
    # mean and variance of a uniform distribution, within five standard errors
    assert abs(found.mean() - 4.0) < 5.0 * math.sqrt(16.0 / 12.0 / 4000)
    assert abs(found.var() - 16.0 / 12.0) < 0.1
    assert initial_h({"x": parameter}, seed=1).tobytes() == h.tobytes()
    assert initial_h({"x": parameter}, seed=2).tobytes() != h.tobytes()


def test_parameters_lie_in_h_by_name_whatever_their_order_in_the_file() -> None:
    a, b = ParameterConfig((2,), 1.0), ParameterConfig((), "uniform", 0.0, 1.0)
    assert dict(layout_of({"b": b, "a": a}).shapes) == {"a": (2,), "b": ()}
    assert list(layout_of({"b": b, "a": a}).shapes) == ["a", "b"]
    assert initial_h({"b": b, "a": a}, 0).tobytes() == initial_h({"a": a, "b": b}, 0).tobytes()
    found = values(np.array([1.0, 2.0, 0.25]), b=b, a=a)
    assert found["a"].tolist() == [1.0, 2.0]
    assert found["b"].shape == ()
    assert float(found["b"]) == 0.25


@pytest.mark.parametrize("bounds", ["clip", "reflect"])
def test_what_is_not_finite_is_no_valid_value(bounds: str) -> None:
    assert math.isnan(one(math.nan, 0.0, 1.0, bounds))


def test_values_are_new_arrays_in_every_call() -> None:
    parameter: dict[str, Any] = {"x": ParameterConfig((3,))}
    h = np.ones(3, np.float32)
    values(h, **parameter)["x"] += 1.0
    assert values(h, **parameter)["x"].tolist() == [1.0, 1.0, 1.0]
