"""Functions with known minima, to try algorithms on; the smallest value of each is 0.

The shapes of the arrays don't matter: a function of n numbers is one of any array of n. Sources: Rosenbrock 1960, "An
automatic method for finding the greatest or least value of a function"; Rastrigin 1974, in the form of Mühlenbein,
Schomisch & Born 1991; the ellipsoid as in Hansen & Ostermeier 2001, "Completely derandomized self-adaptation in
evolution strategies".
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

Float64s = npt.NDArray[np.float64]

ROTATION_SEED = 20  # of the rotated ellipsoid, which is always the same one


def sphere(x: Float64s) -> float:
    """Σ x², smallest at 0: every algorithm has to solve it."""
    return float(np.sum(np.square(x)))


def rosenbrock(x: Float64s) -> float:
    """Σ 100 (x_{i+1} − x_i²)² + (1 − x_i)², smallest at 1: a bent valley; needs two numbers or more."""
    flat = np.ravel(x)
    if flat.size < 2:
        raise ValueError("the Rosenbrock function needs two numbers or more")
    return float(np.sum(100.0 * (flat[1:] - flat[:-1] ** 2) ** 2 + (1.0 - flat[:-1]) ** 2))


def rastrigin(x: Float64s) -> float:
    """Σ x² − 10 cos 2πx + 10, smallest at 0: many local minima around a bowl."""
    flat = np.ravel(x)
    return float(np.sum(flat**2 - 10.0 * np.cos(2.0 * np.pi * flat) + 10.0))


def rotated_ellipsoid(x: Float64s, condition: float = 1e6) -> float:
    """Σ λ_i (Rx)_i² with λ from 1 to 10⁶ and a fixed rotation R, smallest at 0: ill-conditioned, no axis alone helps.

    Args:
        x: any number of numbers.
        condition: largest over smallest λ.
    """
    flat = np.ravel(x)
    exponents = np.arange(flat.size) / max(flat.size - 1, 1)
    return float(np.sum(condition**exponents * np.square(_rotation(flat.size) @ flat)))


def noisy_sphere(x: Float64s, seed: int, noise: float = 1.0) -> float:
    """Σ x² with Gaussian noise of standard deviation ``noise`` on every call, smallest on average at 0.

    Args:
        x: any number of numbers.
        seed: of the noise.
        noise: its standard deviation.
    """
    return sphere(x) + noise * float(np.random.default_rng(seed).standard_normal())


@functools.cache
def _rotation(size: int) -> Float64s:
    """A rotation of so many axes (Gram–Schmidt on Gaussian vectors), always the same, float64 [size, size]."""
    rows = np.random.default_rng(ROTATION_SEED).standard_normal((size, size))
    for i in range(size):
        for before in rows[:i]:
            rows[i] -= (rows[i] @ before) * before
        rows[i] /= np.sqrt(rows[i] @ rows[i])
    return rows
