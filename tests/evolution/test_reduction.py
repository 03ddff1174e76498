"""From returns on several bodies to one fitness: pure functions, and their laws."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from esd.config.settings import Config, VariantsConfig
from esd.evolution.records import Records, Status
from esd.evolution.reduction import REDUCTIONS, center_return, reduced_return
from esd.evolution.shaping import centered_rank

RETURNS = np.array([[1.0, 200.0], [3.0, 100.0], [2.0, 400.0], [5.0, 0.0]])
tables = st.tuples(st.integers(2, 9), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-1e6, 1e6))
)


def test_each_reduction_by_hand() -> None:
    assert REDUCTIONS["mean"](RETURNS).tolist() == [100.5, 51.5, 201.0, 2.5]
    assert REDUCTIONS["min"](RETURNS).tolist() == [1.0, 3.0, 2.0, 0.0]
    # ranks 0 2 1 3 on the first body, 2 1 3 0 on the second, of three steps from −½ to ½
    expected = (np.array([0 + 2, 2 + 1, 1 + 3, 3 + 0]) / 3 - 1) / 2
    np.testing.assert_allclose(REDUCTIONS["mean_of_ranks"](RETURNS), expected)


@given(tables)
def test_the_mean_of_ranks_is_that_of_exact_fractions(returns: np.ndarray) -> None:
    """So that members with the same sum of ranks are tied, whatever the order of the sums."""
    n, variants = returns.shape
    ranks = [
        sum(
            (np.sum(column < x) + np.sum(column <= x) - 1)
            for x, column in zip(row, returns.T, strict=True)
        )
        for row in returns
    ]
    exact = [
        float(Fraction(int(twice), 2 * variants * (n - 1)) - Fraction(1, 2)) for twice in ranks
    ]
    assert REDUCTIONS["mean_of_ranks"](returns).tolist() == exact


def test_runs_of_older_formats_keep_the_rounded_ranks() -> None:
    tied = np.array([[0, 0], [1, 1], [2, 4], [3, 3], [4, 2], [5, 5]], np.float64)
    new, old = (
        Config(variants=VariantsConfig("mean_of_ranks")),
        Config(variants=VariantsConfig("mean_of_ranks"), format=2),
    )
    assert (new.reduction, old.reduction) == ("mean_of_ranks", "mean_of_rounded_ranks")
    assert (Config(format=2).reduction, Config().reduction) == ("mean", "mean")
    assert len(set(REDUCTIONS[new.reduction](tied)[2:5])) == 1
    assert len(set(REDUCTIONS[old.reduction](tied)[2:5])) == 2


@given(tables)
def test_one_variant_is_the_return_itself_or_its_rank(returns: np.ndarray) -> None:
    alone = returns[:, :1]
    for name in ("mean", "min"):
        np.testing.assert_array_equal(REDUCTIONS[name](alone), alone[:, 0])
    np.testing.assert_array_equal(REDUCTIONS["mean_of_ranks"](alone), centered_rank(alone[:, 0]))


@given(tables, st.floats(1.0, 1e3))
def test_ranks_do_not_ask_in_what_unit_a_body_is_measured(
    returns: np.ndarray, factor: float
) -> None:
    scaled = returns.copy()
    scaled[:, -1] *= 2.0 ** round(math.log2(factor))  # exact, so that ties stay ties
    ranks = REDUCTIONS["mean_of_ranks"]
    np.testing.assert_array_equal(ranks(scaled), ranks(returns))


@pytest.mark.parametrize("name", REDUCTIONS)
def test_a_member_that_failed_on_one_body_has_no_fitness_and_the_others_keep_theirs(
    name: str,
) -> None:
    returns = RETURNS.copy()
    returns[1, 0] = np.nan
    fitness = REDUCTIONS[name](returns)
    assert np.isnan(fitness).tolist() == [False, True, False, False]
    if name not in ("mean_of_ranks", "mean_of_rounded_ranks"):
        np.testing.assert_array_equal(
            np.delete(fitness, 1), REDUCTIONS[name](np.delete(returns, 1, 0))
        )


def test_the_penalty_is_taken_off_the_return_on_every_body_before_anything_is_reduced() -> None:
    records = Records(4, 0, 0, 2)
    for row, returns in enumerate(RETURNS):
        records.write(
            row,
            returns=returns.tolist(),
            steps=1,
            episodes=2,
            status=Status.DONE,
            penalty=2.0 * row,
        )
    penalized = RETURNS - 2.0 * np.arange(4)[:, None]
    for name, reduction in REDUCTIONS.items():
        np.testing.assert_array_equal(records.fitness(name), reduction(penalized))
    np.testing.assert_array_equal(records.returns, RETURNS)


def test_the_centers_return_reduces_the_means_of_the_bodies() -> None:
    episodes = np.array([[1.0, 9.0], [9.0, 5.0]])
    assert center_return("min", episodes) == 5.0  # not the mean of the worst episodes, 3
    assert center_return("mean", episodes) == center_return("mean_of_ranks", episodes) == 6.0
    assert reduced_return("min", episodes).tolist() == [1.0, 5.0]
