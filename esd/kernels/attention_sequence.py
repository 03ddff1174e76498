"""LSH attention of a whole sequence at once, with the very candidates of the stream (``attention_stream``).

Kitaev, Kaiser & Levskaya 2020 (arXiv 2001.04451) sort tokens by bucket and time, cut the order into chunks and attend
to one's own chunk and the one before. Where a chunk begins depends on how many tokens of smaller buckets there are, the
future ones included, and so the past changes with the future. Here nothing is cut: sorted by bucket and time, what a
query finds in a round is a band, its bucket's newest keys before it, and the band is a function of the past alone.
Bucket by bucket the keys are copied into a tile that stays in cache, transposed, so that sixteen logits are computed
together.

A pair that shares several rounds counts in the first of them: it is left out of a later one if the key's place in the
order of the earlier round lies within the query's band there. Rounds are joined by their sums of exponentials, which is
the paper's multi-round correction, but exact.

Nothing that a query's bits depend on is aligned to more than the start of its own bands: no token after it changes
them.
"""

from __future__ import annotations

import numpy as np

from esd.kernels import inlined, kernel
from esd.kernels.dense import multiply
from esd.kernels.elementary import exp
from esd.kernels.lanes import LANES, load, padded, splat, store, total

f32 = np.float32
u32 = np.uint32

MOST_TOKENS = 2**31 - 1  # places are int32
_MET_BEFORE = f32(-1.0)  # in place of a weight, of which none is below 0


@inlined
def _sort(buckets, filled, order):
    """A stable counting sort: the numbers of all tokens by bucket, and in filled where each bucket begins."""
    filled[:] = 0
    for t in range(buckets.size):
        filled[buckets[t] + 1] += 1
    for b in range(1, filled.size):
        filled[b] += filled[b - 1]
    for t in range(buckets.size):
        order[filled[buckets[t]]] = t
        filled[buckets[t]] += 1
    for b in range(filled.size - 1, 0, -1):
        filled[b] = filled[b - 1]
    filled[0] = 0


@inlined
def _find_bands(query_buckets, key_buckets, come, starts, ends, gone, limits, places, lows, highs):
    """Where in the sorted order each key lies, and where each query's band begins and ends.

    Args:
        query_buckets: int64 [queries].
        key_buckets: int64 [keys].
        come: int64 [queries], not falling: how many keys have come before each query.
        starts: int64 [buckets + 1], where each bucket begins.
        ends: int64 [buckets]; scratch: where the keys end that have come so far.
        gone: int64 [buckets]; scratch: where those begin that are not beyond the capacity.
        limits: cap and capacity.
        places: int32 [keys]; written.
        lows: int32 [queries]; written.
        highs: int32 [queries]; written.
    """
    cap, capacity = limits
    ends[:] = starts[: ends.size]
    gone[:] = starts[: gone.size]
    key = 0
    for t in range(query_buckets.size):
        while key < come[t]:
            if key >= capacity:
                gone[key_buckets[key - capacity]] += 1
            bucket = key_buckets[key]
            places[key] = ends[bucket]
            ends[bucket] += 1
            key += 1
        bucket = query_buckets[t]
        highs[t] = ends[bucket]
        lows[t] = max(ends[bucket] - cap, gone[bucket])
    while key < key_buckets.size:  # nobody's, but a place they have
        places[key] = ends[key_buckets[key]]
        ends[key_buckets[key]] += 1
        key += 1


@inlined
def _accumulate(values, width, low, weights, count, factor, out):
    """Set out = factor·out + Σ weight·value, newest last; values and out are padded."""
    scale = splat(factor)
    j = 0
    while j + 4 * LANES <= width:
        s0 = splat(f32(0.0))
        s1 = splat(f32(0.0))
        s2 = splat(f32(0.0))
        s3 = splat(f32(0.0))
        at = low * width + j
        for c in range(count):
            weight = splat(weights[c])
            s0 = s0 + load(values, at) * weight
            s1 = s1 + load(values, at + LANES) * weight
            s2 = s2 + load(values, at + 2 * LANES) * weight
            s3 = s3 + load(values, at + 3 * LANES) * weight
            at += width
        store(out, j, load(out, j) * scale + s0)
        store(out, j + LANES, load(out, j + LANES) * scale + s1)
        store(out, j + 2 * LANES, load(out, j + 2 * LANES) * scale + s2)
        store(out, j + 3 * LANES, load(out, j + 3 * LANES) * scale + s3)
        j += 4 * LANES
    while j < width:
        s0 = splat(f32(0.0))
        at = low * width + j
        for c in range(count):
            s0 = s0 + load(values, at) * splat(weights[c])
            at += width
        store(out, j, load(out, j) * scale + s0)
        j += LANES


@inlined
def _stride(held):
    """Floats from one row of a tile to the next, for a bucket of so many keys.

    Four vectors more, which may be read beyond its end, and an odd number of vectors: with a power of two all rows
    would lie in the same few sets of the cache.
    """
    return ((padded(held) // LANES + 4) // 2 * 2 + 1) * LANES


@inlined
def _find_all_bands(query_buckets, key_buckets, come, buckets, limits):
    """Sort the keys of every round and find every query's band.

    Returns:
        Where each bucket begins, int64 [rounds, buckets + 1]; the keys by bucket, int64 [rounds, keys]; places, int32
        [rounds, keys], lows and highs, int32 [rounds, queries], see ``_find_bands``; and how many keys the fullest
        bucket has.
    """
    rounds, known = key_buckets.shape
    n = come.size
    starts = np.empty((rounds, buckets + 1), np.int64)
    order = np.empty((rounds, known), np.int64)
    places = np.empty((rounds, known), np.int32)
    lows = np.empty((rounds, n), np.int32)
    highs = np.empty((rounds, n), np.int32)
    ends = np.empty(buckets, np.int64)
    gone = np.empty(buckets, np.int64)
    most = 0
    for r in range(rounds):
        _sort(key_buckets[r], starts[r], order[r])
        for b in range(buckets):
            most = max(most, starts[r, b + 1] - starts[r, b])
        _find_bands(
            query_buckets[r],
            key_buckets[r],
            come,
            starts[r],
            ends,
            gone,
            limits,
            places[r],
            lows[r],
            highs[r],
        )
    return starts, order, places, lows, highs, most


@inlined
def _copy_bucket(members, keys, values, earlier_places, stride, width, tile, bucket_values, seen):
    """Bring a bucket's keys (transposed), values and places in earlier rounds side by side."""
    for c in range(members.size):
        t = members[c]
        for i in range(keys.shape[1]):
            tile[i * stride + c] = keys[t, i]
        for j in range(values.shape[1]):
            bucket_values[c * width + j] = values[t, j]
        for earlier in range(earlier_places.shape[0]):
            seen[earlier, c] = earlier_places[earlier, t]


@inlined
def _leave_out(t, rounds, low, count, lows, highs, seen, weights):
    """Set to zero the weights of keys that a query has met in the rounds before; returns how many are left."""
    left = count
    if rounds == 0:
        return left
    for earlier in range(rounds):
        from_place = u32(lows[earlier, t])
        span = u32(u32(highs[earlier, t]) - from_place)
        for c in range(count):
            if u32(u32(seen[earlier, low + c]) - from_place) < span:
                weights[c] = _MET_BEFORE
    for c in range(count):
        if weights[c] == _MET_BEFORE:
            weights[c] = f32(0.0)
            left -= 1
    return left


@kernel
def attend(tokens, hashed, come, limits, found):
    """Σ softmax(query · key) value over what each query finds, for all queries of a sequence.

    Args:
        tokens: queries, float32 [queries, size], scaled already; keys, float32 [keys, size]; values, float32 [keys,
            value size].
        hashed: buckets of queries, int64 [rounds, queries], and of keys, int64 [rounds, keys]; how many a round has.
        come: int64 [queries], not falling: how many keys have come before each query.
        limits: cap and capacity, see ``attention.stream.Limits``; two integers.
        found: written: out, float32 [queries, padded value size], zero at first; the largest logit, float32 [queries],
            −∞ where nothing is found; mass, float32 [queries], zero at first, Σ exp(logit − largest); how many keys
            were found, int64 [queries], zero at first.
    """
    queries, keys, values = tokens
    query_buckets, key_buckets, buckets = hashed
    out, largest, mass, counts = found
    n, size = queries.shape
    width = padded(values.shape[1])
    starts, order, places, lows, highs, most = _find_all_bands(
        query_buckets, key_buckets, come, buckets, limits
    )
    tile = np.zeros(size * _stride(most), np.float32)
    bucket_values = np.zeros(most * width, np.float32)
    seen = np.zeros((key_buckets.shape[0], most), np.int32)
    weights = np.zeros(padded(min(most, limits[0])) + 4 * LANES, np.float32)
    query_order = np.empty(n, np.int64)
    query_starts = np.empty(buckets + 1, np.int64)
    for t in range(n):
        largest[t] = f32(-np.inf)
    for r in range(key_buckets.shape[0]):
        _sort(query_buckets[r], query_starts, query_order)
        for b in range(buckets):
            first = starts[r, b]
            held = starts[r, b + 1] - first
            if held == 0 or query_starts[b + 1] == query_starts[b]:
                continue
            stride = _stride(held)
            members = order[r, first : first + held]
            _copy_bucket(
                members, keys, values, places[:r], stride, width, tile, bucket_values, seen
            )
            for number in range(query_starts[b], query_starts[b + 1]):
                t = query_order[number]
                low = lows[r, t] - first
                count = np.int64(highs[r, t]) - lows[r, t]
                if count <= 0:
                    continue
                # beyond count up to a whole vector it is the logit of no matter which key
                whole = padded(count)
                multiply(queries[t], tile, low, stride, whole, weights)
                top = largest[t]
                for c in range(count):
                    top = weights[c] if weights[c] > top else top
                for c in range(count):
                    weights[c] = exp(weights[c] - top)
                counts[t] += _leave_out(t, r, low, count, lows, highs, seen, weights)
                weights[count:whole] = f32(0.0)
                masses = splat(f32(0.0))
                for c in range(0, whole, LANES):
                    masses = masses + load(weights, c)
                factor = exp(largest[t] - top)  # of what earlier rounds have left; 0 if nothing
                mass[t] = mass[t] * factor + total(masses)
                largest[t] = top
                _accumulate(bucket_values, width, low, weights, count, factor, out[t])
    for t in range(n):
        if counts[t] > 0:
            share = f32(1.0) / mass[t]
            for j in range(width):
                out[t, j] *= share
