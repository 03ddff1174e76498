"""Perturbations and other draws are good noise: distributed as they should be, and independent."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest

from esd.evolution.noise import NOISE_KINDS, Noise, Purpose, normals, uniforms

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

pytestmark = pytest.mark.xdist_group("noise statistics")

SEED = 0xC0FFEE123456789
SIGMAS = 5.0  # standard errors that a statistic may be away from its expectation; seeds are fixed

kinds = pytest.mark.parametrize("kind", NOISE_KINDS)

# 10⁸ samples; bounds in standard errors of the statistic under the null hypothesis
PAIRS, LENGTH = 100, 1_000_448  # 977 blocks


@pytest.fixture(scope="module")
def gaussian_sums() -> dict[str, float]:
    """Sums of powers and counts of tails over all pairs of one generation."""
    noise = Noise("gaussian", SEED)
    sums = dict.fromkeys(["n", "1", "2", "3", "4", "beyond 3", "beyond 4", "beyond 5"], 0.0)
    for pair in range(PAIRS):
        single = noise.epsilon(pair, 0, 0, LENGTH)
        x = single.astype(np.float64)
        square = x * x
        sums["n"] += x.size
        sums["1"] += x.sum()
        sums["2"] += square.sum()
        sums["3"] += square @ x
        sums["4"] += square @ square
        for limit in (3, 4, 5):
            sums[f"beyond {limit}"] += np.count_nonzero(square > limit**2)
    return sums


def test_gaussian_moments_are_those_of_the_standard_normal(gaussian_sums: dict[str, float]) -> None:
    """E x = 0, E x² = 1, E x³ = 0, E x⁴ = 3, with variances 1, 2, 15 and 96 of a single sample."""
    n = gaussian_sums["n"]
    assert n > 1e8
    for power, expected, variance in [("1", 0, 1), ("2", 1, 2), ("3", 0, 15), ("4", 3, 96)]:
        error = gaussian_sums[power] / n - expected
        assert abs(error) <= SIGMAS * math.sqrt(variance / n), f"moment {power} is off by {error}"


def test_gaussian_skewness_and_kurtosis_are_zero_and_three(gaussian_sums: dict[str, float]) -> None:
    """Of the centered and scaled samples; standard errors √(6/n) and √(24/n)."""
    n = gaussian_sums["n"]
    mean, m2, m3, m4 = (gaussian_sums[power] / n for power in "1234")
    variance = m2 - mean**2
    skewness = (m3 - 3 * mean * m2 + 2 * mean**3) / variance**1.5
    kurtosis = (m4 - 4 * mean * m3 + 6 * mean**2 * m2 - 3 * mean**4) / variance**2
    assert abs(skewness) <= SIGMAS * math.sqrt(6 / n)
    assert abs(kurtosis - 3) <= SIGMAS * math.sqrt(24 / n)


@pytest.mark.parametrize("limit", [3, 4, 5])
def test_gaussian_tails_hold_as_many_samples_as_they_should(
    limit: int, gaussian_sums: dict[str, float]
) -> None:
    """270,000 beyond 3, 6,300 beyond 4 and 57 beyond 5; a count's standard error is its root."""
    expected = gaussian_sums["n"] * 2 * NormalDist().cdf(-limit)
    assert abs(gaussian_sums[f"beyond {limit}"] - expected) <= SIGMAS * math.sqrt(expected)


def test_gaussian_samples_fill_equally_likely_bins_equally() -> None:
    """χ² of 1,000 bins has mean 999 and standard deviation √1998."""
    bins = 1_000
    edges = [NormalDist().inv_cdf(i / bins) for i in range(1, bins)]
    x = np.concatenate([Noise("gaussian", SEED).epsilon(p, 1, 0, 100_352) for p in range(40)])
    counts = np.bincount(np.searchsorted(np.array(edges), x), minlength=bins)
    expected = x.size / bins
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert abs(chi_square - (bins - 1)) <= SIGMAS * math.sqrt(2 * (bins - 1))


def test_gaussian_samples_lie_within_the_radius_of_the_smallest_uniform() -> None:
    """√(−2 ln 2⁻³²) = 6.66."""
    x = np.concatenate([Noise("gaussian", SEED).epsilon(p, 2, 0, 500_000) for p in range(20)])
    assert 5.0 < np.abs(x).max() <= math.sqrt(64 * math.log(2.0)) * (1 + 1e-6)


@pytest.mark.parametrize(
    ("kind", "values", "probabilities"),
    [
        ("rademacher", [-1.0, 1.0], [0.5, 0.5]),
        (
            "binomial",
            [(k - 8) / 2 for k in range(17)],
            [math.comb(16, k) / 2**16 for k in range(17)],
        ),
    ],
)
def test_discrete_noise_has_exactly_its_support_and_probabilities(
    kind: str, values: list[float], probabilities: list[float]
) -> None:
    """Each value's count within 5 binomial standard errors; mean 0, variance 1 and third moment 0 likewise."""
    x = np.concatenate([Noise(kind, SEED).epsilon(p, 0, 0, 1_000_448) for p in range(20)])
    found, counts = np.unique(x, return_counts=True)
    assert found.tolist() == values
    for count, p in zip(counts, probabilities, strict=True):
        assert abs(count - x.size * p) <= SIGMAS * math.sqrt(x.size * p * (1 - p))
    v, p = np.array(values), np.array(probabilities)
    assert (v @ p, v**2 @ p) == (0.0, 1.0)
    for power in (1, 2, 3, 4):
        exact = v**power @ p
        variance = v ** (2 * power) @ p - exact**2
        error = (v**power @ counts) / x.size - exact
        assert abs(error) <= SIGMAS * math.sqrt(variance / x.size)


def test_uniforms_fill_their_range() -> None:
    """Within ±1; mean 0 and variance ⅓, whose standard error is √(4/45/n)."""
    x = uniforms(SEED, Purpose.INITIAL_WEIGHTS, 10**7).astype(np.float64)
    assert 1 - 1e-6 < x.max() <= 1.0
    assert -1.0 <= x.min() < -1 + 1e-6
    assert abs(x.mean()) <= SIGMAS * math.sqrt(1 / 3 / x.size)
    assert abs((x * x).mean() - 1 / 3) <= SIGMAS * math.sqrt(4 / 45 / x.size)
    counts = np.histogram(x, bins=256, range=(-1, 1))[0]
    chi_square = float(((counts - x.size / 256) ** 2).sum() / (x.size / 256))
    assert abs(chi_square - 255) <= SIGMAS * math.sqrt(2 * 255)


# ---- independence


def assert_uncorrelated(x: Float32s, y: Float32s) -> None:
    """Neither the values nor their squares: two normals of one radius are uncorrelated, their squares are not."""
    a, b = x.astype(np.float64), y.astype(np.float64)
    for u, v in ((a, b), (a * a, b * b)):
        u, v = u - u.mean(), v - v.mean()
        scale = math.sqrt(float(u @ u) * float(v @ v))
        if scale > 0.0:  # the squares of ±1 are constant
            assert abs(float(u @ v)) / scale <= SIGMAS / math.sqrt(u.size)


N = 2**20


@kinds
def test_neighboring_coordinates_are_uncorrelated(kind: str) -> None:
    """At the lags of the layouts: neighbors (halves), 32 (bits), 256 (words), 1,024 (blocks), and others."""
    x = Noise(kind, SEED).epsilon(0, 3, 0, N)
    for lag in (1, 2, 3, 8, 31, 32, 33, 128, 255, 256, 257, 512, 513, 768, 1023, 1024, 1025, 4096):
        assert_uncorrelated(x[:-lag], x[lag:])


def test_the_two_outputs_of_box_muller_are_independent() -> None:
    """They share a radius and an angle: not only moments, but every cell of their joint histogram is checked."""
    blocks = Noise("gaussian", SEED).epsilon(1, 3, 0, 4 * N).reshape(-1, 2, 2, 256)
    x, y = blocks[:, :, 0].reshape(-1), blocks[:, :, 1].reshape(-1)
    assert_uncorrelated(x, y)
    assert_uncorrelated(blocks[:, 0].reshape(-1), blocks[:, 1].reshape(-1))
    edges = np.array([NormalDist().inv_cdf(i / 16) for i in range(1, 16)])
    cells = np.bincount(16 * np.searchsorted(edges, x) + np.searchsorted(edges, y), minlength=256)
    expected = x.size / 256
    chi_square = float(((cells - expected) ** 2 / expected).sum())
    assert abs(chi_square - 255) <= SIGMAS * math.sqrt(2 * 255)


@kinds
def test_members_generations_and_seeds_are_uncorrelated(kind: str) -> None:
    """Also swapped names: pair 3 of generation 5 against pair 5 of generation 3."""
    noise = Noise(kind, SEED)
    x = noise.epsilon(3, 5, 0, N)
    others = [
        noise.epsilon(p, g, 0, N) for p, g in [(2, 5), (4, 5), (3, 4), (3, 6), (5, 3), (0, 0)]
    ]
    others += [Noise(kind, s).epsilon(3, 5, 0, N) for s in (SEED + 1, SEED - 1, SEED ^ (1 << 32))]
    for y in others:
        assert_uncorrelated(x, y)


def test_purposes_are_uncorrelated() -> None:
    streams = [normals(SEED, purpose, N, 3, 5) for purpose in Purpose]
    for i, x in enumerate(streams):
        for y in streams[:i]:
            assert_uncorrelated(x, y)


@kinds
def test_one_coordinate_over_generations_and_members_is_white(kind: str) -> None:
    """What a coordinate of h really meets: its own column over time, not a row of coordinates."""
    noise = Noise(kind, SEED)
    table = np.stack([[noise.epsilon(p, g, 7, 8)[0] for p in range(64)] for g in range(512)])
    flat = table.reshape(-1).astype(np.float64)
    assert abs(flat.mean()) <= SIGMAS / math.sqrt(flat.size)
    assert abs((flat * flat).mean() - 1) <= SIGMAS * math.sqrt(2 / flat.size)
    assert_uncorrelated(table[:-1].reshape(-1), table[1:].reshape(-1))
    assert_uncorrelated(table[:, :-1].reshape(-1), table[:, 1:].reshape(-1))
