"""How sure a difference is: Student's interval, the permutation test over training runs, Holm's correction.

SciPy is imported when it is needed: it takes a second, and no training needs it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MOST_RELABELINGS = 100_000  # more are not tried one by one but drawn, with a fixed seed


def deviation(values: npt.NDArray[np.float64]) -> float:
    """Standard deviation (n − 1); NaN of a single value."""
    return float(values.std(ddof=1)) if values.size > 1 else math.nan


def student_interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of a mean, by Student's t; NaN of a single value."""
    from scipy import stats

    n = values.size
    if n < 2:
        return math.nan, math.nan
    half = float(stats.t.ppf(0.975, n - 1)) * deviation(values) / math.sqrt(n)
    mean = float(values.mean())
    return mean - half, mean + half


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
    from scipy import stats

    a, b = np.asarray(second, np.float64), np.asarray(first, np.float64)
    relabelings = math.comb(a.size + b.size, a.size)
    scale = max(float(np.abs([*a, *b]).max()), np.finfo(np.float64).tiny)
    found = stats.permutation_test(
        (a, b),
        # to 9 digits: differences that are equal may come out of other roundings
        lambda x, y, axis: np.round((x.mean(axis) - y.mean(axis)) / scale, 9),
        vectorized=True,
        n_resamples=MOST_RELABELINGS - 1,
        rng=np.random.default_rng(0),
    )
    return PermutationTest(
        float(a.mean() - b.mean()),
        float(found.pvalue),
        relabelings,
        relabelings < MOST_RELABELINGS,
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
