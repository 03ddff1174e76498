"""One step of a Reformer: embed, and in every block attend to the episode so far and feed forward.

Kitaev, Kaiser & Levskaya 2020 (arXiv 2001.04451). A block is reversible, y₁ = x₁ + F(x₂), y₂ = x₂ + G(y₁), with
LSH attention for F and a perceptron of one hidden layer for G; both streams begin as the embedding. Every head of every
block has a memory of its own (see ``attention_stream``); what a step writes into it is found from the next step on.

All matrices lie one after the other in ``weights``, the columns of each padded to whole vectors, in the order in which
a step reads them: the embedding [features, width]; then of each block the query and the key (unless shared) [width + 1,
heads · head size], the value [width, heads · head size], the sharpness [1, heads], the mix [heads · head size, width],
the gate [width + 1, 1] (if there is one), and the perceptron [width + 1, units] and [units + 1, width] (if it has
units). Where a matrix has a row more than what it is applied to, that is a bias.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from esd.kernels import clock, inlined, kernel
from esd.kernels.attention_stream import forget, insert, look_up, normalize
from esd.kernels.dense import multiply
from esd.kernels.elementary import exp, tanh
from esd.kernels.hashing import hash_one
from esd.kernels.lanes import LANES, padded
from esd.kernels.networks import step_of

SETTINGS = np.dtype(
    [
        ("step", np.int64),  # since the episode began
        ("seen", np.int64),  # numbers of an observation
        ("features", np.int64),  # the observation and the clock
        ("width", np.int64),  # of both streams
        ("blocks", np.int64),
        ("heads", np.int64),  # of a block
        ("head_size", np.int64),
        ("units", np.int64),  # of a block's perceptron; 0: it has none
        ("shared", np.bool_),  # keys are queries
        ("gated", np.bool_),  # a gate decides what is remembered
        ("normalized", np.bool_),  # what a block reads
    ],
    align=True,
)

f32 = np.float32
_SMALLEST_SQUARE = f32(1e-12)  # what is below this on average is left alone

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]
Records = npt.NDArray[np.void]


class Reformer(NamedTuple):
    """What a step works on.

    Attributes:
        settings: ``SETTINGS`` [1]; the step's number in it is advanced.
        weights: float32, see above.
        face: ``clock.FACE`` [Σ periods].
        scratch: float32 [scratch_size]; what a step gives is in its first 2 · width + 1: both streams, and a one.
        streams: settings, rows, rings, filled, stamps and projections of each head of each block, all [blocks · heads,
            …]; see ``attention_stream.insert``, ``attention_stream.look_up`` and ``hashing.hash_one``.
        work: candidates, found, sums, and buckets of query and key; see ``attention_stream.step``.
    """

    settings: Records
    weights: Float32s
    face: Records
    scratch: Float32s
    streams: tuple[Records, Float32s, Int64s, Int64s, Int64s, Float32s]
    work: tuple[Int64s, Float32s, Float32s, Int64s]


def scratch_size(features: int, width: int, heads_size: int, head_size: int, units: int) -> int:
    """Floats of scratch, for all features of a step and all heads of a block."""
    vectors = [2 * width + 1, features, width + 1, width, *[heads_size] * 4, *[head_size] * 3]
    return sum(padded(size) for size in [*vectors, units + 1])


@inlined
def _read(x, normalized, y):
    """Set y to x, float32 [width] (divided by the root of its mean square if that is asked for), and a one behind."""
    factor = f32(1.0)
    if normalized:
        square = f32(0.0)
        for i in range(x.size):
            square += x[i] * x[i]
        square /= f32(x.size)
        if square > _SMALLEST_SQUARE:
            factor = f32(1.0) / np.sqrt(square)
    for i in range(x.size):
        y[i] = x[i] * factor
    y[x.size] = f32(1.0)


@inlined
def _attend(query, key, value, logit_scale, shared, writes, stream, work, scaled, own_key, found):
    """Set found to what one head remembers for a query, then remember a key and a value.

    Args:
        query: float32 [head size].
        key: float32 [head size]; of no meaning if shared.
        value: float32 [head size].
        logit_scale: float32.
        shared: the key is the query divided by its length, in the query's buckets.
        writes: whether the key is remembered.
        stream: this head's of ``Reformer.streams``.
        work: see ``Reformer``.
        scaled: float32 [padded head size]; scratch, zero in the padding.
        own_key: float32 [head size]; scratch.
        found: float32 [padded head size]; written.
    """
    settings, rows, rings, filled, stamps, projections = stream
    candidates, weights, sums, buckets = work
    columns = settings.columns
    factors = settings.factors[: settings.digits]
    rounds = settings.rounds
    hash_one(query, projections, columns, factors, rounds, sums, buckets[0])
    for i in range(query.size):
        scaled[i] = query[i] * logit_scale
    look_up(scaled, buckets[0], settings, rows, rings, filled, stamps, candidates, weights, found)
    if not writes:
        return
    if shared:
        normalize(query, own_key)
        insert(own_key, value, buckets[0], settings, rows, rings, filled)
    else:
        hash_one(key, projections, columns, factors, rounds, sums, buckets[1])
        insert(key, value, buckets[1], settings, rows, rings, filled)


@inlined
def _block(number, x1, x2, start, reformer, rest):
    """Change both streams by a block whose matrices begin at ``start``; returns where the next one's do."""
    records, weights, _, _, streams, work = reformer
    settings = records[0]
    width = settings.width
    heads = settings.heads
    size = settings.head_size
    units = settings.units
    shared = settings.shared
    wide = padded(width)
    all_heads = padded(heads * size)
    read = rest[: width + 1]
    at = padded(width + 1)
    change = rest[at : at + wide]
    at += wide
    query = rest[at : at + all_heads]
    key = rest[at + all_heads : at + 2 * all_heads]
    value = rest[at + 2 * all_heads : at + 3 * all_heads]
    attended = rest[at + 3 * all_heads : at + 4 * all_heads]
    at += 4 * all_heads
    scaled = rest[at : at + padded(size)]
    own_key = rest[at + padded(size) : at + padded(size) + size]
    found = rest[at + 2 * padded(size) : at + 3 * padded(size)]
    hidden = rest[at + 3 * padded(size) :]

    _read(x2, settings.normalized, read)
    multiply(read, weights, start, all_heads, all_heads, query)
    start += (width + 1) * all_heads
    if not shared:
        multiply(read, weights, start, all_heads, all_heads, key)
        start += (width + 1) * all_heads
    multiply(read[:width], weights, start, all_heads, all_heads, value)
    start += width * all_heads
    sharpness = weights[start : start + heads]
    start += padded(heads)
    mix = start
    start += heads * size * wide
    writes = True
    if settings.gated:
        gate = f32(0.0)
        for i in range(width + 1):
            gate += read[i] * weights[start + i * LANES]
        writes = gate > f32(0.0)
        start += (width + 1) * LANES
    for h in range(heads):
        own = h * size
        logit_scale = exp(sharpness[h])
        if not shared:
            logit_scale /= np.sqrt(f32(size))
        s = number * heads + h
        stream = (
            streams[0][s],
            streams[1][s],
            streams[2][s],
            streams[3][s],
            streams[4][s],
            streams[5][s],
        )
        _attend(
            query[own : own + size],
            key[own : own + size],
            value[own : own + size],
            logit_scale,
            shared,
            writes,
            stream,
            work,
            scaled,
            own_key,
            found,
        )
        for i in range(size):
            attended[own + i] = found[i]
    multiply(attended[: heads * size], weights, mix, wide, wide, change)
    for i in range(width):
        x1[i] += change[i]
    if units:
        _read(x1, settings.normalized, read)
        columns = padded(units)
        multiply(read, weights, start, columns, columns, hidden)
        start += (width + 1) * columns
        for i in range(units):
            hidden[i] = tanh(hidden[i])
        hidden[units] = f32(1.0)
        multiply(hidden[: units + 1], weights, start, wide, wide, change)
        start += (units + 1) * wide
        for i in range(width):
            x2[i] += change[i]
    return start


@step_of(Reformer)
@inlined
def think(observation, reformer):
    """Make a step: both streams after the last block are in the scratch, see ``Reformer``.

    Args:
        observation: float32 [seen].
        reformer: what is worked on.
    """
    records, weights, face, scratch, _, _ = reformer
    settings = records[0]
    width = settings.width
    seen = settings.seen
    features = settings.features
    result = padded(2 * width + 1)
    now = scratch[result : result + features]
    rest = scratch[result + padded(features) :]
    now[:seen] = observation[:seen]
    clock.read(settings.step, face, now[seen:])
    settings.step += 1
    wide = padded(width)
    embedded = rest[:wide]
    multiply(now, weights, 0, wide, wide, embedded)
    x1 = scratch[:width]
    x2 = scratch[width : 2 * width]
    for i in range(width):
        x1[i] = embedded[i]
        x2[i] = embedded[i]
    scratch[2 * width] = f32(1.0)
    start = features * wide
    for number in range(settings.blocks):
        start = _block(number, x1, x2, start, reformer, rest)


@kernel
def step(observation, reformer):
    """See ``think``."""
    think(observation, reformer)


@kernel
def begin(reformer):
    """Begin an episode: forget everything."""
    reformer.settings[0].step = 0
    settings = reformer.streams[0]
    filled = reformer.streams[3]
    for s in range(settings.shape[0]):
        forget(settings[s], filled[s])
