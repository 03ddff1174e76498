"""Which buckets a vector falls into: angular, sign and bit-sampling hashes, any number of rounds.

Angular (Andoni et al. 2015, arXiv 1509.02897; Kitaev, Kaiser & Levskaya 2020, "Reformer", arXiv 2001.04451):
argmax([xR; −xR]) with R of size × buckets/2, rows of a random rotation. For many buckets the number is a product of
factors, each with an R of its own, so that 4,096 buckets take 64 projections instead of 2,048. The other two are the
same computation: signs are factors of 2, and sampled bits are signs whose projections are unit vectors.

Three statements on codes, which are easily mixed up:

- Sampled bits are locality-sensitive for Hamming distance: a flipped bit moves a vector only if it is one of those
  sampled. Vectors with the same sampled bits are a coset of a linear code over GF(2), whose parity check is degenerate:
  each of its rows has a single one.
- The syndrome of a *dense* random parity check is linear over GF(2), and its cosets are buckets too, but it is not
  locality-sensitive: one flipped bit changes half of the syndrome.
- Signs of random real projections are locality-sensitive (for angles), but not linear over GF(2): the bucket of a sum
  is not the sum of buckets, so their buckets are no cosets.

Projections are rebuilt from the seed, each by its coordinates (layer, round, column, coordinate), and never stored in
h: more rounds or more columns change none of those that were there (law 7).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esd.errors import UsageError
from esd.evolution.noise import Purpose, consecutive_words, normals
from esd.kernels import hashing
from esd.kernels.lanes import aligned_zeros, padded
from esd.kernels.orthonormal import orthonormalize

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]

FEW_BUCKETS = 64  # up to here one factor
MOST_BUCKETS = 2**63  # numbered by int64


@dataclass(frozen=True)
class Hash:
    """A hash of vectors of one size, as its projections.

    Attributes:
        size: of the vectors.
        rounds: how many buckets a vector has, one in each round.
        factors: whose product is the number of buckets of a round; even.
        columns: Σ factors / 2 over all rounds, rounded up to whole vectors of the kernel.
        projections: float32 [size · columns], coordinate by coordinate.
    """

    size: int
    rounds: int
    factors: tuple[int, ...]
    columns: int
    projections: Float32s

    @property
    def buckets(self) -> int:
        """Of a round."""
        return math.prod(self.factors)

    def __call__(self, vectors: Float32s) -> Int64s:
        """Buckets of vectors [n, size], int64 [rounds, n], from 0 to ``buckets`` − 1.

        Raises:
            UsageError: the vectors have another size.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.size:
            raise UsageError(
                f"vectors of shape {vectors.shape} can't be hashed: expected [n, {self.size}]"
            )
        found = np.empty((self.rounds, len(vectors)), np.int64)
        hashing.hash_many(
            np.ascontiguousarray(vectors, np.float32),
            self.projections,
            self.columns,
            np.array(self.factors, np.int64),
            self.rounds,
            found,
        )
        return found


def angular(
    seed: int, size: int, rounds: int, buckets: int | Sequence[int], layer: int = 0
) -> Hash:
    """The hash of the Reformer: nearby directions fall into one bucket.

    Args:
        seed: 64 bits.
        size: of the vectors.
        rounds: at least 1.
        buckets: of a round, or the factors whose product they are; more than 64 are factorized.
        layer: hashes of two layers (or heads) with one seed share nothing.

    Raises:
        UsageError: a count is out of range, or can't be factorized.
    """
    factors = factorize(buckets) if isinstance(buckets, int) else tuple(buckets)
    _check(size, rounds, factors)
    return _made(size, factors, [_rotation(seed, size, factors, r, layer) for r in range(rounds)])


def signs(seed: int, size: int, rounds: int, bits: int, layer: int = 0) -> Hash:
    """Signs of ``bits`` random projections per round: the angular hash with factors of 2."""
    return angular(seed, size, rounds, (2,) * bits, layer)


def sampled_bits(size: int, positions: Sequence[Sequence[int]]) -> Hash:
    """For binary vectors (0 and 1, or −1 and 1) of this size: a bucket is the number that their bits there spell.

    Args:
        size: of the vectors.
        positions: for each round those of its bits, most significant first; as many in each round.

    Raises:
        UsageError: a position is outside of the vectors, or rounds differ in length.
    """
    bits = len(positions[0]) if positions else 0
    _check(size, len(positions), (2,) * bits)
    for row in positions:
        if len(row) != bits or not all(0 <= position < size for position in row):
            raise UsageError(
                f"bits {list(row)} can't be sampled: expected {bits} positions from 0 to {size - 1}"
            )
    # the smaller of the projection and its negative has digit 1, so a one bit needs a minus
    return _made(
        size, (2,) * bits, [-np.eye(size, dtype=np.float32)[list(row)] for row in positions]
    )


def one_bucket(size: int) -> Hash:
    """A hash that tells nothing apart: with a cap as large as the capacity, attention is full attention."""
    _check(size, 1, (2,))
    return _made(size, (2,), [np.zeros((1, size), np.float32)])


def draw_positions(seed: int, size: int, rounds: int, bits: int, layer: int = 0) -> list[list[int]]:
    """Positions for ``sampled_bits``: in each round ``bits`` different ones of ``size``, drawn from the seed.

    Raises:
        UsageError: there are fewer positions than bits.
    """
    if bits > size:
        raise UsageError(f"{bits} different bits can't be drawn from {size}: sample at most {size}")
    drawn = [consecutive_words(seed, Purpose.HASH, size, 0, r, layer)[0] for r in range(rounds)]
    return [np.argsort(words, kind="stable")[:bits].tolist() for words in drawn]


def factorize(buckets: int) -> tuple[int, ...]:
    """Two even factors of a number of buckets, as near to each other as can be; itself alone up to 64.

    Raises:
        UsageError: it is odd, or large and not divisible by 4.
    """
    if buckets <= FEW_BUCKETS:
        return (buckets,)
    for first in range(math.isqrt(buckets), 1, -1):
        if first % 2 == 0 and buckets % first == 0 and buckets // first % 2 == 0:
            return first, buckets // first
    raise UsageError(
        f"{buckets} buckets have no two even factors: choose a multiple of 4, better a power of 2"
    )


def _rotation(seed: int, size: int, factors: tuple[int, ...], number: int, layer: int) -> Float32s:
    """Projections of a round [Σ factors / 2, size]: per factor rows of a random rotation.

    Of more rows than coordinates, each further ``size`` are of a rotation of their own. Gaussian rows as they are drawn
    collide as often at equal angles, but differ in length, and the longer ones crowd their buckets: measured on
    directions of 64 coordinates, two of them met by chance in 4,096 buckets 1.3 times as often, of 16 coordinates in
    256 too.
    """
    columns = sum(factors) // 2
    rows = normals(seed, Purpose.HASH, columns * size, number, layer).reshape(columns, size)
    exact = rows.astype(np.float64)
    first = 0
    for factor in factors:
        end = first + factor // 2
        for start in range(first, end, size):
            orthonormalize(exact[start : min(start + size, end)], passes=1)
        first = end
    return exact.astype(np.float32)


def _check(size: int, rounds: int, factors: tuple[int, ...]) -> None:
    if size < 1 or rounds < 1:
        raise UsageError(f"a hash of {size} coordinates in {rounds} rounds: expected at least 1")
    if not factors or any(factor < 2 or factor % 2 for factor in factors):
        raise UsageError(
            f"buckets {list(factors)}: expected even numbers from 2 on, since a projection and its "
            "negative share one"
        )
    if math.prod(factors) > MOST_BUCKETS:
        raise UsageError(f"buckets {list(factors)}: expected a product of at most 2⁶³")


def _made(size: int, factors: tuple[int, ...], rows: Sequence[Float32s]) -> Hash:
    """A hash out of each round's projections [Σ factors / 2, size]."""
    whole = np.concatenate(rows)
    columns = padded(len(whole))
    projections = aligned_zeros(size * columns)
    projections.reshape(size, columns)[:, : len(whole)] = whole.T
    return Hash(size, len(rows), factors, columns, projections)
