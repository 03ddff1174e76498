"""Sums over h: precise, in a fixed order, and the same bits however h is cut at block boundaries (law 4)."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest

from esd.evolution.noise import Purpose, normals
from esd.evolution.vectors import euclidean_norm, mean_square
from esd.kernels.reduce import REDUCTION_BLOCK, block_sums_of_squares, in_order

B = 4096


def vector(size: int) -> npt.NDArray[np.float32]:
    """Numbers of very different size, so that another order of addition gives other bits."""
    x = normals(11, Purpose.INITIAL_H, size)
    return np.exp(np.float32(3) * x) * np.sign(x)


def test_a_block_is_4096_coordinates() -> None:
    assert REDUCTION_BLOCK == B


@pytest.mark.parametrize("size", [0, 1, B - 1, B, B + 1, 5 * B + 17])
def test_block_sums_agree_with_exact_sums(size: int) -> None:
    """Within 4,096 roundings of 2⁻⁵³; the square of a float32 is exact in float64."""
    x = vector(size)
    sums = block_sums_of_squares(x)
    assert sums.dtype == np.float64
    assert sums.shape == (-(-size // B),)
    for block, total in enumerate(sums):
        exact = math.fsum(float(v) ** 2 for v in x[block * B : (block + 1) * B])
        assert abs(total - exact) <= B * 2.0**-53 * exact


def test_block_sums_are_added_in_coordinate_order() -> None:
    """Bit for bit the left-to-right sum, which here differs from numpy's pairwise one."""
    x = vector(3 * B)
    squares = x.astype(np.float64).reshape(3, B) ** 2
    left_to_right = np.add.accumulate(squares, axis=1)[:, -1]
    assert np.any(left_to_right != squares.sum(axis=1)), "this vector can't tell the orders apart"
    assert np.array_equal(block_sums_of_squares(x), left_to_right)


@pytest.mark.parametrize("cuts", [(2,), (1, 2, 3, 4, 5), (1, 5), (0, 3, 3)])
def test_slices_at_block_boundaries_give_the_partials_of_the_whole(cuts: tuple[int, ...]) -> None:
    x = vector(5 * B + 1000)
    edges = [0, *(cut * B for cut in cuts), x.size]
    parts = [block_sums_of_squares(x[a:b]) for a, b in itertools.pairwise(edges)]
    assert np.array_equal(np.concatenate(parts), block_sums_of_squares(x))


def test_partials_are_added_first_to_last() -> None:
    partials = np.array([2.0**54, *[1.0] * 7, -(2.0**54)])
    assert in_order(partials) == 0.0  # each 1 is lost to rounding; pairs of them would not be
    assert in_order(partials[::-1].copy()) == 0.0
    # long enough for vector registers, if the order were free
    many = vector(5_000).astype(np.float64) / 3.0
    left_to_right = np.add.accumulate(many)[-1]
    assert left_to_right != many.sum(), "this vector can't tell the orders apart"
    assert in_order(many) == left_to_right
    assert in_order(np.empty(0)) == 0.0


def test_norm_and_mean_square_agree_with_exact_sums() -> None:
    x = vector(3 * B + 5)
    exact = math.fsum(float(v) ** 2 for v in x)
    assert euclidean_norm(x) == pytest.approx(math.sqrt(exact), rel=1e-12)
    assert mean_square([x]) == pytest.approx(exact / x.size, rel=1e-12)
    assert mean_square([x[:B], x[B : 2 * B], x[2 * B :]]) == mean_square([x])


def test_norm_of_float32_extremes_neither_overflows_nor_vanishes() -> None:
    largest = np.full(10, np.finfo(np.float32).max)
    assert euclidean_norm(largest) == pytest.approx(math.sqrt(10) * float(largest[0]))
    smallest = np.full(10, np.finfo(np.float32).smallest_subnormal)
    assert euclidean_norm(smallest) == pytest.approx(math.sqrt(10) * float(smallest[0]))
