"""CR-FM-NES against the paper's formulas in float64, against evosax, and on slices against the whole."""

from __future__ import annotations

import math

import numpy as np
import pytest

from esd.evolution import vectors
from esd.evolution.cr_fm_nes import CRFMNES, Constants
from esd.evolution.noise import Noise
from tests.helpers import distributions as shared
from tests.helpers.oracles.distributions import PlainCRFMNES

POPULATION = 20
SIZE = 4096 + 300


def make(population: int = POPULATION, sigma: float = 0.5) -> CRFMNES:
    return CRFMNES(Noise("gaussian", shared.SEED), population, sigma)


@pytest.mark.parametrize(
    ("size", "population", "generations"), [(6, 8, 40), (20, 12, 40), (SIZE, 20, 15)]
)
@pytest.mark.parametrize("far", [False, True])
def test_updates_equal_the_formulas_in_float64(
    size: int, population: int, generations: int, far: bool
) -> None:
    """Member by member there, by sums over pairs here; far away, where weights by distance are used, and near."""
    algorithm, h = make(population), shared.initial_h(size)
    state = algorithm.start(h)
    plain = PlainCRFMNES(h.astype(np.float64), 0.5, state.vectors["v"].astype(np.float64))
    f = shared.distances(np.full(size, 100.0 if far else 0.0))
    moved = 0
    chi = Constants.of(population, size).chi
    for t in range(generations):
        z = shared.samples("gaussian", population, t, size)
        members = shared.asked(algorithm, state)
        expected = plain.members(z)
        scale = np.abs(expected - plain.h).max()
        assert np.abs(members - expected).max() <= 1e-4 * scale + 1e-5
        fitness = f(expected)
        plain.tell(z, fitness)
        state = algorithm.tell(state, fitness)
        moved += np.linalg.norm(plain.p_sigma) >= chi
        for name in ("v", "D", "p_sigma", "p_c"):
            exact = getattr(plain, name)
            error = np.abs(state.vectors[name] - exact).max()
            assert error <= 1e-4 * np.abs(exact).max(), (name, t)
        assert state.sigma == pytest.approx(plain.sigma, rel=1e-4)
        assert np.abs(state.h - plain.h).max() <= 1e-4 * max(1.0, np.abs(plain.h - h).max())
        deviations = plain.sigma * plain.D * np.sqrt(1 + plain.v**2)
        assert state.sigma_range == pytest.approx((deviations.min(), deviations.max()), rel=1e-3)
    assert moved or not far or size == SIZE, "weights by distance were never used"
    assert np.ptp(plain.D) > 1e-3, "D has not moved"


@pytest.mark.parametrize("piece", [4096, 65_536])
def test_slices_that_cover_h_are_the_bits_of_the_whole(
    piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "PIECE", piece)
    monkeypatch.setattr("esd.evolution.cr_fm_nes.PIECE", piece)
    shared.assert_slices_are_the_whole(make(), 3 * 4096 + 17)


def test_a_member_has_the_same_bits_in_pieces_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inner product that it needs first is summed in fixed blocks, not in pieces (law 2)."""
    algorithm = make()
    state = algorithm.tell(algorithm.start(shared.initial_h(5 * 4096 + 1)), np.arange(20.0) ** 2)
    whole = shared.asked(algorithm, state)
    sums = [algorithm.summed_first(state, member).tobytes() for member in range(POPULATION)]
    for piece in (4096, 2 * 4096):
        monkeypatch.setattr(vectors, "PIECE", piece)
        monkeypatch.setattr("esd.evolution.cr_fm_nes.PIECE", piece)
        assert shared.asked(algorithm, state).tobytes() == whole.tobytes()
        again = [algorithm.summed_first(state, member).tobytes() for member in range(POPULATION)]
        assert again == sums
        shared.assert_members_are_the_same_piece_by_piece(algorithm, state)


def test_members_of_a_pair_are_mirrored() -> None:
    algorithm = make()
    state = algorithm.start(np.zeros(SIZE, np.float32))
    members = shared.asked(algorithm, state)
    assert np.array_equal(members[0::2], -members[1::2])
    assert members.any()


def test_constants_are_the_papers_for_twelve_members_of_twenty_coordinates() -> None:
    """By hand from the formulas, with libm's functions."""
    constants = Constants.of(12, 20)
    raw = [max(0.0, math.log(7) - math.log(k)) for k in range(1, 13)]
    mu = sum(raw) ** 2 / sum(r * r for r in raw)
    assert constants.effective == pytest.approx(mu, rel=1e-13)
    assert constants.path_sigma == pytest.approx((mu + 2) / (25 + mu), rel=1e-13)
    assert constants.stagnation == pytest.approx(math.tanh((0.288 + 34) / 32), rel=1e-13)
    assert constants.convergence == pytest.approx(2 * math.tanh((0.3 + 25) / 24), rel=1e-13)
    assert constants.shape == pytest.approx(math.tanh(5.24 / 29.6), rel=1e-13)
    assert constants.rank_one == pytest.approx(2 / (21.3**2 + mu) * 2.5, rel=1e-13)
    alpha = constants.distance / math.sqrt(12 / 20)
    assert (1 + alpha**2) * math.exp(alpha**2 / 2) / 0.24 - 10 == pytest.approx(20, rel=1e-12)


def test_the_first_direction_is_of_the_seed() -> None:
    v = make().start(np.zeros(SIZE, np.float32)).vectors["v"]
    other = CRFMNES(Noise("gaussian", 1), 20, 0.5).start(np.zeros(SIZE, np.float32)).vectors["v"]
    assert np.linalg.norm(v) == pytest.approx(1.0, rel=0.05)
    assert not np.array_equal(v, other)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_few_coordinates_stay_finite_and_converge(size: int) -> None:
    algorithm = make(8, sigma=0.5)
    state = algorithm.start(np.full(size, 3.0, np.float32))
    for _ in range(200):
        x = shared.asked(algorithm, state).astype(np.float64)
        state = algorithm.tell(state, -(x**2).sum(axis=1))
    assert np.abs(state.h).max() < 1e-3
