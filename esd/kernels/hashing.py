"""Buckets of vectors: the largest of signed projections, digit by digit.

Andoni et al. 2015 (arXiv 1509.02897, cross-polytope hashing); Kitaev, Kaiser & Levskaya 2020 (arXiv 2001.04451).

A round has one digit per factor b of its number of buckets: argmax([y; −y]) of b/2 projections y, the first of equal
ones. With b = 2 a digit is a sign. The sums run over the coordinates in order, so a bucket is
the same on every processor.
"""

from __future__ import annotations

import numpy as np

from esd.kernels import inlined, kernel
from esd.kernels.dense import multiply

f32 = np.float32


@inlined
def hash_one(x, projections, columns, factors, rounds, sums, buckets):
    """Set buckets[r] of one vector.

    Args:
        x: float32 [size].
        projections: float32 [size · columns], all columns of a coordinate side by side.
        columns: Σ factors / 2 over all rounds, rounded up to whole vectors.
        factors: int64, even; of a round, the same in each.
        rounds: int64.
        sums: float32 [columns]; scratch.
        buckets: int64 [rounds]; written, from 0 to Π factors − 1.
    """
    multiply(x, projections, 0, columns, columns, sums)
    first = 0
    for r in range(rounds):
        bucket = 0
        for f in range(factors.size):
            half = factors[f] // 2
            digit = 0
            largest = sums[first]
            for c in range(1, half):
                if sums[first + c] > largest:
                    largest = sums[first + c]
                    digit = c
            for c in range(half):
                if -sums[first + c] > largest:
                    largest = -sums[first + c]
                    digit = half + c
            bucket = bucket * factors[f] + digit
            first += half
        buckets[r] = bucket


@kernel
def hash_many(xs, projections, columns, factors, rounds, buckets):
    """Set buckets[r, t], int64 [rounds, n], of vectors xs, float32 [n, size]; see ``hash_one``."""
    sums = np.empty(columns, np.float32)
    own = np.empty(rounds, np.int64)
    for t in range(xs.shape[0]):
        hash_one(xs[t], projections, columns, factors, rounds, sums, own)
        for r in range(rounds):
            buckets[r, t] = own[r]
