"""Measuring in turns: what is compared is measured one after the other in every round of one process.

Machines are shared and noisy. A ratio is the median over rounds of the round's own ratio, so that what slows a whole
round down slows both of its sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Float64s = npt.NDArray[np.float64]


def in_turns(contenders: Sequence[Callable[[], float]], rounds: int) -> Float64s:
    """Measure all contenders once per round, after one round that isn't counted (compilation, caches, memory).

    Returns:
        Their figures, float64 [rounds, contenders].
    """
    for measure in contenders:
        measure()
    return np.array([[measure() for measure in contenders] for _ in range(rounds)], np.float64)


def quartiles(values: Sequence[float] | Float64s) -> tuple[float, float]:
    """The first and the third quartile."""
    low, high = np.quantile(values, (0.25, 0.75))
    return float(low), float(high)
