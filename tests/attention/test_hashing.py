"""Buckets against the oracle, and what makes a hash locality-sensitive."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esd.attention.hashing import (
    angular,
    draw_positions,
    factorize,
    one_bucket,
    sampled_bits,
    signs,
)
from esd.errors import UsageError
from tests.helpers.oracles import lsh as oracle

Float32s = npt.NDArray[np.float32]


def vectors(seed: int, n: int, size: int) -> Float32s:
    return np.random.default_rng(seed).normal(size=(n, size)).astype(np.float32)


def at_angle(x: Float32s, angle: float) -> Float32s:
    """Vectors [n, size] of length 1 that are turned from those of x, of length 1 too, by this angle."""
    other = vectors(99, *x.shape)
    other -= (other * x).sum(axis=1, keepdims=True) * x
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    turned: Float32s = np.cos(angle) * x + np.sin(angle) * other
    return turned.astype(np.float32)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    seed=st.integers(0, 2**64 - 1),
    size=st.integers(1, 70),
    rounds=st.integers(1, 5),
    factors=st.lists(st.sampled_from([2, 4, 6, 16, 40]), min_size=1, max_size=3),
    layer=st.integers(0, 2**32 - 1),
)
def test_buckets_are_the_oracles(
    seed: int, size: int, rounds: int, factors: list[int], layer: int
) -> None:
    x = vectors(0, 20, size)
    rows = oracle.rotations(seed, size, rounds, factors, layer)
    found = angular(seed, size, rounds, factors, layer)(x)
    assert np.array_equal(found, oracle.buckets(x, rows, factors))


def test_more_rounds_leave_those_before_as_they_are() -> None:
    x = vectors(1, 200, 33)
    assert np.array_equal(angular(5, 33, 7, 64)(x)[:3], angular(5, 33, 3, 64)(x))


def test_rounds_seeds_and_layers_share_nothing() -> None:
    x = vectors(2, 400, 64)
    hashes = [angular(seed, 64, 2, 64, layer)(x) for seed, layer in ((0, 0), (1, 0), (0, 1))]
    rows = [row for found in hashes for row in found]
    for k, row in enumerate(rows):
        for other in rows[:k]:
            assert (row == other).mean() < 0.1


def test_a_vector_is_hashed_alike_among_others_alone_and_at_any_length() -> None:
    x = vectors(3, 50, 20)
    hashed = angular(1, 20, 3, (8, 8))
    for t in range(50):
        assert np.array_equal(hashed(x)[:, t], hashed(x[t : t + 1])[:, 0])
    assert np.array_equal(hashed(x), hashed(4 * x))


@pytest.mark.parametrize(("size", "buckets"), [(64, 2), (64, 64), (64, 256), (64, 4096), (16, 256)])
def test_buckets_are_hardly_more_crowded_than_if_they_were_drawn(size: int, buckets: int) -> None:
    """Two random directions share one of B with a probability of 1/B at best."""
    crowding = []
    for seed in range(4):
        found = angular(seed, size, 1, buckets)(vectors(4, 100 * buckets, size))[0]
        crowding.append(np.sum(np.square(np.bincount(found) / found.size)) * buckets)
    assert np.mean(crowding) < 1.8


@settings(deadline=None, derandomize=True, max_examples=30)
@given(seed=st.integers(0, 2**64 - 1), size=st.integers(1, 40), buckets=st.sampled_from([2, 8, 64]))
def test_projections_are_rows_of_rotations(seed: int, size: int, buckets: int) -> None:
    hashed = angular(seed, size, 2, buckets)
    rows = hashed.projections.reshape(size, -1)[:, :buckets].T.astype(np.float64)
    for one_round in np.split(rows, 2):
        for start in range(0, buckets // 2, size):
            part = one_round[start : start + size]
            assert np.allclose(part @ part.T, np.eye(len(part)), atol=1e-5)


def test_angular_hashing_is_locality_sensitive() -> None:
    x = vectors(5, 2000, 64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    hashed = angular(0, 64, 8, 256)
    shares = [
        (hashed(x) == hashed(at_angle(x, angle))).mean() for angle in (0.0, 0.1, 0.3, 0.8, 1.57)
    ]
    assert shares[0] == 1.0
    assert np.all(np.diff(shares) < 0)
    assert shares[1] > 0.5
    assert shares[-1] < 0.02


def test_a_sign_differs_with_a_probability_of_angle_over_pi() -> None:
    """Charikar 2002: for random hyperplanes."""
    x = vectors(6, 4000, 32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    hashed = signs(3, 32, 24, 1)
    for angle in (0.2, 1.0, 2.5):
        differ = (hashed(x) != hashed(at_angle(x, angle))).mean()
        assert abs(differ - angle / math.pi) < 0.03


def test_a_bucket_of_signs_spells_them() -> None:
    x = vectors(7, 100, 10)
    rows = oracle.rotations(3, 10, 2, (2,) * 5, 0)
    for r, found in enumerate(signs(3, 10, 2, 5)(x)):
        negative = (x @ rows[r].T < 0).astype(int)
        assert np.array_equal(found, negative @ [16, 8, 4, 2, 1])


def test_signs_are_no_linear_code() -> None:
    """The syndrome of a sum (exclusive or) of binary vectors would be the sum of syndromes."""
    a, b = np.random.default_rng(0).integers(0, 2, (2, 500, 40))
    hashed = signs(0, 40, 1, 6)
    separate = hashed((1 - 2 * a).astype(np.float32)) ^ hashed((1 - 2 * b).astype(np.float32))
    together = hashed((1 - 2 * (a ^ b)).astype(np.float32))
    assert (separate == together).mean() < 0.2


def test_a_hundred_bits_fall_into_four_bins_by_the_first_two() -> None:
    x = np.random.default_rng(0).integers(0, 2, (300, 100))
    hashed = sampled_bits(100, [[0, 1]])
    assert hashed.buckets == 4
    expected = 2 * x[:, 0] + x[:, 1]
    assert np.array_equal(hashed(x.astype(np.float32))[0], expected)
    assert np.array_equal(hashed((2 * x - 1).astype(np.float32))[0], expected)


def test_sampled_bits_are_linear_and_locality_sensitive() -> None:
    """A vector with k of 100 bits flipped stays in its bin with probability C(98, k)/C(100, k)."""
    rng = np.random.default_rng(1)
    x = rng.integers(0, 2, (400, 100))
    hashed = sampled_bits(100, draw_positions(8, 100, 60, 2))
    for flipped in (1, 10, 40):
        noise = np.zeros_like(x)
        for row in noise:
            row[rng.choice(100, flipped, replace=False)] = 1
        here, there = (hashed(y.astype(np.float32)) for y in (x, x ^ noise))
        assert np.array_equal(there, here ^ hashed(noise.astype(np.float32)))
        expected = math.comb(98, flipped) / math.comb(100, flipped)
        assert abs((here == there).mean() - expected) < 0.03


def test_a_dense_random_syndrome_is_not_locality_sensitive() -> None:
    """Why bits are sampled: one flipped bit changes half of the checks."""
    rng = np.random.default_rng(2)
    checks = rng.integers(0, 2, (100, 64))
    x = rng.integers(0, 2, (200, 100))
    flipped = x.copy()
    flipped[np.arange(200), rng.integers(0, 100, 200)] ^= 1
    changed = (x @ checks % 2 != flipped @ checks % 2).mean()
    assert 0.4 < changed < 0.6


def test_drawn_positions_differ_within_a_round_and_between_rounds() -> None:
    rows = draw_positions(1, 100, 20, 5)
    assert all(len(set(row)) == 5 for row in rows)
    assert len({tuple(row) for row in rows}) == 20
    assert draw_positions(1, 100, 3, 5) == rows[:3]


def test_zeros_and_nan_have_a_bucket() -> None:
    x = np.array([[0.0] * 5, [np.nan] * 5, [np.inf] * 5, [1e38] * 5], np.float32)
    found = angular(0, 5, 6, (4, 6))(x)
    assert found.min() >= 0
    assert found.max() < 24
    assert (one_bucket(5)(x) == one_bucket(5)(x)[:, :1]).all()


def test_as_many_bits_as_an_integer_holds_can_be_sampled() -> None:
    ones = np.ones((1, 70), np.float32)
    assert sampled_bits(70, [list(range(63))])(ones)[0, 0] == 2**63 - 1


def test_many_buckets_are_two_even_factors() -> None:
    assert factorize(64) == (64,)
    assert factorize(256) == (16, 16)
    assert factorize(4096) == (64, 64)
    for buckets in range(68, 2000, 4):
        first, second = factorize(buckets)
        assert first % 2 == second % 2 == 0
        assert first * second == buckets


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: angular(0, 8, 1, 7), "expected even numbers"),
        (lambda: angular(0, 8, 1, 0), "expected even numbers"),
        (lambda: angular(0, 8, 1, ()), "expected even numbers"),
        (lambda: angular(0, 8, 1, 130), "130 buckets have no two even factors"),
        (lambda: angular(0, 8, 1, (2**32, 2**32)), "a product of at most 2⁶³"),
        (lambda: signs(0, 8, 1, 64), "a product of at most 2⁶³"),
        (lambda: sampled_bits(80, [list(range(64))]), "a product of at most 2⁶³"),
        (lambda: angular(0, 8, 0, 8), "0 rounds"),
        (lambda: angular(0, 0, 1, 8), "0 coordinates"),
        (lambda: sampled_bits(8, [[8]]), "expected 1 positions from 0 to 7"),
        (lambda: sampled_bits(8, [[1, 2], [3]]), "expected 2 positions"),
        (lambda: draw_positions(0, 3, 1, 4), "4 different bits"),
        (lambda: angular(0, 8, 1, 8)(np.zeros((3, 7), np.float32)), r"expected \[n, 8\]"),
    ],
)
def test_what_can_not_be_hashed_is_refused(make: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()  # type: ignore[operator]
