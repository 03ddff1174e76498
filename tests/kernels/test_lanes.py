"""Sixteen values as one."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from esd.kernels import lanes


@numba.njit  # type: ignore[misc]
def added(x):  # type: ignore[no-untyped-def]
    return lanes.total(lanes.load(x, 0))


@pytest.mark.parametrize("seed", range(5))
def test_a_total_adds_the_halves_until_one_is_left(seed: int) -> None:
    """In float32 another order gives other bits."""
    x = np.random.default_rng(seed).normal(size=lanes.LANES).astype(np.float32)
    half = x
    while half.size > 1:
        half = half[: half.size // 2] + half[half.size // 2 :]
    assert added(x) == half[0]
