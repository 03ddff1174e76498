"""How sure a difference is: Student's interval, the permutation test over training runs, Holm's correction.

SciPy has the first two. It is not used, because numba imports SciPy wherever it is installed, and every rank of every
training would start 0.4 s later.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# 97.5 % quantile of Student's t for 1, 2, … degrees of freedom; beyond, the normal's by Cornish–Fisher to 5 digits
_T_QUANTILES = (
    12.7062047362,
    4.3026527297,
    3.1824463053,
    2.7764451052,
    2.5705818356,
    2.4469118511,
    2.3646242516,
    2.3060041352,
    2.2621571628,
    2.2281388520,
)

MOST_RELABELINGS = 100_000  # more are not tried one by one but drawn, with a fixed seed


def deviation(values: npt.NDArray[np.float64]) -> float:
    """Standard deviation (n − 1); NaN of a single value."""
    return float(values.std(ddof=1)) if values.size > 1 else math.nan


def student_interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of a mean, by Student's t; NaN of a single value."""
    n = values.size
    if n < 2:
        return math.nan, math.nan
    half = _t_quantile(n - 1) * deviation(values) / math.sqrt(n)
    mean = float(values.mean())
    return mean - half, mean + half


def _t_quantile(degrees: int) -> float:
    if degrees <= len(_T_QUANTILES):
        return _T_QUANTILES[degrees - 1]
    n, z = degrees, 1.959963984540054
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4)
    )


@dataclass(frozen=True)
class PermutationTest:
    """How often chance alone makes two groups differ as much.

    Attributes:
        difference: mean of the second group − mean of the first.
        p: two-sided; the observed labeling is counted.
        relabelings: that there are.
        exact: whether all of them were tried; otherwise ``MOST_RELABELINGS``, the observed one among them.
    """

    difference: float
    p: float
    relabelings: int
    exact: bool

    @property
    def smallest_p(self) -> float:
        """What p is at least with groups of these sizes, even if they don't overlap."""
        tried = self.relabelings if self.exact else MOST_RELABELINGS
        return min(1.0, 2.0 / tried)


def permutation_test(first: Sequence[float], second: Sequence[float]) -> PermutationTest:
    """Test that it doesn't matter which group a run is in, by the difference of the means.

    p is twice the share of relabelings whose difference is at least as far out on the same side.

    Args:
        first: one value per run.
        second: likewise.
    """
    pooled, n = np.array([*first, *second], np.float64), len(second)
    observed = np.arange(len(first), pooled.size)
    relabelings = math.comb(pooled.size, n)
    exact = relabelings <= MOST_RELABELINGS
    if exact:
        chosen = np.array(list(itertools.combinations(range(pooled.size), n)))
    else:
        keys = np.random.default_rng(0).random((MOST_RELABELINGS - 1, pooled.size))
        chosen = np.vstack([observed, keys.argsort(axis=1)[:, :n]])
    # around a mean of 0, where a difference of means is its second group's sum times a constant
    centered = pooled - pooled.mean()
    sums = centered[chosen].sum(axis=1)
    own = centered[observed].sum()
    # sums that should be equal differ by less: each term was rounded by at most half a last place of the largest
    rounding = 8.0 * np.finfo(np.float64).eps * pooled.size * np.abs(pooled).max()
    above, below = np.mean(sums >= own - rounding), np.mean(sums <= own + rounding)
    return PermutationTest(
        float(pooled[len(first) :].mean() - pooled[: len(first)].mean()),
        min(1.0, 2.0 * float(min(above, below))),
        relabelings,
        exact,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for how many there are (Holm 1979, "A simple sequentially rejective multiple test procedure").

    Whoever calls all those below 0.05 real is wrong about any of them with a probability of at most 0.05.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
