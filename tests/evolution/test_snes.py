"""SNES against its formulas in float64, and on slices against the whole."""

from __future__ import annotations

import numpy as np
import pytest

from esd.evolution import vectors
from esd.evolution.noise import Noise
from esd.evolution.snes import SNES
from tests.helpers import distributions as shared
from tests.helpers.oracles.distributions import PlainSNES

SIZE = 4096 + 300


def make(population: int = 20, noise: str = "gaussian", sigma: float = 0.1) -> SNES:
    return SNES(Noise(noise, shared.SEED), population, sigma)


@pytest.mark.parametrize("size", [1, 7, SIZE])
@pytest.mark.parametrize("population", [4, 20])
def test_updates_equal_the_formulas_in_float64(size: int, population: int) -> None:
    algorithm, h = make(population), shared.initial_h(size)
    state = algorithm.start(h)
    plain = PlainSNES(h.astype(np.float64), np.full(size, np.float32(0.1), np.float64))
    for t in range(30):
        fitness = np.random.default_rng(t).normal(size=population)
        plain.tell(shared.samples("gaussian", population, t, size), fitness)
        state = algorithm.tell(state, fitness)
    assert np.abs(plain.h - h).max() > 0.02, "h has not moved"
    assert np.abs(plain.sigma / 0.1 - 1).max() > 0.02, "σ has not moved"
    assert np.abs(state.h - plain.h).max() <= 1e-5
    assert state.vectors["sigma"] == pytest.approx(plain.sigma, rel=2e-5)
    assert state.scalars["sigma"] == pytest.approx(np.exp(np.log(plain.sigma).mean()), rel=1e-5)
    assert state.sigma_range == (
        float(state.vectors["sigma"].min()),
        float(state.vectors["sigma"].max()),
    )


def test_members_are_h_plus_and_minus_each_coordinates_sigma_times_epsilon() -> None:
    algorithm = make()
    state = algorithm.tell(algorithm.start(shared.initial_h(SIZE)), np.arange(20.0) ** 2)
    z = shared.samples("gaussian", 20, 1, SIZE).astype(np.float32)
    expected = state.h + state.vectors["sigma"] * z
    assert shared.asked(algorithm, state).tobytes() == expected.tobytes()


@pytest.mark.parametrize("piece", [4096, 65_536])
def test_slices_that_cover_h_are_the_bits_of_the_whole(
    piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "PIECE", piece)
    shared.assert_slices_are_the_whole(make(), 3 * 4096 + 17)


def test_a_member_has_the_same_bits_in_pieces_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "PIECE", 4096)
    algorithm = make()
    state = algorithm.tell(algorithm.start(shared.initial_h(SIZE)), np.arange(20.0) ** 2)
    shared.assert_members_are_the_same_piece_by_piece(algorithm, state)


def test_ties_and_failures_share_a_utility_and_utilities_sum_to_zero() -> None:
    u = make(6).utilities(np.array([1.0, np.nan, 1.0, 3.0, -np.inf, 1.0]))
    assert u[0] == u[2] == u[5]
    assert u[1] == u[4] == u.min()
    assert u[3] == u.max()
    assert abs(u.sum()) < 1e-15


def test_if_all_are_equal_nothing_moves() -> None:
    algorithm = make()
    state = algorithm.start(shared.initial_h(100))
    after = algorithm.tell(state, np.full(20, np.nan))
    assert np.array_equal(after.h, state.h)
    assert after.vectors["sigma"] == pytest.approx(state.vectors["sigma"], rel=1e-6)


def test_snes_converges_on_an_ill_conditioned_quadratic() -> None:
    """With axes that differ a hundredfold in length, which one σ for all coordinates would crawl on."""
    target = np.linspace(-1.0, 1.0, 10)
    f = shared.distances(target)
    algorithm = make(20, sigma=1.0)
    state = algorithm.start(np.zeros(10, np.float32))
    for _ in range(400):
        state = algorithm.tell(state, f(shared.asked(algorithm, state).astype(np.float64)))
    assert np.abs(state.h - target).max() < 1e-4
