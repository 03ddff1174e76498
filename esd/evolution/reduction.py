"""From returns on several bodies to one fitness per member.

Pure functions of float64 [members, variants]. A member that failed on any body has no fitness: its NaN stays one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from esd.evolution.shaping import centered_rank, failed, twice_mean_ranks

Float64s = npt.NDArray[np.float64]


def mean(returns: Float64s) -> Float64s:
    """The mean over variants, added up in their order."""
    total: Float64s = returns[:, 0].copy()
    for column in returns.T[1:]:
        total += column
    total /= returns.shape[1]
    return total


def worst(returns: Float64s) -> Float64s:
    """The smallest over variants."""
    smallest: Float64s = np.minimum.reduce(returns, axis=1)
    return smallest


def mean_of_ranks(returns: Float64s) -> Float64s:
    """The mean over variants of the centered ranks that members have on each, in [−½, ½].

    No variant then outweighs another because its returns are larger or spread more. Ranks are added up as integers, so
    that equal sums are equal.
    """
    n, variants = returns.shape
    twice = sum(twice_mean_ranks(column) for column in returns.T) - variants * (n - 1)
    ranks: Float64s = twice / (2.0 * (n - 1) * variants)
    ranks[failed(returns).any(axis=1)] = np.nan
    return ranks


def mean_of_rounded_ranks(returns: Float64s) -> Float64s:
    """What ``mean_of_ranks`` was up to format 2: equal sums may differ in the last bit."""
    ranks = mean(np.stack([centered_rank(column) for column in returns.T], axis=1))
    ranks[failed(returns).any(axis=1)] = np.nan
    return ranks


REDUCTIONS: dict[str, Callable[[Float64s], Float64s]] = {
    "mean": mean,
    "min": worst,
    "mean_of_ranks": mean_of_ranks,
    "mean_of_rounded_ranks": mean_of_rounded_ranks,
}


def reduced_return(reduction: str, returns: Float64s) -> Float64s:
    """Returns as they are shown, float64 [n]: a rank among members is none, so those are shown by their mean."""
    return worst(returns) if reduction == "min" else mean(returns)


def center_return(reduction: str, returns: Float64s) -> float:
    """One number for the center, from its episodes, float64 [episodes, variants]: each variant's mean, reduced."""
    return float(reduced_return(reduction, returns.mean(axis=0)[None])[0])
