"""Curves over a training: thinned out for drawing, and the mean and range of several runs at the same x."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64s = npt.NDArray[np.float64]

MOST_POINTS = 300  # of a curve: about two for each millimeter on paper


@dataclass(frozen=True)
class Curve:
    """Points of one run.

    Attributes:
        x: float64 [n], not falling.
        y: float64 [n].
    """

    x: Float64s
    y: Float64s


@dataclass(frozen=True)
class Spread:
    """Several runs at the same x.

    Attributes:
        x: float64 [n].
        mean, low, high: float64 [n], over the runs.
    """

    x: Float64s
    mean: Float64s
    low: Float64s
    high: Float64s


def curve_of(x: Sequence[float], y: Sequence[float | None]) -> Curve:
    """The points that have a value."""
    known = [(float(a), float(b)) for a, b in zip(x, y, strict=True) if b is not None]
    points = np.array(known, np.float64).reshape(-1, 2)
    return Curve(points[:, 0], points[:, 1])


def thinned(curve: Curve, most: int = MOST_POINTS) -> Curve:
    """A curve of at most so many points, each the mean of a stretch of consecutive points; short ones as they are.

    The first and the last point stay, so that a curve begins and ends where the run did.
    """
    n = curve.x.size
    if n <= most:
        return curve
    edges = np.linspace(1, n - 1, most - 1).astype(np.int64)  # between the ends
    counts = np.diff(edges)
    inner = [np.add.reduceat(values, edges[:-1])[: counts.size] for values in (curve.x, curve.y)]
    # reduceat sums its last stretch to the end, which is the last point
    inner[0][-1] -= curve.x[-1]
    inner[1][-1] -= curve.y[-1]
    x, y = (sums / counts for sums in inner)
    return Curve(
        np.concatenate([curve.x[:1], x, curve.x[-1:]]),
        np.concatenate([curve.y[:1], y, curve.y[-1:]]),
    )


def spread_of(curves: Sequence[Curve], most: int = MOST_POINTS) -> Spread | None:
    """Mean, lowest and highest of several runs, between where the last one begins and where the first one ends.

    Between its points a run is taken to be straight. None if there is no x that all runs reach.
    """
    if not curves or any(curve.x.size == 0 for curve in curves):
        return None
    thin = [thinned(curve, most) for curve in curves]
    start, end = max(c.x[0] for c in thin), min(c.x[-1] for c in thin)
    if end < start:
        return None
    points = np.unique(np.concatenate([curve.x for curve in thin]))
    points = points[(points >= start) & (points <= end)]
    x = points if points.size <= most else np.linspace(start, end, most)
    values = np.stack([np.interp(x, curve.x, curve.y) for curve in thin])
    return Spread(x, values.mean(axis=0), values.min(axis=0), values.max(axis=0))
