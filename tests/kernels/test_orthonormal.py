"""Directions made perpendicular: numpy's QR up to signs, and to full precision where a single pass has none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from esd.kernels.orthonormal import orthonormalize

Float64s = npt.NDArray[np.float64]
SHAPES = [(1, 1), (1, 9), (2, 3), (7, 7), (16, 40), (64, 64)]


def orthonormal(rows: Float64s) -> Float64s:
    """A copy made perpendicular."""
    made = rows.copy()
    orthonormalize(made, 2)
    return made


def error(rows: Float64s) -> float:
    """How far products of rows are from those of perpendicular ones of length 1, at most."""
    return float(np.abs(rows @ rows.T - np.eye(len(rows))).max())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_numpys_qr_but_for_signs(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(0).standard_normal(shape)
    q, r = np.linalg.qr(rows.T)
    np.testing.assert_allclose(orthonormal(rows), (q * np.sign(np.diag(r))).T, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_are_perpendicular_and_of_length_1(shape: tuple[int, int]) -> None:
    for scale in (1e-3, 1.0, 1e6):
        rows = orthonormal(scale * np.random.default_rng(1).standard_normal(shape))
        assert error(rows) < 1e-12


def test_nearly_parallel_rows_become_perpendicular_too() -> None:
    rng = np.random.default_rng(2)
    rows = rng.standard_normal(20) + 1e-9 * rng.standard_normal((10, 20))
    assert error(orthonormal(rows)) < 1e-12


def test_the_first_row_keeps_its_direction_and_rows_span_what_they_did() -> None:
    rows = np.random.default_rng(3).standard_normal((5, 11))
    made = orthonormal(rows)
    np.testing.assert_allclose(made[0], rows[0] / np.linalg.norm(rows[0]), rtol=1e-14)
    np.testing.assert_allclose(rows @ made.T @ made, rows, atol=1e-13)
    assert (np.diag(rows @ made.T) > 0).all()


def test_both_orders_of_memory_give_the_same_bits() -> None:
    rows = np.random.default_rng(4).standard_normal((12, 17))
    by_column = np.asfortranarray(rows)
    orthonormalize(by_column, 2)
    np.testing.assert_array_equal(by_column, orthonormal(rows))
