"""LSH attention one step at a time: remember a key and its value, and look up what shares a bucket with a query.

Kitaev, Kaiser & Levskaya 2020 (arXiv 2001.04451), but exact: of every round the newest keys in the query's bucket, as a
set (a key met in several rounds counts once), and the softmax over it. A step costs what its buckets hold, whatever
the history.

Memory is allocated once. Keys and values lie side by side in a ring of ``capacity`` rows: what is older is forgotten.
A bucket is a ring of the numbers of its ``cap`` newest keys rather than a linked list, so that they are read at once
and not each after the one before; a number that has left the ring of rows is recognized by its value.

Sums run over sixteen coordinates, or sixteen candidates, at a time, in an order that depends on nothing but the
candidates, newest first, round after round.
"""

from __future__ import annotations

import numpy as np

from esd.kernels import inlined, kernel
from esd.kernels.elementary import exp
from esd.kernels.hashing import hash_one
from esd.kernels.lanes import LANES, load, padded, prefetch, splat, store, total

MOST_DIGITS = 62  # of even factors, whose product is an int64
SETTINGS = np.dtype(
    [
        ("tokens", np.int64),  # keys remembered since the episode began
        ("lookups", np.int64),  # ever
        ("found", np.int64),  # keys that the last lookup found
        ("size", np.int64),  # of a key
        ("value_size", np.int64),
        ("rounds", np.int64),  # of hashing
        ("buckets", np.int64),  # of a round
        ("cap", np.int64),  # newest keys of a bucket that are found
        ("capacity", np.int64),  # newest keys that are remembered
        ("columns", np.int64),  # of the projections, see ``hashing.hash_one``
        ("digits", np.int64),  # of a bucket; the factors that there are
        ("factors", np.int64, MOST_DIGITS),
    ],
    align=True,
)
# of ``found``: the largest logit, Σ exp(logit − largest), and where the logits begin
LARGEST, MASS, LOGITS = range(3)
_LINE = 16  # float32 of a cache line

f32 = np.float32


@inlined
def forget(settings, filled):
    """Begin an episode: an empty history. Rows and stamps may stay, since nothing leads to them."""
    settings.tokens = 0
    settings.found = 0
    filled[:] = 0


@inlined
def insert(key, value, key_buckets, settings, rows, rings, filled):
    """Remember a key and its value.

    Args:
        key: float32 [size].
        value: float32 [value size].
        key_buckets: int64 [rounds].
        settings: one of ``SETTINGS``; changed.
        rows: float32 [capacity · (padded size + padded value size)]; changed, zero at first.
        rings: int64 [rounds · buckets · cap], numbers of keys; changed.
        filled: int64 [rounds · buckets], keys that a bucket has ever got; changed.
    """
    number = settings.tokens
    cap = settings.cap
    width = padded(settings.size)
    start = number % settings.capacity * (width + padded(settings.value_size))
    for i in range(settings.size):
        rows[start + i] = key[i]
    for i in range(settings.value_size):
        rows[start + width + i] = value[i]
    for r in range(settings.rounds):
        bucket = r * settings.buckets + key_buckets[r]
        rings[bucket * cap + filled[bucket] % cap] = number
        filled[bucket] += 1
    settings.tokens = number + 1


@inlined
def _collect(query_buckets, settings, rows, rings, filled, stamps, candidates):
    """Starts of the rows of all candidates, each once, newest first, round after round; returns how many."""
    lookup = settings.lookups + 1
    settings.lookups = lookup
    cap = settings.cap
    capacity = settings.capacity
    tokens = settings.tokens
    oldest = tokens - capacity
    turn = (
        tokens // capacity * capacity
    )  # the number of the key in row 0, unless that is yet to come
    stride = padded(settings.size) + padded(settings.value_size)
    count = 0
    for r in range(settings.rounds):
        bucket = r * settings.buckets + query_buckets[r]
        held = min(filled[bucket], cap)
        at = filled[bucket] % cap
        for _ in range(held):
            at = (at if at else cap) - 1
            number = rings[bucket * cap + at]
            if number < oldest:
                break
            row = number - turn
            if row < 0:
                row += capacity
            if stamps[row] != lookup:
                stamps[row] = lookup
                start = row * stride
                candidates[count] = start
                count += 1
                for line in range(0, stride, _LINE):
                    prefetch(rows, start + line)
    return count


@inlined
def _weigh(query, size, rows, candidates, count, found):
    """Logits, their maximum and exp(logit − maximum), padded by zeros to whole vectors."""
    logits = found[LOGITS:]
    largest = f32(-np.inf)
    for c in range(count):
        sums = splat(f32(0.0))
        start = candidates[c]
        for i in range(0, size, LANES):
            sums = sums + load(rows, start + i) * load(query, i)
        logit = total(sums)
        logits[c] = logit
        largest = logit if logit > largest else largest
    whole = padded(count)
    for c in range(count):
        logits[c] = exp(logits[c] - largest)
    logits[count:whole] = f32(0.0)
    masses = splat(f32(0.0))
    for c in range(0, whole, LANES):
        masses = masses + load(logits, c)
    found[LARGEST] = largest
    found[MASS] = total(masses)


@inlined
def _average(rows, offset, width, candidates, count, found, out):
    """Set out to the weighted mean of the values."""
    weights = found[LOGITS:]
    share = splat(f32(1.0) / found[MASS])
    j = 0
    # four sums side by side: one alone waits for each of its additions
    while j + 4 * LANES <= width:
        s0 = splat(f32(0.0))
        s1 = splat(f32(0.0))
        s2 = splat(f32(0.0))
        s3 = splat(f32(0.0))
        for c in range(count):
            weight = splat(weights[c])
            at = candidates[c] + offset + j
            s0 = s0 + load(rows, at) * weight
            s1 = s1 + load(rows, at + LANES) * weight
            s2 = s2 + load(rows, at + 2 * LANES) * weight
            s3 = s3 + load(rows, at + 3 * LANES) * weight
        store(out, j, s0 * share)
        store(out, j + LANES, s1 * share)
        store(out, j + 2 * LANES, s2 * share)
        store(out, j + 3 * LANES, s3 * share)
        j += 4 * LANES
    while j < width:
        s0 = splat(f32(0.0))
        for c in range(count):
            s0 = s0 + load(rows, candidates[c] + offset + j) * splat(weights[c])
        store(out, j, s0 * share)
        j += LANES


@inlined
def look_up(query, query_buckets, settings, rows, rings, filled, stamps, candidates, found, out):
    """Set out to what is remembered for a query: Σ softmax(query · key) value, or zeros if nothing is.

    Args:
        query: float32 [padded size], scaled already, zero in the padding.
        query_buckets: int64 [rounds].
        settings: one of ``SETTINGS``; changed.
        rows: see ``insert``.
        rings: see ``insert``.
        filled: see ``insert``.
        stamps: int64 [capacity], the last lookup that has met a row; changed, zero at first.
        candidates: int64 [rounds · cap]; scratch.
        found: float32 [LOGITS + padded rounds · cap]; scratch, but for the first two, see above.
        out: float32 [padded value size]; written.
    """
    count = _collect(query_buckets, settings, rows, rings, filled, stamps, candidates)
    settings.found = count
    width = padded(settings.value_size)
    if count == 0:
        out[:width] = f32(0.0)
        found[LARGEST] = f32(-np.inf)
        found[MASS] = f32(0.0)
        return
    size = padded(settings.size)
    _weigh(query, size, rows, candidates, count, found)
    _average(rows, size, width, candidates, count, found, out)


@inlined
def normalize(x, y):
    """Set y = x/‖x‖, or to zeros if ‖x‖² is none that float32 can tell from 0, or is infinite or NaN."""
    total_square = f32(0.0)
    for i in range(x.size):
        total_square += x[i] * x[i]
    length = np.sqrt(total_square)
    for i in range(x.size):
        y[i] = x[i] / length if f32(0.0) < length < f32(np.inf) else f32(0.0)


@kernel
def normalize_many(xs, ys):
    """Set ys[t] = xs[t]/‖xs[t]‖, both float32 [n, size]."""
    for t in range(xs.shape[0]):
        normalize(xs[t], ys[t])


@kernel
def step(query, key, value, scale, shared, inclusive, write, projections, memory, work, out):
    """One step: look up a query and remember a key.

    Args:
        query: float32 [size].
        key: float32 [size]; of no meaning if shared.
        value: float32 [value size].
        scale: float32, on the logits.
        shared: the key is the query divided by its length, in the query's buckets.
        inclusive: remember first, so that the query may find this step's own key.
        write: whether the key is remembered at all.
        projections: see ``hashing.hash_one``.
        memory: ``SETTINGS`` [1], rows, rings, filled, stamps, see ``insert`` and ``look_up``.
        work: scratch: candidates and found, see ``look_up``; scaled query, float32 [padded size], zero at first; key,
            float32 [size]; sums, float32 [columns]; buckets of query and key, int64 [2, rounds].
        out: float32 [padded value size]; written.
    """
    records, rows, rings, filled, stamps = memory
    settings = records[0]
    candidates, found, scaled, own_key, sums, buckets = work
    columns = settings.columns
    rounds = settings.rounds
    factors = settings.factors[: settings.digits]
    hash_one(query, projections, columns, factors, rounds, sums, buckets[0])
    for i in range(query.size):
        scaled[i] = query[i] * scale
    if write:
        if shared:
            normalize(query, own_key)
            buckets[1] = buckets[0]
        else:
            own_key[:] = key
            hash_one(key, projections, columns, factors, rounds, sums, buckets[1])
    if write and inclusive:
        insert(own_key, value, buckets[1], settings, rows, rings, filled)
    look_up(scaled, buckets[0], settings, rows, rings, filled, stamps, candidates, found, out)
    if write and not inclusive:
        insert(own_key, value, buckets[1], settings, rows, rings, filled)


@kernel
def steps(
    queries, keys, values, scale, shared, inclusive, write, projections, memory, work, out, counts
):
    """Make a step for every row of queries, keys and values; out [n, padded value size], counts int64 [n]."""
    for t in range(queries.shape[0]):
        step(
            queries[t],
            keys[t],
            values[t],
            scale,
            shared,
            inclusive,
            write[t],
            projections,
            memory,
            work,
            out[t],
        )
        counts[t] = memory[0][0].found


@kernel
def begin(memory):
    """Begin an episode, see ``forget``."""
    settings, _, _, filled, _ = memory
    forget(settings[0], filled)
