"""Law 2: a perturbation is a pure function of (seed, generation, member, coordinate)."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esd.evolution.noise import (
    NOISE_KINDS,
    Noise,
    Purpose,
    key_words,
    normals,
    normals_of_seeds,
    uniforms,
    uniforms_of_seeds,
    words,
)
from tests.helpers.oracles import philox as oracle

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

SEED = 0xC0FFEE123456789
WHOLE = 8_192

kinds = pytest.mark.parametrize("kind", NOISE_KINDS)
coordinates = st.integers(0, WHOLE)
bounds = st.tuples(coordinates, coordinates).map(sorted)


def same_bits(a: Float32s, b: Float32s) -> bool:
    return a.dtype == b.dtype == np.float32 and np.array_equal(a.view("u4"), b.view("u4"))


def accumulated(
    noise: Noise, weights: Float32s, generation: int, start: int, stop: int
) -> Float32s:
    out = np.full(stop - start, np.nan, np.float32)
    noise.accumulate(weights, generation, out, start)
    return out


def some_weights(pairs: int) -> Float32s:
    """Like shaped fitness: either sign, some exactly zero."""
    weights = normals(5, Purpose.INITIAL_H, pairs)
    weights[3::7] = 0.0
    return weights


# ---- slices


@kinds
@settings(deadline=None, derandomize=True, max_examples=60)
@given(bounds=bounds, pair=st.integers(0, 2**32 - 1), generation=st.integers(0, 2**32 - 1))
def test_any_slice_equals_the_slice_of_the_whole(
    kind: str, bounds: list[int], pair: int, generation: int
) -> None:
    noise = Noise(kind, SEED)
    start, stop = bounds
    whole = noise.epsilon(pair, generation, 0, WHOLE)
    assert same_bits(noise.epsilon(pair, generation, start, stop), whole[start:stop])


@kinds
@settings(deadline=None, derandomize=True, max_examples=40)
@given(bounds=bounds, member=st.integers(0, 63), generation=st.integers(0, 2**32 - 1))
def test_any_slice_of_a_member_equals_the_slice_of_the_whole(
    kind: str, bounds: list[int], member: int, generation: int
) -> None:
    noise = Noise(kind, SEED)
    start, stop = bounds
    h = normals(1, Purpose.INITIAL_H, WHOLE)
    whole, part = np.empty_like(h), np.empty(stop - start, np.float32)
    noise.perturb(h, 0.1, member, generation, whole)
    noise.perturb(h[start:stop], 0.1, member, generation, part, start)
    assert same_bits(part, whole[start:stop])


@kinds
@settings(deadline=None, derandomize=True, max_examples=40)
@given(cuts=st.lists(coordinates, max_size=6).map(sorted), generation=st.integers(0, 2**32 - 1))
def test_accumulate_over_any_partition_gives_the_bits_of_the_whole(
    kind: str, cuts: list[int], generation: int
) -> None:
    noise = Noise(kind, SEED)
    weights = some_weights(12)
    edges = [0, *cuts, WHOLE]
    parts = [accumulated(noise, weights, generation, a, b) for a, b in itertools.pairwise(edges)]
    assert same_bits(np.concatenate(parts), accumulated(noise, weights, generation, 0, WHOLE))


@kinds
def test_coordinates_beyond_32_bits_are_reached(kind: str) -> None:
    start = 5 * 10**9
    actual = Noise(kind, SEED).epsilon(3, 4, start, start + 2_000)
    assert same_bits(actual, oracle.epsilon(kind, SEED, 3, 4, start, start + 2_000))


# ---- members


@kinds
@pytest.mark.parametrize("member", [0, 1, 2, 3, 198, 199])
def test_a_member_equals_the_oracles_bit_for_bit(kind: str, member: int) -> None:
    h = normals(2, Purpose.INITIAL_H, 3_000)
    out = np.empty_like(h)
    Noise(kind, SEED).perturb(h, 0.07, member, 12, out, start=500)
    assert same_bits(out, oracle.perturb(kind, SEED, h, 0.07, member, 12, start=500))


@kinds
@pytest.mark.parametrize("pair", [0, 1, 77])
def test_mirrored_members_share_one_epsilon_with_opposite_signs(kind: str, pair: int) -> None:
    noise = Noise(kind, SEED)
    epsilon = noise.epsilon(pair, 9, 0, 5_000)
    sigma, zero = np.float32(0.3), np.zeros(5_000, np.float32)
    plus, minus = np.empty_like(zero), np.empty_like(zero)
    noise.perturb(zero, 0.3, 2 * pair, 9, plus)
    noise.perturb(zero, 0.3, 2 * pair + 1, 9, minus)
    assert np.array_equal(plus, sigma * epsilon)
    assert np.array_equal(minus, -plus)
    h = normals(2, Purpose.INITIAL_H, 5_000)
    noise.perturb(h, 0.3, 2 * pair, 9, plus)
    noise.perturb(h, 0.3, 2 * pair + 1, 9, minus)
    assert same_bits(plus, h + sigma * epsilon)
    assert same_bits(minus, h - sigma * epsilon)


@kinds
def test_perturbing_leaves_h_alone_and_may_write_over_it(kind: str) -> None:
    noise = Noise(kind, SEED)
    h = normals(2, Purpose.INITIAL_H, 3_000)
    before, out = h.copy(), np.empty_like(h)
    noise.perturb(h, 0.1, 5, 1, out)
    assert same_bits(h, before)
    noise.perturb(h, 0.1, 5, 1, h)
    assert same_bits(h, out)


@kinds
def test_order_and_repetition_of_calls_change_nothing(kind: str) -> None:
    noise = Noise(kind, SEED)
    once = [noise.epsilon(pair, 1, 0, 1_500) for pair in range(6)]
    again = [Noise(kind, SEED).epsilon(pair, 1, 0, 1_500) for pair in reversed(range(6))]
    assert all(same_bits(a, b) for a, b in zip(once, reversed(again), strict=True))


# ---- the sum


@kinds
def test_accumulate_equals_the_oracle_that_adds_pair_after_pair(kind: str) -> None:
    weights = some_weights(40)
    actual = accumulated(Noise(kind, SEED), weights, 7, 100, 5_100)
    assert same_bits(actual, oracle.accumulate(kind, SEED, weights, 7, 100, 5_100))


def test_the_order_of_pairs_shows_in_the_bits() -> None:
    """Without this the test above could not tell one order from another."""
    weights = some_weights(40)
    terms = [w * oracle.epsilon("gaussian", SEED, p, 7, 100, 5_100) for p, w in enumerate(weights)]
    backwards = np.zeros(5_000, np.float32)
    for term in reversed(terms):
        backwards = backwards + term
    assert not same_bits(accumulated(Noise("gaussian", SEED), weights, 7, 100, 5_100), backwards)


@kinds
def test_accumulate_is_the_weighted_sum(kind: str) -> None:
    """Within (pairs + 1) roundings of 2⁻²⁴ of the sum of magnitudes, the bound for any order."""
    weights = some_weights(200)
    exact = oracle.accumulate64(kind, SEED, weights.astype(np.float64), 3, 0, 4_000)
    magnitudes = sum(
        abs(float(w)) * np.abs(oracle.epsilon(kind, SEED, p, 3, 0, 4_000).astype(np.float64))
        for p, w in enumerate(weights)
    )
    error = np.abs(accumulated(Noise(kind, SEED), weights, 3, 0, 4_000) - exact)
    assert np.all(error <= 201 * 2.0**-24 * magnitudes)


@kinds
def test_passing_over_zero_weights_changes_no_bit(kind: str) -> None:
    """Adding 0·ε pair by pair, as the oracle does, gives the same; also for −0 and for the sign of a zero sum."""
    noise = Noise(kind, SEED)
    weights = some_weights(30)
    weights[[0, 5, 29]] = -0.0
    with_zeros = np.zeros(2_000, np.float32)
    for pair, weight in enumerate(weights):
        with_zeros = with_zeros + weight * noise.epsilon(pair, 8, 0, 2_000)
    assert same_bits(accumulated(noise, weights, 8, 0, 2_000), with_zeros)
    nothing = accumulated(noise, np.array([0.0, -0.0], np.float32), 8, 0, 2_000)
    assert same_bits(nothing, np.zeros(2_000, np.float32))


def test_integer_weights_and_binomial_noise_add_exactly() -> None:
    weights = np.arange(-20, 21, dtype=np.float32)
    exact = oracle.accumulate64("binomial", SEED, weights.astype(np.float64), 1, 0, 3_000)
    assert np.array_equal(accumulated(Noise("binomial", SEED), weights, 1, 0, 3_000), exact)


# ---- names


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**64 - 1, -1])
def test_a_seed_is_64_bits_low_word_first(seed: int) -> None:
    low, high = key_words(seed)
    assert (int(high) << 32) | int(low) == seed % 2**64


def test_words_are_the_oracles_words_of_their_coordinates() -> None:
    for coordinates in [(), (1,), (1, 2), (1, 2, 3), (2**32 - 1, 0, 2**32 - 1)]:
        first, second, third = [*coordinates, 0, 0, 0][:3]
        expected = oracle.stream(SEED, Purpose.TEST_EPISODE, second, third, first, 1)[:, 0]
        assert np.array_equal(words(SEED, Purpose.TEST_EPISODE, *coordinates), expected)


def test_normals_and_uniforms_are_the_oracles_streams() -> None:
    purpose = Purpose.INITIAL_WEIGHTS
    expected = oracle.epsilon("gaussian", SEED, 3, 4, 0, 3_000, purpose)
    assert same_bits(normals(SEED, purpose, 3_000, 3, 4), expected)
    expected = oracle.epsilon("uniform", SEED, 3, 4, 0, 3_000, purpose)
    assert same_bits(uniforms(SEED, purpose, 3_000, 3, 4), expected)


@kinds
def test_perturbations_share_no_stream_with_other_purposes(kind: str) -> None:
    """In particular Δh's own noise does not come back as an initial weight or an episode's seed."""
    actual = Noise(kind, SEED).epsilon(1, 2, 0, 2_048)
    for purpose in Purpose:
        expected = oracle.epsilon(kind, SEED, 1, 2, 0, 2_048, purpose)
        assert same_bits(actual, expected) == (purpose is Purpose.PERTURBATION)


# ---- many members at once


@kinds
def test_many_members_are_perturbed_as_each_is_alone(kind: str) -> None:
    noise, h = Noise(kind, SEED), normals(3, Purpose.INITIAL_H, 1500)
    members = [6, 7, -1, 0, 2**32 - 1]
    together = np.full((len(members), h.size), np.nan, np.float32)
    noise.perturb_many(h, 0.3, np.array(members, np.int64), 9, together)
    for member, own in zip(members, together, strict=True):
        alone = h.copy()
        if member >= 0:
            noise.perturb(h, 0.3, member, 9, alone)
        assert same_bits(own, alone), member
    assert not same_bits(together[0], together[1])


def test_the_streams_of_many_seeds_are_those_of_each() -> None:
    seeds = np.array([0, 5, SEED, 2**64 - 1], np.uint64)
    for draw, draw_many in ((normals, normals_of_seeds), (uniforms, uniforms_of_seeds)):
        together = draw_many(seeds, Purpose.INITIAL_WEIGHTS, 1100)
        for seed, own in zip(seeds.tolist(), together, strict=True):
            assert same_bits(own, draw(seed, Purpose.INITIAL_WEIGHTS, 1100))
