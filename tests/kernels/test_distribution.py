"""Sums over rebuilt noise against sums over the oracle's noise, and the spread of deviations against numpy's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from esd.evolution.noise import Noise, Purpose, normals
from esd.evolution.vectors import Whole
from esd.kernels.distribution import block_dots, block_spreads, exponentials
from tests.helpers.oracles import philox as oracle

SEED = 0xABCDEF0123456789
SIZE = 2 * 4096 + 300
PAIRS = 5


def epsilons(kind: str, generation: int = 3, first: int = 0, start: int = 0) -> np.ndarray:
    """ε of pairs by the oracle, float32 [PAIRS, SIZE − start]."""
    return np.array(
        [
            oracle.epsilon(kind, SEED, first + p, generation, start, SIZE).astype(np.float32)
            for p in range(PAIRS)
        ]
    )


@pytest.mark.parametrize("kind", ["gaussian", "rademacher", "binomial"])
@pytest.mark.parametrize("start", [0, 4096])
def test_moments_are_sums_in_pair_order_bit_for_bit(kind: str, start: int) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(2, PAIRS)).astype(np.float32)
    square_weights = rng.normal(size=PAIRS).astype(np.float32)
    sums = np.full((2, SIZE - start), np.nan, np.float32)
    squares = np.full(SIZE - start, np.nan, np.float32)
    Noise(kind, SEED).moments(weights, square_weights, 3, sums, squares, start)
    expected = np.zeros_like(sums)
    of_squares = np.zeros_like(squares)
    for p, e in enumerate(epsilons(kind, start=start)):
        expected += weights[:, p, None] * e
        of_squares += square_weights[p] * (e * e - np.float32(1))
    assert sums.tobytes() == expected.tobytes()
    assert np.array_equal(squares, of_squares)


def test_inner_products_and_squares_are_those_of_each_block() -> None:
    v, out = normals(1, Purpose.INITIAL_H, SIZE), np.zeros(SIZE, np.float32)
    weights = np.linspace(-1, 1, PAIRS).astype(np.float32)
    partials = Noise("gaussian", SEED).correlate(weights, 2, 3, v, out)
    e = epsilons("gaussian", first=2)
    assert partials.shape == (2, PAIRS, 3)
    for block in range(3):
        here = slice(block * 4096, (block + 1) * 4096)
        for p in range(PAIRS):
            exact = math.fsum(e[p, here].astype(np.float64) * v[here])
            assert partials[0, p, block] == pytest.approx(exact, abs=1e-10)
            square = math.fsum(e[p, here].astype(np.float64) ** 2)
            assert partials[1, p, block] == pytest.approx(square, rel=1e-12)
    expected = np.zeros(SIZE, np.float32)
    for weight, row in zip(weights, e, strict=True):
        expected += weight * row
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("size", [0, 1, 4096, SIZE])
def test_block_dots_are_exact_sums_within_rounding(size: int) -> None:
    x, y = (normals(1, Purpose.INITIAL_H, size, k) for k in (0, 1))
    dots = block_dots(x, y)
    assert dots.shape == (-(-size // 4096),)
    for block, dot in enumerate(dots):
        here = slice(block * 4096, (block + 1) * 4096)
        exact = math.fsum(x[here].astype(np.float64) * y[here])
        assert dot == pytest.approx(exact, abs=1e-10)


def test_spreads_are_numpys() -> None:
    x = np.exp(4 * normals(1, Purpose.INITIAL_H, SIZE))
    logs, least, most = block_spreads(x)
    for block in range(3):
        here = x[block * 4096 : (block + 1) * 4096]
        assert logs[block] == pytest.approx(np.log(here.astype(np.float64)).sum(), abs=2e-3)
        assert (least[block], most[block]) == (here.min(), here.max())
    spread = Whole(SIZE, lambda partials: partials).spread(x)
    assert spread.geometric_mean == pytest.approx(np.exp(np.log(x.astype(float)).mean()), rel=1e-6)
    assert (spread.smallest, spread.largest) == (x.min(), x.max())


def test_sums_of_a_whole_vector_are_added_in_block_order() -> None:
    """1e16 + 1 − 1e16 is 0 from the left, and 1 in any order that adds the large ones first."""
    whole = Whole(3, lambda partials: partials)
    assert whole.sums(np.array([[1e16, 1.0, -1e16], [1.0, 2.0, 3.0]])).tolist() == [0.0, 6.0]
    assert whole.largest(np.array([1.0, -7.0, 3.0], np.float32)) == 7.0
    x = np.array([3.0, 4.0, 0.0], np.float32)
    assert (whole.norm(x), whole.dot(x, x)) == (5.0, 25.0)


def test_exponentials_are_those_of_every_coordinate() -> None:
    x = np.linspace(-20, 20, 1001).astype(np.float32)
    out = np.empty_like(x)
    exponentials(x, out)
    assert out == pytest.approx(np.exp(x.astype(np.float64)), rel=3e-7)
