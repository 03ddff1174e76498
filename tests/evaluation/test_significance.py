"""The statistics against brute force, published examples, and what they promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esd.evaluation.significance import MOST_RELABELINGS, holm, permutation_test, student_interval

SMALL = st.lists(st.integers(0, 3), min_size=2, max_size=5)  # with many ties


def brute_force(first: list[int], second: list[int]) -> float:
    """By whole numbers, one relabeling after the other."""
    pooled, n, m = [*first, *second], len(first), len(second)

    def scaled_difference(chosen: tuple[int, ...]) -> int:
        inside = sum(pooled[i] for i in chosen)
        return n * inside - m * (sum(pooled) - inside)

    observed = scaled_difference(tuple(range(n, n + m)))
    all_of_them = [scaled_difference(c) for c in itertools.combinations(range(n + m), m)]
    above = sum(d >= observed for d in all_of_them)
    below = sum(d <= observed for d in all_of_them)
    return min(1.0, 2 * min(above, below) / len(all_of_them))


@settings(deadline=None, max_examples=400)
@given(
    SMALL,
    SMALL,
    st.sampled_from([(1.0, 0.0), (1e-3, 0.0), (0.1, 499.7), (1e6, -3e6), (1.0, 1e10), (0.3, -1e9)]),
)
def test_p_is_that_of_brute_force_also_with_ties_and_any_scale(
    first: list[int], second: list[int], scale: tuple[float, float]
) -> None:
    factor, shift = scale
    found = permutation_test(
        [factor * x + shift for x in first], [factor * x + shift for x in second]
    )
    assert found.p == pytest.approx(brute_force(first, second))
    assert found.exact
    assert found.relabelings == math.comb(len(first) + len(second), len(first))


def test_groups_that_dont_overlap_have_the_smallest_p() -> None:
    found = permutation_test([1, 2, 3, 4, 5], [6, 7, 8, 9, 10])
    assert found.p == found.smallest_p == pytest.approx(2 / 252)
    assert found.difference == 5.0
    assert permutation_test([1, 2], [3, 4]).smallest_p == pytest.approx(1 / 3)


def test_one_diverged_run_in_each_group_does_not_hide_the_others() -> None:
    first, second = [1.0, 2.0, 3.0, 4.0, -1e10], [11.0, 12.0, 13.0, 14.0, -1e10]
    assert permutation_test(first, second).p == pytest.approx(
        brute_force([1, 2, 3, 4, -(10**10)], [11, 12, 13, 14, -(10**10)])
    )


def test_more_relabelings_than_are_tried_are_drawn_the_same_every_time() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.0, 1.0, 12), rng.normal(1.0, 1.0, 12)
    found = permutation_test(first, second)
    assert not found.exact
    assert found.relabelings == math.comb(24, 12) > MOST_RELABELINGS
    assert found == permutation_test(first, second)
    assert found.p == pytest.approx(0.03, abs=0.03)
    apart = permutation_test(range(12), range(100, 112))
    assert apart.p == apart.smallest_p == pytest.approx(2 / MOST_RELABELINGS)


def test_the_edge_between_all_and_drawn_relabelings() -> None:
    assert permutation_test(range(9), range(9)).exact  # 48,620
    assert not permutation_test(range(9), range(11)).exact  # 167,960


def test_p_is_uniform_enough_when_there_is_no_difference() -> None:
    rng = np.random.default_rng(0)
    p = [permutation_test(*rng.normal(size=(2, 5))).p for _ in range(200)]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09


def test_holm_on_an_example_worked_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0.0, 1.0), max_size=8))
def test_holm_keeps_the_order_and_never_makes_p_smaller(p: list[float]) -> None:
    corrected = holm(p)
    assert all(before <= after <= 1.0 for before, after in zip(p, corrected, strict=True))
    for i, j in itertools.permutations(range(len(p)), 2):
        if p[i] < p[j]:
            assert corrected[i] <= corrected[j]


@pytest.mark.parametrize(
    ("n", "t"),
    [
        (2, 12.70620474),
        (5, 2.77644511),
        (11, 2.22813885),
        (12, 2.20098516),
        (16, 2.13144955),
        (31, 2.04227246),
        (101, 1.98397152),
    ],
)
def test_the_interval_is_students(n: int, t: float) -> None:
    """Quantiles as ``scipy.stats.t.ppf(0.975, n - 1)`` gives them."""
    values = np.random.default_rng(0).standard_normal(n)
    low, high = student_interval(values)
    assert (high - low) / 2 == pytest.approx(t * values.std(ddof=1) / math.sqrt(n), rel=3e-6)
    assert (high + low) / 2 == pytest.approx(values.mean())


def test_a_single_value_has_no_interval() -> None:
    assert np.isnan(student_interval(np.ones(1))).all()
