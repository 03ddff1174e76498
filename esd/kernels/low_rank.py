"""Noise whose matrices are products of two thin ones, ε = A Bᵀ/√r; its sum over pairs, without making any ε.

For rows i, columns j and s = 1/√r rounded to float32, every product rounded before its sum,

    ε_p[i, j] = Σ_q (A_p[i, q]·s)·B_p[j, q]                      in the order of q,
    Σ_p w_p ε_p[i, j] = Σ_p Σ_q ((w_p·s)·A_p[i, q])·B_p[j, q]    in the order of p, then q.

The second is a matrix product whose sums have a fixed order (a BLAS has one of its own on every machine). A tile of it
stays in registers while the pairs go by. Each coordinate's sum is its own, so any slice has the bits of the whole.

A *plan* says what a slice of h consists of (see ``evolution.low_rank``): its parts of matrices, int64 [m, 6 + 2r], its
stretches of dense noise, int64 [d, 2], from and to, counted in the slice, and the stretches of the stream of factors
that it needs, int64 [k, 2]. *Factors* are what was drawn of them, one after the other, float32 [pairs, n]. A *stream*
names the random numbers by uint32: pair, generation, purpose of dense noise, purpose of factors, key0, key1.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from esd.kernels import inlined, kernel
from esd.kernels.distribution import add_dot, add_weighted
from esd.kernels.lanes import LANES, pointer
from esd.kernels.philox import GAUSSIAN, add
from esd.kernels.reduce import REDUCTION_BLOCK

f32 = np.float32
u32 = np.uint32

# of a part: where it begins in the slice, in its matrix, its size; columns of the matrix, its first row and column;
# then where A[first row, q] and B[first column, q] stand among the factors, for each q
AT, FIRST, SIZE, COLUMNS, ROW, COLUMN, FACTORS = range(7)

TILE_ROWS = 4  # with sixteen columns: 8 of AVX2's 16 registers; more rows are no faster with AVX-512's (measured)
GROUP_ROWS = 60 * TILE_ROWS  # of which the factors stay in a core's cache while the columns go by
_TILE = TILE_ROWS * LANES


@inlined
def _draw_one(drawn, pair, stream, factors):
    """The factors of one pair, float32 [n]."""
    _, generation, _, purpose, key0, key1 = stream
    one = np.ones(1, np.float32)
    factors[:] = f32(0.0)
    to = 0
    for d in range(drawn.shape[0]):
        here = factors[to : to + drawn[d, 1] - drawn[d, 0]]
        add(GAUSSIAN, drawn[d, 0], one, pair, generation, purpose, key0, key1, here, here)
        to += here.size


@kernel
def draw(drawn, stream, factors):
    """The factors of several pairs.

    Args:
        drawn: of the plan.
        stream: whose pair is that of factors[0].
        factors: float32 [pairs, n], overwritten.
    """
    for p in range(factors.shape[0]):
        _draw_one(drawn, u32(stream[0] + u32(p)), stream, factors[p])


@inlined
def _add_part(part, rank, factors, scale, weight, base, out):
    """Of one part: out = base + weight·ε."""
    columns = part[COLUMNS]
    last = part[FIRST] + part[SIZE]
    at = part[AT]
    k = part[FIRST]
    row = part[ROW]
    sums = np.empty(min(columns, part[SIZE]) if rank > 1 else 0, np.float32)
    while k < last:
        begin = k - row * columns
        count = min(columns - begin, last - k)
        origin = begin - part[COLUMN]
        here = out[at : at + count]
        before = base[at : at + count]
        for q in range(rank):
            a = factors[part[FACTORS + q] + row - part[ROW]] * scale
            b_at = part[FACTORS + rank + q] + origin
            b = factors[b_at : b_at + count]
            if rank == 1:
                for j in range(here.size):
                    here[j] = before[j] + weight * (a * b[j])
            elif q == 0:
                for j in range(count):
                    sums[j] = a * b[j]
            elif q < rank - 1:
                for j in range(count):
                    sums[j] += a * b[j]
            else:
                for j in range(here.size):
                    here[j] = before[j] + weight * (sums[j] + a * b[j])
        at += count
        k += count
        row += 1


@inlined
def _add_one(parts, dense, factors, scale, weight, start, pair, stream, base, out):
    """Out = base + weight[0]·ε of one pair, whose factors are given, float32 [n]."""
    _, generation, purpose, _, key0, key1 = stream
    rank = (parts.shape[1] - FACTORS) // 2
    for m in range(parts.shape[0]):
        _add_part(parts[m], rank, factors, scale, weight[0], base, out)
    for d in range(dense.shape[0]):
        low = dense[d, 0]
        high = dense[d, 1]
        add(
            GAUSSIAN, start + low, weight, pair, generation, purpose, key0, key1, base[low:high], out[low:high]
        )  # fmt: skip


@kernel
def add_epsilon(parts, dense, drawn, count, scale, weight, start, stream, base, out):
    """Out = base + weight·ε of one pair; every product is rounded before its sum.

    Args:
        parts: of the plan.
        dense: of the plan.
        drawn: of the plan.
        count: of the factors.
        scale: float32, 1/√r.
        weight: float32 [1].
        start: the coordinate of out[0].
        stream: of the noise.
        base: float32 [n].
        out: float32 [n]; may be base.
    """
    factors = np.empty(count, np.float32)
    pair = stream[0]
    _draw_one(drawn, pair, stream, factors)
    _add_one(parts, dense, factors, scale, weight, start, pair, stream, base, out)


@kernel
def add_moments(
    parts, dense, factors, scale, start, stream, weights, square_weights, sums, squares
):
    """sums[l] += Σ_p weights[l, p]·ε_p and squares += Σ_p square_weights[p]·(ε_p² − 1), in pair order.

    Args:
        parts: of the plan.
        dense: of the plan.
        factors: float32 [pairs, n].
        scale: float32, 1/√r.
        start: the coordinate of squares[0].
        stream: of the noise; its pair is that of weights[0].
        weights: float32 [l, pairs].
        square_weights: float32 [pairs].
        sums: float32 [l, n].
        squares: float32 [n].
    """
    one = np.ones(1, np.float32)
    e = np.empty(squares.size, np.float32)
    for p in range(square_weights.size):
        e[:] = f32(0.0)
        pair = u32(stream[0] + u32(p))
        _add_one(parts, dense, factors[p], scale, one, start, pair, stream, e, e)
        add_weighted(e, weights[:, p], square_weights[p], sums, squares)


@kernel
def add_and_correlate(parts, dense, factors, scale, start, stream, weights, v, out, partials):
    """Add Σ_p weights[p]·ε_p to out, and of every block of 4,096 coordinates sum ε_p v and ε_p².

    Args:
        parts: of the plan.
        dense: of the plan.
        factors: float32 [pairs, n].
        scale: float32, 1/√r.
        start: the coordinate of out[0], a multiple of 4,096.
        stream: of the noise; its pair is that of weights[0].
        weights: float32 [pairs].
        v: float32 [n].
        out: float32 [n].
        partials: float64 [2, pairs, ⌈n/4096⌉], overwritten with Σ ε_p v and Σ ε_p².
    """
    one = np.ones(1, np.float32)
    e = np.empty(out.size, np.float32)
    for p in range(weights.size):
        e[:] = f32(0.0)
        pair = u32(stream[0] + u32(p))
        _add_one(parts, dense, factors[p], scale, one, start, pair, stream, e, e)
        for block in range(partials.shape[2]):
            low = block * REDUCTION_BLOCK
            high = min(low + REDUCTION_BLOCK, out.size)
            dot, square = add_dot(e[low:high], weights[p], v[low:high], out[low:high])
            partials[0, p, block] = dot
            partials[1, p, block] = square


@intrinsic
def _add_tile(typingctx, a, a_at, b, b_at, count, out, out_at, stride):
    """out[i, j] += Σ_k a[k, i]·b[k, j] for a tile, k by k; a and b are contiguous, rows of out ``stride`` apart."""

    def codegen(context, builder, signature, arguments):
        a, a_at, b, b_at, count, out, out_at, stride = arguments
        a_type, _, b_type, _, _, out_type, _, _ = signature.args
        lanes = ir.VectorType(ir.FloatType(), LANES)
        word = count.type
        places = []
        sums = []
        for i in range(TILE_ROWS):
            index = builder.add(out_at, builder.mul(stride, ir.Constant(word, i)))
            address = pointer(context, builder, out_type, out, index)
            places.append(builder.bitcast(address, lanes.as_pointer()))
            sums.append(cgutils.alloca_once(builder, lanes))  # which LLVM keeps in registers
            builder.store(builder.load(places[i], align=4, typ=lanes), sums[i])
        with cgutils.for_range(builder, count) as loop:
            index = builder.add(b_at, builder.mul(loop.index, ir.Constant(word, LANES)))
            address = pointer(context, builder, b_type, b, index)
            row = builder.load(builder.bitcast(address, lanes.as_pointer()), align=4, typ=lanes)
            first = builder.add(a_at, builder.mul(loop.index, ir.Constant(word, TILE_ROWS)))
            for i in range(TILE_ROWS):
                index = builder.add(first, ir.Constant(word, i))
                value = builder.load(pointer(context, builder, a_type, a, index))
                lane = builder.insert_element(
                    ir.Constant(lanes, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
                )
                everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
                factor = builder.shuffle_vector(lane, ir.Constant(lanes, ir.Undefined), everywhere)
                product = builder.fmul(factor, row)  # rounded before its sum
                builder.store(builder.fadd(builder.load(sums[i]), product), sums[i])
        for i in range(TILE_ROWS):
            builder.store(builder.load(sums[i]), places[i], align=4)
        return context.get_dummy_value()

    return types.void(
        a, types.intp, b, types.intp, types.intp, out, types.intp, types.intp
    ), codegen


@inlined
def _packed_rows(part, rank, factors, scale, weights, first, count):
    """A of some rows by tiles of rows, each [pairs·r, TILE_ROWS]: (w_p·s)·A_p[i, q]; 0 for rows beyond the last."""
    inner = factors.shape[0] * rank
    tiles = (count + TILE_ROWS - 1) // TILE_ROWS
    packed = np.zeros(tiles * inner * TILE_ROWS, np.float32)
    for p in range(factors.shape[0]):
        weight = f32(weights[p] * scale)
        for q in range(rank):
            at = part[FACTORS + q] + first
            for i in range(count):
                place = (i // TILE_ROWS * inner + p * rank + q) * TILE_ROWS + i % TILE_ROWS
                packed[place] = weight * factors[p, at + i]
    return packed


@inlined
def _packed_columns(part, rank, factors, count):
    """B by panels of sixteen columns, each [pairs·r, 16]; 0 for columns beyond the last."""
    inner = factors.shape[0] * rank
    panels = (count + LANES - 1) // LANES
    packed = np.zeros(panels * inner * LANES, np.float32)
    for p in range(factors.shape[0]):
        for q in range(rank):
            at = part[FACTORS + rank + q]
            for panel in range(panels):
                place = (panel * inner + p * rank + q) * LANES
                width = min(LANES, count - panel * LANES)
                for j in range(width):
                    packed[place + j] = factors[p, at + panel * LANES + j]
    return packed


@inlined
def _accumulate_part(part, rank, factors, scale, weights, out, scratch):
    """Of one part: out += Σ_p w_p ε_p."""
    columns = part[COLUMNS]
    low = part[FIRST]
    high = low + part[SIZE]
    row = part[ROW]
    rows = (high - 1) // columns + 1 - row
    # a part of one row has only its own columns among the factors
    left = part[COLUMN]
    width = columns if rows > 1 else high - low
    inner = factors.shape[0] * rank
    b = _packed_columns(part, rank, factors, width)
    for group in range(0, rows, GROUP_ROWS):
        count = min(GROUP_ROWS, rows - group)
        a = _packed_rows(part, rank, factors, scale, weights, group, count)
        for panel in range((width + LANES - 1) // LANES):
            j = left + panel * LANES
            b_at = panel * inner * LANES
            for tile in range((count + TILE_ROWS - 1) // TILE_ROWS):
                i = row + group + tile * TILE_ROWS
                a_at = tile * inner * TILE_ROWS
                at = part[AT] - low
                first = i * columns + j
                last = first + (TILE_ROWS - 1) * columns + LANES
                inside = first >= low and last <= high and j + LANES <= columns
                if inside and tile * TILE_ROWS + TILE_ROWS <= count:
                    _add_tile(a, a_at, b, b_at, inner, out, at + first, columns)
                    continue
                for y in range(TILE_ROWS):
                    for x in range(LANES):
                        k = first + y * columns + x
                        there = low <= k < high and j + x < left + width
                        scratch[y * LANES + x] = out[at + k] if there else f32(0.0)
                _add_tile(a, a_at, b, b_at, inner, scratch, 0, LANES)
                for y in range(TILE_ROWS):
                    for x in range(LANES):
                        k = first + y * columns + x
                        if low <= k < high and j + x < left + width:
                            out[at + k] = scratch[y * LANES + x]


@kernel
def accumulate(parts, dense, factors, scale, start, stream, weights, out):
    """Out += Σ_p weights[p]·ε_p, in pair order.

    Args:
        parts: of the plan.
        dense: of the plan.
        factors: float32 [pairs, n].
        scale: float32, 1/√r.
        start: the coordinate of out[0].
        stream: of the noise; its pair is that of weights[0].
        weights: float32 [pairs].
        out: float32 [n].
    """
    scratch = np.empty(_TILE, np.float32)
    rank = (parts.shape[1] - FACTORS) // 2
    pair, generation, purpose, _, key0, key1 = stream
    for m in range(parts.shape[0]):
        _accumulate_part(parts[m], rank, factors, scale, weights, out, scratch)
    for d in range(dense.shape[0]):
        here = out[dense[d, 0] : dense[d, 1]]
        add(
            GAUSSIAN,
            start + dense[d, 0],
            weights,
            pair,
            generation,
            purpose,
            key0,
            key1,
            here,
            here,
        )
