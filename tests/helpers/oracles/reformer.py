"""A Reformer policy in plain numpy: whole episodes at once, block after block, in float64 with dense masks.

Only the buckets are those of float32 queries and keys, since rounding could decide them otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from esd.policies.reformer import ReformerSettings
from tests.helpers.oracles import lsh

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]


def factors(buckets: int) -> tuple[int, ...]:
    """Two even factors, as near to each other as can be; up to 64 the number itself."""
    if buckets <= 64:
        return (buckets,)
    pairs = [
        (a, buckets // a)
        for a in range(2, buckets, 2)
        if buckets % a == 0 and buckets // a % 2 == 0
    ]
    return min((pair for pair in pairs if pair[0] <= pair[1]), key=lambda pair: pair[1] - pair[0])


def clock(steps: int, periods: tuple[int, ...]) -> Float64s:
    """Sine and cosine of the time, [steps, 2 · periods]."""
    turns = np.arange(steps)[:, None] / np.array(periods, np.float64)
    angles = 2.0 * np.pi * turns
    return np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(steps, -1)


def with_one(x: Float64s) -> Float64s:
    """A one behind each row."""
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def normalized(x: Float64s) -> Float64s:
    """Each row by the root of its mean square."""
    return x / np.sqrt((x * x).mean(axis=1, keepdims=True))


def attention(
    arrays: Mapping[str, Float32s], settings: ReformerSettings, block: int, read: Float64s
) -> Float64s:
    """What all heads of a block remember, [steps, heads · head size]."""
    steps, size = len(read), settings.head_size
    query, value = with_one(read) @ arrays["query"], read @ arrays["value"]
    shared = settings.keys == "shared"
    key = query if shared else with_one(read) @ arrays["key"]
    written = np.ones(steps, bool)
    if settings.gate:
        written = (with_one(read) @ arrays["gate"])[:, 0] > 0.0
    found = np.zeros((steps, settings.heads * size))
    for h in range(settings.heads):
        own = slice(h * size, (h + 1) * size)
        q, k, v = query[:, own], key[:, own], value[:, own]
        if settings.attention == "lsh":
            layer = block * settings.heads + h
            by = factors(settings.buckets)
            rows = lsh.rotations(settings.hash_seed, size, settings.hashes, by, layer)
            buckets = [lsh.buckets(x.astype(np.float32), rows, by) for x in (q, k)]
            cap = settings.cap
        else:
            buckets, cap = [np.zeros((1, steps), np.int64)] * 2, settings.capacity
        seen = np.zeros((steps, steps), bool)
        numbers = np.flatnonzero(written)
        for t in range(steps):
            known = numbers[numbers < t][-settings.capacity :]
            for of_queries, of_keys in zip(*buckets, strict=True):
                seen[t, known[of_keys[known] == of_queries[t]][-cap:]] = True
        scale = np.exp(arrays["sharpness"][0, h]) / (1.0 if shared else np.sqrt(size))
        if shared:
            k = k / np.linalg.norm(k, axis=1, keepdims=True)
        for t in range(steps):
            if seen[t].any():
                logits = q[t] @ k[seen[t]].T * scale
                weights = np.exp(logits - logits.max())
                found[t, own] = weights @ v[seen[t]] / weights.sum()
    return found


def streams(
    arrays: Mapping[str, Float32s], settings: ReformerSettings, observations: Float32s
) -> Float64s:
    """Both streams behind the last block, side by side, [steps, 2 · width]."""
    time = clock(len(observations), settings.clock)
    x1 = x2 = np.concatenate([observations, time], axis=1) @ arrays["embed"]
    for block in range(settings.blocks):
        prefix = f"block{block}."
        of_block = {
            name.removeprefix(prefix): array.astype(np.float64)
            for name, array in arrays.items()
            if name.startswith(prefix)
        }
        read = normalized(x2) if settings.normalize else x2
        x1 = x1 + attention(of_block, settings, block, read) @ of_block["mix"]
        if settings.units:
            read = normalized(x1) if settings.normalize else x1
            hidden = np.tanh(with_one(read) @ of_block["feed1"])
            x2 = x2 + with_one(hidden) @ of_block["feed2"]
    return np.concatenate([x1, x2], axis=1)
