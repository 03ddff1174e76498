"""Fitness shaping: from the returns of a generation to the weights of its members.

Pure functions of a float64 vector. What a failed evaluation means is decided here, once: a NaN or infinite fitness
ranks worst. Sums are ``math.fsum``, which is exactly rounded, so that no order of addition can matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from esd.evolution import strict_math

Float64s = npt.NDArray[np.float64]


def failed(fitness: Float64s) -> npt.NDArray[np.bool_]:
    """Which members have no usable fitness (NaN or ±inf), bool [n]."""
    return ~np.isfinite(fitness)


def _with_failures_worst(fitness: Float64s, worst: float | None = None) -> Float64s:
    """Replace failures by ``worst``, or by the smallest finite fitness (0 if there is none)."""
    bad = failed(fitness)
    if worst is None:
        worst = float(fitness[~bad].min()) if not bad.all() else 0.0
    return np.where(bad, worst, fitness)


def centered_rank(fitness: Float64s) -> Float64s:
    """Ranks scaled to [−½, ½] (Salimans et al. 2017); ties share their mean rank, so equal fitness gives all zeros.

    Args:
        fitness: float64 [n], n ≥ 2; NaN and ±inf rank worst (together).
    """
    n = fitness.size
    centered: Float64s = (twice_mean_ranks(fitness) - (n - 1)) / (2.0 * (n - 1))
    return centered


def twice_mean_ranks(fitness: Float64s) -> npt.NDArray[np.int64]:
    """Twice the rank of each, from 0 on, int64 [n]: ties share their mean rank, and failures rank worst (together)."""
    _, inverse, counts = np.unique(
        _with_failures_worst(fitness, -np.inf), return_inverse=True, return_counts=True
    )
    below = np.cumsum(counts) - counts
    twice: npt.NDArray[np.int64] = (2 * below + counts - 1)[inverse.reshape(-1)]
    return twice


def centered_rank_unit(fitness: Float64s) -> Float64s:
    """Centered ranks divided by their standard deviation: the scale of Najarro & Risi's learning rates.

    Without ties the deviation of ranks in [−½, ½] is 0.289, so this step is 3.46 times ``centered_rank``'s.
    """
    return _divided_by_deviation(centered_rank(fitness))


def standardize(fitness: Float64s) -> Float64s:
    """(F − mean)/std of F; failures count as the smallest finite fitness, and equal fitness gives all zeros."""
    values = _with_failures_worst(fitness)
    if values.min() == values.max():  # n·F/n need not be F, and one ulp over one ulp would be ±1
        return np.zeros_like(values)
    # to the order of 1 by a power of two, which is exact: sums of squares can't overflow
    scaled = np.ldexp(values, -math.frexp(float(np.abs(values).max()))[1])
    return _divided_by_deviation(scaled - math.fsum(scaled) / scaled.size)


def raw(fitness: Float64s) -> Float64s:
    """F itself; failures count as the smallest finite fitness."""
    return _with_failures_worst(fitness)


def sign(fitness: Float64s) -> Float64s:
    """+½ to the better member of each mirrored pair and −½ to the worse one; 0 to both of a tie (nano-egg).

    One bit per pair (two with ties) is all that a generation then says.
    """
    values = _with_failures_worst(fitness, -np.inf)
    better = (values[0::2] > values[1::2]).astype(np.float64) - (values[0::2] < values[1::2])
    return np.stack([0.5 * better, -0.5 * better], axis=1).reshape(-1)


def by_rank(fitness: Float64s, values: Float64s) -> Float64s:
    """Give the best member values[0], the next values[1] and so on; ties share the mean of theirs.

    Args:
        fitness: float64 [n]; NaN and ±inf rank worst (together).
        values: float64 [n].
    """
    _, inverse, counts = np.unique(
        -_with_failures_worst(fitness, -np.inf), return_inverse=True, return_counts=True
    )
    ends = np.cumsum(counts)
    shared = [
        math.fsum(values[end - count : end]) / count
        for end, count in zip(ends, counts, strict=True)
    ]
    return np.array(shared)[inverse.reshape(-1)]


def log_rank_weights(population: int) -> Float64s:
    """max(0, ln(n/2 + 1) − ln k) for ranks k = 1…n, best first: what natural evolution strategies begin with."""
    most = strict_math.log(0.5 * population + 1.0)
    ranks = range(1, population + 1)
    return np.array([max(0.0, most - strict_math.log(float(rank))) for rank in ranks])


def _divided_by_deviation(centered: Float64s) -> Float64s:
    """Divide by the (population) standard deviation; all zeros stay zeros."""
    deviation = math.sqrt(math.fsum(centered * centered) / centered.size)
    return centered / deviation if deviation > 0.0 else np.zeros_like(centered)


SHAPINGS: dict[str, Callable[[Float64s], Float64s]] = {
    "centered_rank": centered_rank,
    "centered_rank_unit": centered_rank_unit,
    "standardize": standardize,
    "raw": raw,
    "sign": sign,
}
