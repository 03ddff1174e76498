"""Low-rank noise: of every matrix in h two thin random factors are drawn instead of one number per coordinate.

Sarkar et al. 2025, "Evolution Strategies at the Hyperscale" (EGGROLL, arXiv 2511.16652): ε = A Bᵀ/√r with A [rows, r]
and B [columns, r] standard normal. ε has mean 0 and variance 1 in each coordinate, but is not normal, and its
coordinates depend on each other. Theirs steps in proportion to σ; here an algorithm does with ε what it does with any.

An array with two or more axes is taken as a matrix in the order in which it lies in h: in order "C" its rows are the
first axis, its columns all others; in order "F" its columns are the first axis, its rows all others. Arrays of one
axis, and matrices that r·(rows + columns) factors would not make smaller, get the dense Gaussian noise of their own
coordinates.

Factors are one stream of normals per pair, of a purpose of its own: matrix by matrix A[:, 0], …, A[:, r − 1], B[:, 0],
…, B[:, r − 1]. So any piece of any perturbation can be rebuilt from the factors of its rows and columns (law 2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from esd.config.settings import LOW_RANK
from esd.evolution.halves import Halves
from esd.evolution.layout import Layout
from esd.evolution.noise import Float32s, Float64s, Noise, Purpose, key_words
from esd.evolution.vectors import pieces
from esd.kernels import low_rank as kernels
from esd.kernels.philox import BLOCK
from esd.kernels.reduce import REDUCTION_BLOCK

Int64s = npt.NDArray[np.int64]
_Stream = tuple[np.uint32, np.uint32, np.uint32, np.uint32, np.uint32, np.uint32]
_DENSE, _LOW_RANK = np.uint32(Purpose.PERTURBATION), np.uint32(Purpose.LOW_RANK)

FACTORS_AT_ONCE = 2**21  # of all pairs: bounds the memory of an update
COORDINATES_AT_ONCE = 2**24  # likewise, where h is huge
_MOST_PLANS = 4096


@dataclass(frozen=True)
class Matrix:
    """A matrix in h whose noise is a product.

    Attributes:
        start: the coordinate of its first element; row by row from there on.
        rows: of the matrix.
        columns: of the matrix.
        factors: where its factors begin in their stream.
    """

    start: int
    rows: int
    columns: int
    factors: int

    @property
    def stop(self) -> int:
        """The coordinate behind its last."""
        return self.start + self.rows * self.columns


def matrices(layout: Layout, rank: int) -> tuple[Matrix, ...]:
    """The matrices of h whose noise has low rank, in their order."""
    found = []
    start = factors = 0
    for shape in layout.shapes.values():
        size = math.prod(shape)
        if len(shape) > 1 and size:
            rows = shape[0] if layout.order == "C" else size // shape[0]
            columns = size // rows
            if rank * (rows + columns) < size:
                found.append(Matrix(start, rows, columns, factors))
                factors += rank * (rows + columns)
        start += size
    return tuple(found)


@dataclass(frozen=True)
class Plan:
    """What a slice of h consists of.

    Attributes:
        parts: of matrices, int64 [m, 6 + 2r] (see ``kernels.low_rank``).
        dense: the other stretches, from and to within the slice, int64 [d, 2].
        drawn: stretches of the stream of factors that are needed, from and to, int64 [k, 2].
        factors: how many these are.
    """

    parts: Int64s
    dense: Int64s
    drawn: Int64s
    factors: int


@dataclass(frozen=True)
class LowRankNoise(Noise):
    """See ``Noise``; one generation's perturbations of the matrices in h have rank r.

    Args:
        kind: "low_rank".
        seed: the run's seed, 64 bits.
        rank: r.
        layout: the arrays in h.
    """

    rank: int
    layout: Layout
    _plans: dict[tuple[int, int], Plan] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """See ``matrices``."""
        return matrices(self.layout, self.rank)

    @property
    def notes(self) -> Iterator[str]:
        """A line if nothing in h has low rank."""
        if not self.matrices:
            yield (
                f'es.noise = "{LOW_RANK}" has no effect: h has no matrix with rows × columns > {self.rank} × (rows + '
                f"columns), as es.rank = {self.rank} needs, so all perturbations are gaussian"
            )

    @cached_property
    def _key(self) -> tuple[np.uint32, np.uint32]:
        return key_words(self.seed)

    @cached_property
    def scale(self) -> np.float32:
        """1/√r."""
        return np.float32(1.0 / math.sqrt(self.rank))

    def plan(self, start: int, size: int) -> Plan:
        """What the coordinates from ``start`` on consist of."""
        found = self._plans.get((start, size))
        if found is None:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            found = self._plans[start, size] = planned(self.matrices, self.rank, start, size)
        return found

    def accumulate(
        self,
        weights: Float32s,
        generation: int,
        out: Float32s,
        start: int = 0,
        halves: Halves | None = None,
    ) -> None:
        """See ``Noise.accumulate``: Σ_p Σ_q ((w_p/√r)·A_p[i, q])·B_p[j, q], without any ε_p."""
        half = 0 if halves is None else weights.size // 2
        out[...] = 0.0
        for first in range(0, out.size, COORDINATES_AT_ONCE):
            here = out[first : first + COORDINATES_AT_ONCE]
            self._accumulate(weights[:half], 0, generation, start + first, here)
            of_first_half = None if halves is None else here.copy()
            self._accumulate(weights[half:], half, generation, start + first, here)
            if halves is not None and of_first_half is not None:
                halves.see(first, of_first_half, here)

    def _accumulate(
        self, weights: Float32s, first_pair: int, generation: int, start: int, out: Float32s
    ) -> None:
        """Add Σ_p weights[p]·ε_{first_pair + p} to ``out``."""
        plan = self.plan(start, out.size)
        for pairs, factors in self._drawn(plan, weights.size, first_pair, generation):
            stream = self._stream(first_pair + pairs.start, generation)
            kernels.accumulate(
                plan.parts, plan.dense, factors, self.scale, start, stream, weights[pairs], out
            )

    def perturb_many(
        self, h: Float32s, sigma: float, members: Int64s, generation: int, out: Float32s
    ) -> None:
        """See ``Noise.perturb_many``."""
        for member, own in zip(members.tolist(), out, strict=True):
            if member < 0:
                own[...] = h
            else:
                self.perturb(h, sigma, member, generation, own)

    def moments(
        self,
        weights: Float32s,
        square_weights: Float32s,
        generation: int,
        sums: Float32s,
        squares: Float32s,
        start: int = 0,
    ) -> None:
        """See ``Noise.moments``."""
        sums[...] = 0.0
        squares[...] = 0.0
        for piece in pieces(squares.size):
            own, of_squares, at = sums[:, piece], squares[piece], start + piece.start
            plan = self.plan(at, of_squares.size)
            for pairs, factors in self._drawn(plan, square_weights.size, 0, generation):
                kernels.add_moments(
                    plan.parts, plan.dense, factors, self.scale, at, self._stream(pairs.start, generation),
                    weights[:, pairs], square_weights[pairs], own, of_squares,
                )  # fmt: skip

    def correlate(
        self,
        weights: Float32s,
        first_pair: int,
        generation: int,
        v: Float32s,
        out: Float32s,
        start: int = 0,
    ) -> Float64s:
        """See ``Noise.correlate``."""
        partials = np.empty((2, weights.size, -(-v.size // REDUCTION_BLOCK)))
        for piece in pieces(v.size):
            own, at = out[piece], start + piece.start
            plan = self.plan(at, own.size)
            blocks = slice(piece.start // REDUCTION_BLOCK, -(-piece.stop // REDUCTION_BLOCK))
            for pairs, factors in self._drawn(plan, weights.size, first_pair, generation):
                kernels.add_and_correlate(
                    plan.parts, plan.dense, factors, self.scale, at,
                    self._stream(first_pair + pairs.start, generation),
                    weights[pairs], v[piece], own, partials[:, pairs, blocks],
                )  # fmt: skip
        return partials

    def _add(
        self,
        weights: Float32s,
        first_pair: int,
        generation: int,
        start: int,
        out: Float32s,
        base: Float32s | None = None,
    ) -> Float32s:
        """Of one pair: out = base + weight·ε."""
        plan, stream = self.plan(start, out.size), self._stream(first_pair, generation)
        before = out if base is None else base
        kernels.add_epsilon(
            plan.parts, plan.dense, plan.drawn, plan.factors, self.scale, weights, start, stream, before, out
        )  # fmt: skip
        return out

    def _stream(self, pair: int, generation: int) -> _Stream:
        """Of dense noise and of factors, as the kernels name it."""
        return np.uint32(pair), np.uint32(generation), _DENSE, _LOW_RANK, *self._key

    def _drawn(
        self, plan: Plan, pairs: int, first_pair: int, generation: int
    ) -> Iterator[tuple[slice, Float32s]]:
        """The factors of pairs, float32 [some pairs, n], in memory that the next ones overwrite."""
        at_once = max(1, min(pairs, FACTORS_AT_ONCE // max(1, plan.factors)))
        buffer = np.empty((at_once, plan.factors), np.float32)
        for low in range(0, pairs, at_once):
            some = slice(low, min(low + at_once, pairs))
            factors = buffer[: some.stop - low]
            kernels.draw(plan.drawn, self._stream(first_pair + low, generation), factors)
            yield some, factors


def make_noise(kind: str, seed: int, rank: int, layout: Layout) -> Noise:
    """The noise that settings describe, for an h that holds the arrays of a layout."""
    return LowRankNoise(kind, seed, rank, layout) if kind == LOW_RANK else Noise(kind, seed)


def notes_of(noise: object) -> Iterator[str]:
    """What a user should know of the noise, a line each."""
    if isinstance(noise, LowRankNoise):
        yield from noise.notes


def planned(found: tuple[Matrix, ...], rank: int, start: int, size: int) -> Plan:
    """The plan of a slice of h.

    Args:
        found: the matrices in h, in their order.
        rank: r.
        start: the slice's first coordinate.
        size: its number of coordinates.
    """
    stop = start + size
    parts: list[tuple[Matrix, int, int]] = []  # and its first and last coordinate
    dense = []
    seen = start
    for matrix in found:
        low, high = max(start, matrix.start), min(stop, matrix.stop)
        if low >= high:
            continue
        if seen < low:
            dense.append((seen - start, low - start))
        seen = high
        parts += ((matrix, *bounds) for bounds in _whole_rows(matrix, low, high))
    if seen < stop:
        dense.append((seen - start, size))
    needed = [stretch for part in parts for stretch in _needed(*part, rank)]
    drawn = _merged(needed)
    table = np.empty((len(parts), kernels.FACTORS + 2 * rank * bool(parts)), np.int64)
    for number, (matrix, low, high) in enumerate(parts):
        first = low - matrix.start
        row = first // matrix.columns
        column = first % matrix.columns if _is_one_row(matrix, low, high) else 0
        table[number, : kernels.FACTORS] = (
            low - start,
            first,
            high - low,
            matrix.columns,
            row,
            column,
        )
        own = needed[2 * rank * number : 2 * rank * (number + 1)]
        table[number, kernels.FACTORS :] = [_place(drawn, begin) for begin, _ in own]
    factors = sum(last - first for first, last in drawn)
    return Plan(table, _pairs(dense), _pairs(drawn), factors)


def _pairs(numbers: list[tuple[int, int]]) -> Int64s:
    return np.array(numbers, np.int64).reshape(-1, 2)


def _is_one_row(matrix: Matrix, low: int, high: int) -> bool:
    return (low - matrix.start) // matrix.columns == (high - 1 - matrix.start) // matrix.columns


def _whole_rows(matrix: Matrix, low: int, high: int) -> Iterator[tuple[int, int]]:
    """Coordinates of a matrix, cut in two where the end of a row meets a piece of the next: each has its columns."""
    cut = matrix.start + -(-(low - matrix.start) // matrix.columns) * matrix.columns
    if high - low < matrix.columns and low < cut < high:
        yield low, cut
        yield cut, high
    else:
        yield low, high


def _needed(matrix: Matrix, low: int, high: int, rank: int) -> Iterator[tuple[int, int]]:
    """Stretches of the stream with the factors of a part: A[:, q] for each q, B[:, q] for each q."""
    first, last = low - matrix.start, high - 1 - matrix.start
    rows = first // matrix.columns, last // matrix.columns + 1
    columns = 0, matrix.columns
    if _is_one_row(matrix, low, high):
        columns = first % matrix.columns, last % matrix.columns + 1
    for q in range(rank):
        at = matrix.factors + q * matrix.rows
        yield at + rows[0], at + rows[1]
    for q in range(rank):
        at = matrix.factors + rank * matrix.rows + q * matrix.columns
        yield at + columns[0], at + columns[1]


def _merged(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same numbers in as few draws as make sense: a block is drawn whole anyway."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted(stretches):
        if found and start - found[-1][1] <= BLOCK:
            found[-1] = found[-1][0], max(found[-1][1], stop)
        else:
            found.append((start, stop))
    return found


def _place(drawn: list[tuple[int, int]], factor: int) -> int:
    """Where a factor stands among those that are drawn."""
    before = 0
    for start, stop in drawn:
        if factor < stop:
            return before + factor - start
        before += stop - start
    raise AssertionError(f"factor {factor} is not drawn")
