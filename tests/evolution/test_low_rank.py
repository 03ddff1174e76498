"""Law 2 with low-rank noise: any slice of any perturbation, and of sums over pairs, from factors alone."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esd.evolution import low_rank
from esd.evolution.layout import Layout
from esd.evolution.low_rank import LowRankNoise, make_noise, matrices
from esd.evolution.noise import Noise
from esd.kernels.low_rank import GROUP_ROWS, TILE_ROWS
from tests.helpers.oracles import low_rank as oracle

Float32s = npt.NDArray[np.float32]

SEED = 0xC0FFEE123456789
NETWORK = {"w": (70, 33), "bias": (33,), "kernel": (5, 4, 3, 3), "small": (2, 2), "out": (33, 200)}

shapes = st.lists(
    st.lists(st.integers(1, 40), min_size=1, max_size=2).map(tuple)
    | st.lists(st.integers(1, 6), min_size=3, max_size=4).map(tuple),
    min_size=1,
    max_size=5,
).map(lambda found: {f"array{number}": shape for number, shape in enumerate(found)})
orders = st.sampled_from(["C", "F"])
ranks = st.integers(1, 4)
whole_words = st.integers(0, 2**32 - 1)


def noise_of(shapes: dict[str, tuple[int, ...]], order: str = "C", rank: int = 1) -> LowRankNoise:
    found = make_noise("low_rank", SEED, rank, Layout(shapes, order))  # type: ignore[arg-type]
    assert isinstance(found, LowRankNoise)
    return found


def same_bits(a: Float32s, b: Float32s) -> bool:
    return a.dtype == b.dtype == np.float32 and np.array_equal(a.view("u4"), b.view("u4"))


def accumulated(noise: Noise, weights: Float32s, start: int, stop: int) -> Float32s:
    out = np.full(stop - start, np.nan, np.float32)
    noise.accumulate(weights, 7, out, start)
    return out


def weights_of(pairs: int) -> Float32s:
    """Like shaped fitness: either sign, some exactly zero."""
    weights = np.random.default_rng(pairs).normal(size=pairs).astype(np.float32)
    weights[3::7] = 0.0
    return weights


# ---- against plain numpy


@settings(deadline=None, derandomize=True, max_examples=60)
@given(shapes=shapes, order=orders, rank=ranks, pair=whole_words, generation=whole_words)
def test_epsilon_is_the_oracles_bits(
    shapes: dict[str, tuple[int, ...]], order: str, rank: int, pair: int, generation: int
) -> None:
    noise = noise_of(shapes, order, rank)
    expected = oracle.epsilon(shapes, order, rank, SEED, pair, generation)
    assert same_bits(noise.epsilon(pair, generation, 0, noise.layout.size), expected)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(shapes=shapes, order=orders, rank=ranks, pairs=st.integers(1, 9), data=st.data())
def test_any_slice_of_the_sum_over_pairs_is_the_oracles_bits(
    shapes: dict[str, tuple[int, ...]], order: str, rank: int, pairs: int, data: st.DataObject
) -> None:
    noise, weights = noise_of(shapes, order, rank), weights_of(pairs)
    whole = oracle.accumulated(shapes, order, rank, SEED, weights, 7)
    bounds = st.integers(0, noise.layout.size)
    start, stop = sorted(data.draw(st.tuples(bounds, bounds)))
    assert same_bits(accumulated(noise, weights, start, stop), whole[start:stop])
    for pair in range(pairs):
        e = oracle.epsilon(shapes, order, rank, SEED, pair, 7)
        assert same_bits(noise.epsilon(pair, 7, start, stop), e[start:stop])


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize(
    "shape",
    [
        (GROUP_ROWS + TILE_ROWS + 1, 37),
        (2 * GROUP_ROWS, 32),
        (TILE_ROWS, 4500),
        (5000, 16),
        (97, 7, 3),
    ],
)
def test_sums_of_larger_matrices_are_the_oracles_bits_wherever_they_are_cut(
    rank: int, shape: tuple[int, ...]
) -> None:
    shapes = {"before": (11,), "matrix": shape, "after": (50, 50)}
    noise, weights = noise_of(shapes, "C", rank), weights_of(5)
    whole = oracle.accumulated(shapes, "C", rank, SEED, weights, 7)
    size = noise.layout.size
    assert same_bits(accumulated(noise, weights, 0, size), whole)
    for cut in (1, min(4096, size), min(2 * 4096, size), size // 2, size - 2501):
        assert same_bits(accumulated(noise, weights, 0, cut), whole[:cut])
        assert same_bits(accumulated(noise, weights, cut, size), whole[cut:])


def test_a_bound_on_memory_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    noise, weights = noise_of(NETWORK, rank=2), weights_of(23)
    size = noise.layout.size
    v = np.random.default_rng(1).normal(size=size).astype(np.float32)

    def everything() -> list[bytes]:
        sums, squares = np.empty((2, size), np.float32), np.empty(size, np.float32)
        noise.moments(np.stack([weights, -weights]), weights, 3, sums, squares)
        out = np.zeros(size, np.float32)
        partials = noise.correlate(weights, 2, 3, v, out)
        arrays = (accumulated(noise, weights, 0, size), sums, squares, out, partials)
        return [array.tobytes() for array in arrays]

    expected = everything()
    monkeypatch.setattr(low_rank, "FACTORS_AT_ONCE", 3000)
    monkeypatch.setattr(low_rank, "COORDINATES_AT_ONCE", 1000)
    assert everything() == expected


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("sigma", [0.07, "of each coordinate"])
def test_members_are_h_plus_and_minus_sigma_epsilon_each_operation_rounded(
    order: str, rank: int, sigma: float | str
) -> None:
    noise = noise_of(NETWORK, order, rank)
    size = noise.layout.size
    rng = np.random.default_rng(0)
    h = rng.normal(size=size).astype(np.float32)
    h[:7] = -0.0
    scale = np.float32(sigma) if isinstance(sigma, float) else rng.random(size, np.float32)
    e = oracle.epsilon(NETWORK, order, rank, SEED, 4, 9)
    for member, expected in ((8, h + scale * e), (9, h - scale * e)):
        out = np.full(size - 500, np.nan, np.float32)
        own = scale if isinstance(sigma, float) else scale[500:]
        noise.perturb(h[500:], float(own) if own.ndim == 0 else own, member, 9, out, start=500)
        assert same_bits(out, expected[500:])


@pytest.mark.parametrize("start", [0, 4096])
def test_moments_and_inner_products_are_sums_in_pair_order(start: int) -> None:
    noise, pairs = noise_of(NETWORK, rank=2), 5
    size = noise.layout.size
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(2, pairs)).astype(np.float32)
    square_weights = rng.normal(size=pairs).astype(np.float32)
    v = rng.normal(size=size).astype(np.float32)
    sums, squares = np.full((2, size - start), np.nan, np.float32), np.empty(size - start, "f4")
    noise.moments(weights, square_weights, 3, sums, squares, start)
    out = np.zeros(size - start, np.float32)
    partials = noise.correlate(weights[0], 2, 3, v[start:], out, start)
    expected, of_squares, dotted = np.zeros_like(sums), np.zeros_like(squares), np.zeros_like(out)
    for p in range(pairs):
        e = oracle.epsilon(NETWORK, "C", 2, SEED, p, 3)[start:]
        expected += weights[:, p, None] * e
        of_squares += square_weights[p] * (e * e - np.float32(1))
        e = oracle.epsilon(NETWORK, "C", 2, SEED, p + 2, 3)[start:]
        dotted += weights[0, p] * e
        for block in range(partials.shape[2]):
            here = slice(block * 4096, (block + 1) * 4096)
            exact = math.fsum(e[here].astype(np.float64) * v[start:][here])
            assert partials[0, p, block] == pytest.approx(exact, abs=1e-10)
            square = math.fsum(e[here].astype(np.float64) ** 2)
            assert partials[1, p, block] == pytest.approx(square, rel=1e-12)
    assert same_bits(sums.reshape(-1), expected.reshape(-1))
    assert same_bits(squares, of_squares)
    assert same_bits(out, dotted)


# ---- what it is


def test_the_split_of_an_array_is_the_same_in_both_orders() -> None:
    (in_c,) = matrices(Layout({"w": (8, 3, 5)}, "C"), 1)
    (in_f,) = matrices(Layout({"w": (8, 3, 5)}, "F"), 1)
    assert (in_c.rows, in_c.columns) == (8, 15)
    assert (in_f.rows, in_f.columns) == (15, 8)
    for order in ("C", "F"):
        layout = Layout({"w": (8, 3, 5)}, order)  # type: ignore[arg-type]
        e = noise_of(dict(layout.shapes), order).epsilon(0, 0, 0, layout.size)
        array = layout.unpack(e)["w"].reshape(8, 15, order=order)  # type: ignore[call-overload]
        assert np.linalg.matrix_rank(array.astype(np.float64), tol=1e-4) == 1


def test_vectors_and_matrices_that_factors_would_not_make_smaller_are_gaussian() -> None:
    shapes = {"bias": (300,), "w": (20, 30), "tiny": (2, 2), "row": (1, 50), "column": (9, 1)}
    noise, dense = noise_of(shapes), Noise("gaussian", SEED)
    e = noise.epsilon(5, 6, 0, noise.layout.size)
    expected = dense.epsilon(5, 6, 0, noise.layout.size)
    assert same_bits(e[:300], expected[:300])
    assert same_bits(e[900:], expected[900:])
    assert not np.isin(e[300:900], expected).any()
    assert [(m.rows, m.columns) for m in matrices(noise.layout, 1)] == [(20, 30)]
    assert not matrices(noise.layout, 12)
    assert matrices(noise.layout, 11)
    assert not [*noise.notes]
    (note,) = noise_of(shapes, rank=12).notes
    assert note.startswith(
        'es.noise = "low_rank" has no effect: h has no matrix with rows × columns > 12 ×'
    )


@pytest.mark.parametrize("rank", [10**6, 2**62])
def test_a_rank_above_every_matrix_is_dense_noise(rank: int) -> None:
    noise = noise_of(NETWORK, rank=rank)
    size = noise.layout.size
    assert same_bits(noise.epsilon(1, 2, 0, size), Noise("gaussian", SEED).epsilon(1, 2, 0, size))


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_epsilon_has_mean_0_and_variance_1_and_the_rank_it_says(rank: int) -> None:
    noise = noise_of({"w": (50, 40)}, rank=rank)
    e = np.array([noise.epsilon(p, 1, 0, 2000) for p in range(4000)], np.float64)
    # of a coordinate over 4,000 pairs: Var ε² = 2 + 6/r
    assert np.abs(e.mean(0)).max() < 4.5 / math.sqrt(4000)
    assert np.abs((e * e).mean(0) - 1).max() < 5.5 * math.sqrt((2 + 6 / rank) / 4000)
    assert abs((e**4).mean() - (3 + 6 / rank)) < 0.25
    assert np.linalg.matrix_rank(e[0].reshape(50, 40), tol=1e-4) == rank
    correlations = np.corrcoef(e[:, [0, 1, 40, 41]].T) - np.eye(4)
    assert np.abs(correlations).max() < 4.5 / math.sqrt(4000)


def test_factors_share_no_number_with_dense_noise_or_each_other() -> None:
    noise = noise_of({"w": (30, 40)})
    (_, first), (_, second) = (
        next(iter(noise._drawn(noise.plan(0, 1200), 1, p, 0))) for p in (0, 1)
    )
    dense = Noise("gaussian", SEED).epsilon(0, 0, 0, 4096)
    drawn = np.concatenate([first[0], second[0]])
    assert np.unique(drawn).size == 140
    assert not np.isin(drawn, dense).any()


def test_noise_made_from_a_noise_says_how_an_algorithm_is_built() -> None:
    with pytest.raises(TypeError, match=r"built from \(settings, noise, population, reduction\)"):
        Noise("gaussian", Noise("gaussian", 0))  # type: ignore[arg-type]
