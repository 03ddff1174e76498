"""PGPE against its formulas in float64, with every optimizer, and on slices against the whole."""

from __future__ import annotations

import numpy as np
import pytest

from esd.config.kinds import OPTIMIZERS
from esd.evolution import vectors
from esd.evolution.noise import Noise
from esd.evolution.optimizers import make_optimizer
from esd.evolution.pgpe import PGPE
from esd.evolution.schedules import Decay
from tests.helpers import distributions as shared
from tests.helpers.oracles.distributions import PlainPGPE

POPULATION = 20
SIZE = 4096 + 300
RATES = {"sgd": 0.5, "momentum": 0.2, "adam": 0.02, "clipup": 0.3}

optimizers = pytest.mark.parametrize("optimizer", OPTIMIZERS.built_in)


def make(optimizer: str, noise: str = "gaussian", weight_decay: float = 0.0) -> PGPE:
    rate = Decay(RATES.get(optimizer, 0.02), 0.95)
    made = make_optimizer(optimizer)
    return PGPE(
        Noise(noise, shared.SEED), POPULATION, 0.1, rate, made, weight_decay=weight_decay,
        sigma_learning_rate=0.8,
    )  # fmt: skip


@pytest.mark.parametrize("optimizer", RATES)
def test_updates_equal_the_formulas_in_float64(optimizer: str) -> None:
    """Twenty generations with weight decay and a decaying α; σ moves, also as far as its limit.

    Tolerances: h is of the order of 4, whose last place is 2.4e-7; σ of 0.1.
    """
    algorithm = make(optimizer, weight_decay=0.1)
    h = shared.initial_h(SIZE)
    state = algorithm.start(h)
    plain = PlainPGPE(
        h.astype(np.float64), np.full(SIZE, np.float32(0.1), np.float64), optimizer,
        RATES[optimizer], 0.95, sigma_alpha=0.8, decay=0.1,
    )  # fmt: skip
    limited = False
    for t in range(20):
        fitness = np.random.default_rng(t).normal(size=POPULATION)
        before = plain.sigma
        plain.tell(shared.samples("gaussian", POPULATION, t, SIZE), fitness)
        state = algorithm.tell(state, fitness)
        limited |= np.isclose(np.abs(plain.sigma / before - 1).max(), 0.2)
    assert limited, "the limit was not met"
    assert np.abs(plain.h - h).max() > 0.05, "h has not moved"
    assert np.ptp(plain.sigma) > 0.1, "σ has not moved"
    assert np.abs(state.h - plain.h).max() <= 2e-5
    assert state.vectors["sigma"] == pytest.approx(plain.sigma, rel=2e-5)
    assert state.scalars["sigma"] == pytest.approx(np.exp(np.log(plain.sigma).mean()), rel=1e-5)
    assert state.sigma_range == (
        float(state.vectors["sigma"].min()),
        float(state.vectors["sigma"].max()),
    )
    assert state.scalars["learning_rate"] == pytest.approx(RATES[optimizer] * 0.95**20)


@pytest.mark.parametrize("noise", ["gaussian", "binomial"])
def test_members_are_h_plus_and_minus_each_coordinates_sigma_times_epsilon(noise: str) -> None:
    """Bit for bit: σ ε is rounded before it is added."""
    algorithm = make("sgd", noise)
    state = algorithm.tell(algorithm.start(shared.initial_h(SIZE)), np.arange(20.0) ** 2)
    z = shared.samples(noise, POPULATION, 1, SIZE).astype(np.float32)
    expected = state.h + state.vectors["sigma"] * z
    assert np.ptp(state.vectors["sigma"]) > 0.0
    assert shared.asked(algorithm, state).tobytes() == expected.tobytes()


@optimizers
@pytest.mark.parametrize("piece", [4096, 65_536])
def test_slices_that_cover_h_are_the_bits_of_the_whole(
    optimizer: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "PIECE", piece)
    shared.assert_slices_are_the_whole(make(optimizer, weight_decay=0.1), 3 * 4096 + 17)


def test_a_member_has_the_same_bits_in_pieces_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "PIECE", 4096)
    algorithm = make("adam")
    state = algorithm.tell(algorithm.start(shared.initial_h(SIZE)), np.arange(20.0) ** 2)
    shared.assert_members_are_the_same_piece_by_piece(algorithm, state)


@optimizers
@pytest.mark.parametrize("failure", [np.nan, np.inf, -np.inf])
def test_if_all_failed_or_are_equal_nothing_moves(optimizer: str, failure: float) -> None:
    algorithm = make(optimizer)
    state = algorithm.start(shared.initial_h(100))
    for fitness in (np.full(POPULATION, failure), np.full(POPULATION, 0.1)):
        after = algorithm.tell(state, fitness)
        assert np.array_equal(after.h, state.h)
        assert np.array_equal(after.vectors["sigma"], state.vectors["sigma"])


def test_pgpe_learns_which_coordinates_may_vary() -> None:
    """Of a quadratic that has a narrow and a wide axis, the narrow one's σ ends smaller."""
    algorithm = PGPE(
        Noise("gaussian", 1), 40, 0.3, Decay(0.1, 0.99), make_optimizer("clipup"), sigma_learning_rate=0.2
    )  # fmt: skip
    state = algorithm.start(np.full(2, 2.0, np.float32))
    for _ in range(200):
        x = shared.asked(algorithm, state).astype(np.float64)
        state = algorithm.tell(state, -(100.0 * x[:, 0] ** 2 + x[:, 1] ** 2))
    assert np.abs(state.h).max() < 0.3
    assert state.vectors["sigma"][0] < 0.5 * state.vectors["sigma"][1]
