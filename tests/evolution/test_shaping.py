"""Fitness shaping: what the weights are, and that a failed evaluation ranks worst and can do no harm."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esd.evolution.shaping import (
    SHAPINGS,
    by_rank,
    centered_rank,
    centered_rank_unit,
    failed,
    log_rank_weights,
    raw,
    sign,
    standardize,
)

Float64s = npt.NDArray[np.float64]

INVARIANT = ("centered_rank", "centered_rank_unit", "standardize")
FAILURES = [np.nan, np.inf, -np.inf]

shapings = pytest.mark.parametrize("name", SHAPINGS)
shapings_of_members = pytest.mark.parametrize("name", [name for name in SHAPINGS if name != "sign"])
moderate = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
fitnesses = st.lists(moderate, min_size=2, max_size=40).map(lambda v: np.array(v, np.float64))


def slow_centered_rank(fitness: Float64s) -> list[float]:
    """By the definition: the number below minus the number above, halved and divided by n − 1."""
    values = [f if math.isfinite(f) else -math.inf for f in fitness.tolist()]
    return [
        0.5 * (sum(g < f for g in values) - sum(g > f for g in values)) / (len(values) - 1)
        for f in values
    ]


def test_centered_ranks_go_from_minus_to_plus_one_half() -> None:
    assert centered_rank(np.array([30.0, -10.0, 20.0, 0.0, 10.0])).tolist() == [
        0.5,
        -0.5,
        0.25,
        -0.25,
        0.0,
    ]


def test_ties_share_their_mean_rank() -> None:
    assert centered_rank(np.array([1.0, 5.0, 1.0, 9.0, 5.0])).tolist() == [
        -0.375,
        0.125,
        -0.375,
        0.5,
        0.125,
    ]


@settings(deadline=None, derandomize=True)
@given(fitness=st.lists(st.floats(width=16), min_size=2, max_size=40).map(np.array))
def test_centered_ranks_are_those_of_the_definition(fitness: Float64s) -> None:
    """Exactly: half-precision fitness gives many ties, NaN and infinities among them."""
    assert np.abs(centered_rank(fitness) - slow_centered_rank(fitness)).max() <= 2.0**-53


@settings(deadline=None, derandomize=True)
@given(fitness=fitnesses)
def test_centered_ranks_ignore_any_increasing_change_of_fitness(fitness: Float64s) -> None:
    assert np.array_equal(centered_rank(fitness), centered_rank(np.arctan(fitness / 1e6) + 7.0))


@pytest.mark.parametrize("size", [2, 3, 64, 501])
def test_deviation_of_the_two_scales_of_ranks(size: int) -> None:
    """√((n + 1)/(12(n − 1))) without ties, 0.289 for many members; and 1."""
    fitness = np.random.default_rng(1).permutation(size).astype(np.float64)
    expected = math.sqrt((size + 1) / (12 * (size - 1)))
    assert centered_rank(fitness).std() == pytest.approx(expected, rel=1e-12)
    assert centered_rank_unit(fitness).std() == pytest.approx(1.0, rel=1e-12)
    assert centered_rank_unit(fitness) == pytest.approx(
        centered_rank(fitness) / expected, rel=1e-12
    )


@settings(deadline=None, derandomize=True)
@given(fitness=fitnesses)
def test_standardized_fitness_is_the_z_score(fitness: Float64s) -> None:
    if np.ptp(fitness) == 0.0:
        return  # its own test below
    expected = (fitness - fitness.mean()) / fitness.std()
    assert np.abs(standardize(fitness) - expected).max() <= 1e-6  # of numpy's mean of 10⁶ ± 10⁻³
    assert math.fsum(standardize(fitness)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", ["centered_rank", "centered_rank_unit", "standardize"])
def test_exact_example_of_each_scale(name: str) -> None:
    """By hand: fitness 1, 2, 3, 6 has mean 3 and variance 3.5; its ranks have deviation √5/6."""
    expected = {
        "centered_rank": [-1 / 2, -1 / 6, 1 / 6, 1 / 2],
        "centered_rank_unit": [v / math.sqrt(5) for v in (-3, -1, 1, 3)],
        "standardize": [v / math.sqrt(3.5) for v in (-2, -1, 0, 3)],
    }[name]
    assert SHAPINGS[name](np.array([1.0, 2.0, 3.0, 6.0])) == pytest.approx(expected, rel=1e-14)


def test_raw_fitness_is_the_fitness() -> None:
    fitness = np.array([3.0, -2.5, 0.0, 1e30])
    assert np.array_equal(raw(fitness), fitness)


# ---- equal fitness


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 0.1, -217.3, 1e-300, 1e300])
@pytest.mark.parametrize("size", [2, 64, 256])
@pytest.mark.parametrize("name", INVARIANT)
def test_equal_fitness_gives_zeros(name: str, size: int, value: float) -> None:
    assert not SHAPINGS[name](np.full(size, value)).any()


@pytest.mark.parametrize("size", [6, 10, 100, 200, 500])
@pytest.mark.parametrize("name", INVARIANT)
def test_equal_fitness_gives_zeros_whatever_the_rounding_of_its_mean(name: str, size: int) -> None:
    """In float64 n·F/n need not be F, and a deviation of one ulp divided by itself would be ±1."""
    values = np.random.default_rng(2).normal(scale=100.0, size=500)
    assert not any(SHAPINGS[name](np.full(size, value)).any() for value in values)


# ---- failures


def test_nan_and_infinities_have_failed() -> None:
    fitness = np.array([0.0, np.nan, np.inf, -np.inf, 1e308])
    assert failed(fitness).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("name", ["centered_rank", "centered_rank_unit"])
def test_a_failure_ranks_strictly_below_every_finite_fitness(name: str, failure: float) -> None:
    shaped = SHAPINGS[name](np.array([5.0, failure, -1e300, 7.0]))
    assert shaped[1] < shaped[2] < shaped[0] < shaped[3]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("name", ["standardize", "raw"])
def test_a_failure_counts_as_the_smallest_finite_fitness_where_values_matter(
    name: str, failure: float
) -> None:
    shaped = SHAPINGS[name](np.array([5.0, failure, -3.0, 7.0]))
    assert np.array_equal(shaped, SHAPINGS[name](np.array([5.0, -3.0, -3.0, 7.0])))


@shapings
def test_all_failures_rank_the_same(name: str) -> None:
    shaped = SHAPINGS[name](np.array([1.0, np.nan, 2.0, np.inf, 3.0, -np.inf]))
    assert shaped[1] == shaped[3] == shaped[5] == shaped.min()
    assert np.isfinite(shaped).all()


@shapings
def test_if_every_member_failed_nothing_is_learned(name: str) -> None:
    assert not SHAPINGS[name](np.array([np.nan, np.inf, -np.inf, np.nan])).any()


@shapings
@settings(deadline=None, derandomize=True)
@given(
    fitness=st.lists(moderate | st.sampled_from(FAILURES), min_size=2, max_size=30).map(np.array)
)
def test_shaped_fitness_is_always_finite_and_leaves_its_argument_alone(
    name: str, fitness: Float64s
) -> None:
    fitness = fitness[: fitness.size // 2 * 2]  # whole pairs
    before = fitness.copy()
    shaped = SHAPINGS[name](fitness)
    assert shaped.shape == fitness.shape
    assert shaped.dtype == np.float64
    assert np.isfinite(shaped).all()
    assert np.array_equal(fitness, before, equal_nan=True)


@shapings_of_members
def test_fitness_near_the_largest_float_is_shaped_like_any_other(name: str) -> None:
    for fitness in ([1e308, 1e308, 1e308, -1e308], [1e200, 0.0, 1.0, 2.0]):
        shaped = SHAPINGS[name](np.array(fitness))
        assert np.isfinite(shaped).all()
        assert shaped[0] > shaped[-1]


# ---- order


@shapings_of_members
@settings(deadline=None, derandomize=True)
@given(fitness=fitnesses, seed=st.integers(0, 1000))
def test_weights_do_not_depend_on_the_order_of_members(
    name: str, fitness: Float64s, seed: int
) -> None:
    """Bit for bit: sums are exactly rounded."""
    order = np.random.default_rng(seed).permutation(fitness.size)
    assert np.array_equal(SHAPINGS[name](fitness)[order], SHAPINGS[name](fitness[order]))


# ---- signs of mirrored pairs


def test_the_better_member_of_a_pair_gets_one_half_the_other_minus_that_and_ties_nothing() -> None:
    fitness = np.array([3.0, 1.0, -1e300, 1e300, 2.0, 2.0])
    assert sign(fitness).tolist() == [0.5, -0.5, -0.5, 0.5, 0.0, 0.0]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_member_whose_mirror_failed_is_the_better_one(failure: float) -> None:
    fitness = np.array([failure, -1e308, 5.0, failure, failure, np.nan])
    assert sign(fitness).tolist() == [-0.5, 0.5, 0.5, -0.5, 0.0, 0.0]


@settings(deadline=None, derandomize=True)
@given(fitness=fitnesses, seed=st.integers(0, 1000))
def test_signs_of_pairs_do_not_depend_on_other_pairs(fitness: Float64s, seed: int) -> None:
    pairs = fitness[: fitness.size // 2 * 2].reshape(-1, 2)
    order = np.random.default_rng(seed).permutation(len(pairs))
    shuffled = sign(pairs[order].reshape(-1))
    assert np.array_equal(shuffled, sign(pairs.reshape(-1)).reshape(-1, 2)[order].reshape(-1))


# ---- values by rank


@settings(deadline=None, derandomize=True)
@given(fitness=st.lists(st.floats(width=16), min_size=2, max_size=40).map(np.array))
def test_values_by_rank_are_the_mean_over_the_ranks_that_ties_share(fitness: Float64s) -> None:
    values = np.linspace(1.0, -0.5, fitness.size) ** 3
    finite = [f if math.isfinite(f) else -math.inf for f in fitness.tolist()]
    expected = []
    for f in finite:
        better, equal = sum(g > f for g in finite), sum(g == f for g in finite)
        expected.append(values[better : better + equal].mean())
    assert by_rank(fitness, values) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_weights_of_log_ranks_are_zero_from_the_middle_on() -> None:
    expected = [math.log(4) - math.log(rank) for rank in (1, 2, 3)] + [0.0, 0.0, 0.0]
    assert log_rank_weights(6) == pytest.approx(expected, rel=1e-14)
