"""Curves of a report against a slow and plain way to compute them."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from esd.report import learning
from esd.report.series import Curve, curve_of, spread_of, thinned


def line(x: list[float], y: list[float]) -> Curve:
    return Curve(np.array(x, np.float64), np.array(y, np.float64))


def test_points_without_a_value_are_left_out() -> None:
    curve = curve_of([0, 10, 20, 30], [None, 1.0, None, 2.5])
    assert curve.x.tolist() == [10.0, 30.0]
    assert curve.y.tolist() == [1.0, 2.5]


@pytest.mark.parametrize("n", [301, 302, 450, 599, 10_000])
def test_a_long_curve_keeps_its_ends_and_the_sum_of_what_is_between(n: int) -> None:
    rng = np.random.default_rng(n)
    curve = Curve(np.cumsum(rng.random(n)), rng.normal(size=n))
    thin = thinned(curve, 300)
    assert thin.x.size == 300
    assert (np.diff(thin.x) > 0).all()
    for own, whole in ((thin.x, curve.x), (thin.y, curve.y)):
        assert own[0] == whole[0]
        assert own[-1] == whole[-1]
    # 298 stretches of the n − 2 points between, in order and each point once
    edges = np.linspace(1, n - 1, 299).astype(int)
    plain = [curve.y[a:b].mean() for a, b in itertools.pairwise(edges)]
    assert edges[0] == 1
    assert edges[-1] == n - 1
    np.testing.assert_allclose(thin.y[1:-1], plain)


def test_a_short_curve_is_left_as_it_is() -> None:
    curve = line([0, 1, 2], [3, 1, 2])
    assert thinned(curve, 3) is curve


def test_runs_are_compared_where_all_of_them_are() -> None:
    spread = spread_of([line([0, 10, 20], [0, 10, 20]), line([5, 25], [1, 1])])
    assert spread is not None
    assert spread.x.tolist() == [5.0, 10.0, 20.0]
    assert spread.mean.tolist() == [3.0, 5.5, 10.5]
    assert spread.low.tolist() == [1.0, 1.0, 1.0]
    assert spread.high.tolist() == [5.0, 10.0, 20.0]


def test_runs_that_share_no_step_have_no_spread() -> None:
    assert spread_of([line([0, 1], [0, 0]), line([2, 3], [0, 0])]) is None
    assert spread_of([line([0, 1], [0, 0]), line([], [])]) is None
    assert spread_of([]) is None


def arm_of(generations: int) -> Any:
    """A group of one run of so many generations, behind which the last center is evaluated."""
    lines: list[dict[str, Any]] = [{}] * generations
    return SimpleNamespace(runs=[SimpleNamespace(members=lines, lines=[*lines, {}])])


def test_a_run_of_300_generations_is_drawn_whole_and_one_of_301_is_thinned() -> None:
    assert learning._caption([arm_of(300)]) == ""
    assert "(here up to 301) are shown as 300 points" in learning._caption([arm_of(301)])
    assert learning._drawn(line([*range(301)], [1.0] * 301)).x.size == 301
    assert learning._drawn(line([*range(302)], [1.0] * 302)).x.size == 300
