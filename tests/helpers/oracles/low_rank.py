"""Low-rank noise in plain numpy: whole vectors, written from the docstrings of ``esd/evolution/low_rank.py``.

Imports nothing from ``esd``. Every float32 operation stands in the same order as in the kernels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from tests.helpers.oracles import philox

Float32s = npt.NDArray[np.float32]
Shapes = Mapping[str, tuple[int, ...]]
FACTORS = 9  # the counter's fourth word


def matrices(shapes: Shapes, order: str, rank: int) -> Iterator[tuple[int, int, int]]:
    """Of each array: where it begins in h, and its rows and columns in memory; rows = 0 for a dense one."""
    start = 0
    for shape in shapes.values():
        in_memory = shape if order == "C" else shape[::-1]
        rows = columns = 0
        if len(shape) > 1:
            rows, columns = (
                (in_memory[0], math.prod(in_memory[1:]))
                if order == "C"
                else (math.prod(in_memory[:-1]), in_memory[-1])
            )
            if rank * (rows + columns) >= rows * columns:
                rows = columns = 0
        yield start, rows, columns
        start += math.prod(shape)


def products(
    shapes: Shapes, order: str, rank: int, seed: int, pair: int, generation: int
) -> list[tuple[int, Float32s, Float32s]]:
    """Of each matrix that is not dense: where it begins, A·s [rows, r] and B [columns, r]."""
    found = []
    at = 0
    for start, rows, columns in matrices(shapes, order, rank):
        if rows:
            count = rank * (rows + columns)
            drawn = philox.epsilon("gaussian", seed, pair, generation, at, at + count, FACTORS)
            a, b = drawn[: rank * rows].reshape(rank, rows), drawn[rank * rows :].reshape(rank, -1)
            found.append((start, a.T, b.T))
            at += count
    return found


def epsilon(
    shapes: Shapes, order: str, rank: int, seed: int, pair: int, generation: int
) -> Float32s:
    """ε of all of h."""
    size = sum(math.prod(shape) for shape in shapes.values())
    e = philox.epsilon("gaussian", seed, pair, generation, 0, size).astype(np.float32)
    s = np.float32(1 / math.sqrt(rank))
    for start, a, b in products(shapes, order, rank, seed, pair, generation):
        total = np.zeros((len(a), len(b)), np.float32)
        for q in range(rank):
            total += (a[:, q] * s)[:, None] * b[:, q]
        e[start : start + total.size] = total.reshape(-1)
    return e


def accumulated(
    shapes: Shapes, order: str, rank: int, seed: int, weights: Float32s, generation: int
) -> Float32s:
    """Σ_p w_p ε_p of all of h."""
    size = sum(math.prod(shape) for shape in shapes.values())
    out = np.zeros(size, np.float32)
    s = np.float32(1 / math.sqrt(rank))
    for pair, weight in enumerate(weights):
        e = philox.epsilon("gaussian", seed, pair, generation, 0, size)
        in_products = np.zeros(size, bool)
        for start, a, b in products(shapes, order, rank, seed, pair, generation):
            here = slice(start, start + len(a) * len(b))
            in_products[here] = True
            for q in range(rank):
                factor = (weight * s) * a[:, q]
                out[here] += (factor[:, None] * b[:, q]).reshape(-1)
        out[~in_products] += weight * e[~in_products]
    return out
