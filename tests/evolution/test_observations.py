"""Observation statistics: folded in member order, robust to a member whose physics exploded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from esd.evolution.observations import ObservationStatistics

Float64s = npt.NDArray[np.float64]
Sums = tuple[Float64s, Float64s, Float64s]


def some_observations(members: int = 7, size: int = 3) -> list[Float64s]:
    """Observations [steps, size] of each member, as float32 gives them, with different lengths and scales."""
    rng = np.random.default_rng(5)
    scales, shifts = np.array([1.0, 100.0, 0.01])[:size], np.array([0.0, 30.0, -0.5])[:size]
    return [
        (scales * rng.normal(size=(20 + 13 * m, size)) + shifts)
        .astype(np.float32)
        .astype(np.float64)
        for m in range(members)
    ]


def sums_of(observations: list[Float64s]) -> Sums:
    """What the members' records carry: counts [members], sums and squares [members, size]."""
    return (
        np.array([float(len(o)) for o in observations]),
        np.stack([o.sum(axis=0) for o in observations]),
        np.stack([(o * o).sum(axis=0) for o in observations]),
    )


def same(a: ObservationStatistics, b: ObservationStatistics) -> bool:
    return (
        a.count == b.count
        and a.sums.tobytes() == b.sums.tobytes()
        and a.squares.tobytes() == b.squares.tobytes()
    )


def test_before_any_data_the_scale_is_the_identity() -> None:
    mean, inverse_deviation = ObservationStatistics.empty(4).scale()
    assert mean.tolist() == [0.0] * 4
    assert inverse_deviation.tolist() == [1.0] * 4


def test_size_is_the_number_of_observed_numbers() -> None:
    assert ObservationStatistics.empty(4).size == 4
    assert ObservationStatistics.empty(0).size == 0


def test_scale_agrees_with_numpys_mean_and_deviation_of_all_observations() -> None:
    observations = some_observations()
    mean, inverse_deviation = ObservationStatistics.empty(3).fold(*sums_of(observations)).scale()
    everything = np.concatenate(observations)
    assert mean == pytest.approx(everything.mean(axis=0), rel=1e-12)
    expected = 1.0 / np.sqrt(everything.var(axis=0) + 1e-8)
    assert inverse_deviation == pytest.approx(expected, rel=1e-9)
    normalized = (everything - mean) * inverse_deviation
    assert normalized.mean(axis=0) == pytest.approx(np.zeros(3), abs=1e-10)
    assert normalized.std(axis=0) == pytest.approx(np.ones(3), abs=1e-4)  # 1e-8 beside 0.01²


def test_generations_add_up_to_the_statistics_of_all() -> None:
    observations = some_observations(8)
    first = ObservationStatistics.empty(3).fold(*sums_of(observations[:4]))
    both = first.fold(*sums_of(observations[4:]))
    everything = np.concatenate(observations)
    assert both.count == len(everything)
    assert both.scale()[0] == pytest.approx(everything.mean(axis=0), rel=1e-12)


def test_folding_is_addition_member_by_member_in_order() -> None:
    """Bit for bit the left-to-right sum, starting from what was there; these numbers tell any other order apart."""
    counts = np.ones(4)
    sums = np.array([[2.0**54], [1.0], [1.0], [-(2.0**54)]])
    squares = np.array([[2.0**54], [2.0], [2.0], [2.0]])
    start = ObservationStatistics(3.0, np.array([1.0]), np.array([0.0]))
    folded = start.fold(counts, sums, squares)
    assert folded.count == 7.0
    assert folded.sums.tolist() == [
        0.0
    ]  # every 1 was lost; summed apart from the start, one would be left
    assert folded.squares.tolist() == [2.0**54]  # pairs of them would not have been


def test_folding_all_members_equals_folding_one_after_the_other() -> None:
    """Whatever the ranks that evaluated them: the same bits."""
    counts, sums, squares = sums_of(some_observations())
    at_once = ObservationStatistics.empty(3).fold(counts, sums, squares)
    stepwise = ObservationStatistics.empty(3)
    for m in range(counts.size):
        stepwise = stepwise.fold(counts[m : m + 1], sums[m : m + 1], squares[m : m + 1])
    assert same(at_once, stepwise)


@pytest.mark.parametrize("where", ["sums", "squares"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("member", [0, 3, 6])
def test_a_member_that_is_not_finite_is_passed_over_whole(
    where: str, value: float, member: int
) -> None:
    """Its count too, and the others' sums as if it had not been there."""
    counts, sums, squares = sums_of(some_observations())
    {"sums": sums, "squares": squares}[where][member, 1] = value
    others = np.arange(7) != member
    expected = ObservationStatistics.empty(3).fold(counts[others], sums[others], squares[others])
    assert same(ObservationStatistics.empty(3).fold(counts, sums, squares), expected)


def test_members_that_all_exploded_change_nothing() -> None:
    counts, sums, squares = sums_of(some_observations())
    before = ObservationStatistics.empty(3).fold(counts, sums, squares)
    assert same(before.fold(counts, np.full_like(sums, np.nan), squares), before)


def test_folding_leaves_its_arguments_alone() -> None:
    counts, sums, squares = sums_of(some_observations())
    before = ObservationStatistics.empty(3).fold(counts, sums, squares)
    arrays = [before.sums, before.squares, counts, sums, squares]
    copies = [array.copy() for array in arrays]
    before.fold(counts, sums, squares)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, copies, strict=True))


def test_counts_and_sums_of_different_lengths_are_refused() -> None:
    counts, sums, squares = sums_of(some_observations())
    with pytest.raises(ValueError, match="zip"):
        ObservationStatistics.empty(3).fold(counts[:-1], sums, squares)


def test_a_constant_observation_is_scaled_by_the_floor_and_stays_finite() -> None:
    """Variance 0 + 1e-8: the factor is 10⁴, and rounding never makes the variance negative."""
    for value in (0.0, 0.1, 3.3, 1e3):
        observations = [np.full((10, 1), value) for _ in range(9)]
        mean, inverse_deviation = (
            ObservationStatistics.empty(1).fold(*sums_of(observations)).scale()
        )
        assert mean[0] == pytest.approx(value)
        assert np.isfinite(inverse_deviation[0])
        assert 0.0 < inverse_deviation[0] <= 1e4


def test_where_rounding_makes_a_variance_negative_it_counts_as_0() -> None:
    x = np.full(1000, 12345.678)
    sums, squares = x.sum(), (x * x).sum()
    assert squares / 1000 - (sums / 1000) ** 2 < -1e-8  # more than the floor makes up for
    statistics = ObservationStatistics(1000.0, np.array([sums]), np.array([squares]))
    np.testing.assert_allclose(statistics.scale()[1], [1e4])
