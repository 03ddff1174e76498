"""LSH attention beside full attention, on one core: whole sequences, one step at a time, and what hashing misses.

One head, queries, keys and values of 64 coordinates. Three parts:

- Whole sequences, keys shared with queries as in the Reformer, one bucket for 64 tokens, cap 64; torch's causal
  scaled_dot_product_attention on one thread beside it. Others' figures are quoted, not measured here.
- One step of a stream that remembers the last n keys (capacity n, cap 64, keys of their own), every query and key a
  new one; the buckets are the power of two next to 4,096 · n / 100,000. Full attention over n keys as numpy, torch and
  the stream itself with a single bucket compute it.
- Recall: how much of the exact attention lies on the keys found, when a query repeats one of 10,000 random keys at some
  cosine; logits are 30 · cosine.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.measuring import in_turns, on_one_core, parser, seconds, write
from esd.attention.hashing import Hash, angular, one_bucket
from esd.attention.sequence import attend, shared_keys
from esd.attention.stream import CAP, Limits, Stream
from esd.attention.telemetry import measure
from esd.kernels import kernel
from esd.kernels.attention_stream import insert

Float32s = npt.NDArray[np.float32]

SIZE, SCALE = 64, 0.125
LENGTHS = tuple(2**power for power in range(6, 16))
HASHES, STREAM_HASHES = (1, 2, 4), (1, 2, 4, 8)
TOKENS_PER_BUCKET = 64
HISTORIES = (100, 1_000, 10_000, 100_000, 1_000_000)
STEPS = 500
RECALL_HISTORY, RECALL_BUCKETS, COSINES = 10_000, (128, 512, 2048), (1.0, 0.95, 0.8)
SHARPNESS = 30.0

# ms on 8,192 tokens, 64 coordinates, one head, by their authors' packages and by torch's full attention beside them, in
# a run on another machine, before this program was there. Lowest and highest; the packages are not installed here.
QUOTED = {
    "full_ms": (107.0, 112.0),
    "contenders": [
        {"name": "lucidrains/reformer-pytorch", "hashes": 1, "ms": (33.0, 44.0)},
        {"name": "lucidrains/reformer-pytorch", "hashes": 4, "ms": (137.0, 137.0)},
        {"name": "Hugging Face transformers", "hashes": 1, "ms": (50.0, 50.0)},
        {"name": "Hugging Face transformers", "hashes": 4, "ms": (191.0, 191.0)},
    ],
}


def hashes(count: int) -> str:
    """So many, in words."""
    return f"{count} hash" if count == 1 else f"{count} hashes"


def drawn(seed: int, *shape: int) -> Float32s:
    """Gaussian vectors."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def whole_sequences(length: int, rounds: int) -> dict[str, Any]:
    """Full attention first; ms."""
    queries, values = drawn(0, 2, length, SIZE)
    buckets = max(2, length // TOKENS_PER_BUCKET)
    q, k, v = (torch.from_numpy(x)[None, None] for x in (queries, shared_keys(queries), values))

    def full() -> None:
        with torch.inference_mode():
            torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)

    def ours(count: int) -> Callable[[], Any]:
        hashed = angular(0, SIZE, count, buckets)
        return lambda: attend(hashed, queries, values, limits=Limits(CAP, length))

    works: dict[str, Callable[[], Any]] = {"torch, full attention": full}
    works |= {f"esd, {hashes(count)}": ours(count) for count in HASHES}
    times: dict[str, Callable[[], float]] = {
        who: (lambda work=work: 1e3 * seconds(work))  # type: ignore[misc]
        for who, work in works.items()
    }
    table = in_turns(f"{length:,} tokens", "ms", times, rounds)
    found = {count: float(ours(count)().candidates.mean()) for count in HASHES}
    return {"length": length, "buckets": buckets, "candidates": found, "table": table}


@kernel
def _remember(keys, values, buckets, memory):  # type: ignore[no-untyped-def]
    """Insert keys without looking anything up; buckets int64 [n, rounds]."""
    settings, rows, rings, filled, _ = memory
    for t in range(keys.shape[0]):
        insert(keys[t], values[t], buckets[t], settings[0], rows, rings, filled)


def filled(hashed: Hash, keys: Float32s, values: Float32s, cap: int) -> Stream:
    """A stream that remembers these and, from now on, always as many."""
    stream = Stream(hashed, values.shape[1], Limits(cap, len(keys)))
    _remember(keys, values, np.ascontiguousarray(hashed(keys).T), stream.memory)
    return stream


def buckets_for(history: int) -> int:
    """The power of two next to 4,096 · history / 100,000, from 4 on."""
    return int(2 ** max(2, round(math.log2(4096 * history / 100_000))))


def bytes_of(stream: Stream) -> int:
    """What it has allocated for its memory and its projections."""
    return sum(array.nbytes for array in (*stream.memory, stream.projections))


def numpy_full(keys: Float32s, values: Float32s) -> Callable[[Float32s], Float32s]:
    """Full attention of one query: two products of a matrix and a vector."""

    def full(query: Float32s) -> Float32s:
        weights = keys @ (query * np.float32(SCALE))
        np.exp(np.subtract(weights, weights.max(), out=weights), out=weights)
        found: Float32s = (weights @ values) / weights.sum()
        return found

    return full


def torch_full(keys: Float32s, values: Float32s) -> Callable[[Float32s], Any]:
    """The same in torch."""
    own_keys, own_values = torch.from_numpy(keys), torch.from_numpy(values)

    @torch.inference_mode()
    def full(query: Float32s) -> torch.Tensor:
        weights = torch.softmax(torch.mv(own_keys, torch.from_numpy(query) * SCALE), 0)
        return weights @ own_values

    return full


def per_step(work: Callable[[int], object], steps: int) -> Callable[[], float]:
    """µs per step of the second of two calls: the first brings back into the cache what others have pushed out."""

    def second() -> float:
        work(steps)
        return 1e6 * seconds(lambda: work(steps)) / steps

    return second


def stepping(stream: Stream, fresh: Float32s, from_python: bool = False) -> Callable[[int], object]:
    """Steps with what comes next of fresh queries, values and keys [3, n, size], which are a multiple of the steps."""
    used = 0

    def work(steps: int) -> None:
        nonlocal used
        queries, values, keys = fresh[:, used : used + steps]
        used = (used + steps) % (fresh.shape[1] // steps * steps)
        if not from_python:
            stream.steps(queries, values, keys)
        else:
            for t in range(steps):
                stream.step(queries[t], values[t], keys[t])

    return work


def asking(full: Callable[[Float32s], Any], fresh: Float32s) -> Callable[[int], object]:
    """Full attention of some of the queries."""
    return lambda steps: [full(query) for query in fresh[0, :steps]]


def streams(history: int, rounds: int, steps: int) -> dict[str, Any]:
    """4 hashes first; µs per step."""
    keys, values = drawn(0, 2, history, SIZE)
    fresh = drawn(1, 3, 2 * (rounds + 1) * steps, SIZE)  # all new to the stream
    few = max(3, min(steps, 2_000_000 // history))  # of what takes as long as the history
    buckets = buckets_for(history)
    made = {
        count: filled(angular(0, SIZE, count, buckets), keys, values, CAP)
        for count in STREAM_HASHES
    }
    contenders = {
        "esd, 4 hashes": per_step(stepping(made[4], fresh), steps),
        **{
            f"esd, {hashes(count)}": per_step(stepping(made[count], fresh), steps)
            for count in STREAM_HASHES
            if count != 4
        },
        "esd, 4 hashes, called from Python": per_step(stepping(made[4], fresh, True), steps),
        "full attention, numpy": per_step(asking(numpy_full(keys, values), fresh), few),
        "full attention, torch": per_step(asking(torch_full(keys, values), fresh), few),
        "full attention, esd with one bucket": per_step(
            stepping(filled(one_bucket(SIZE), keys, values, history), fresh), few
        ),
    }
    table = in_turns(f"history {history:,}", "µs per step", contenders, rounds)
    return {
        "history": history,
        "buckets": buckets,
        "full_bytes": keys.nbytes + values.nbytes,
        "bytes": {count: bytes_of(stream) for count, stream in made.items()},
        "candidates": {
            count: float(stream.steps(fresh[0], fresh[1], fresh[2])[1].mean())
            for count, stream in made.items()
        },
        "table": table,
    }


def repeats(keys: Float32s, cosine: float, count: int) -> tuple[Float32s, npt.NDArray[np.int64]]:
    """Directions [count, size] at this cosine to random ones of the keys, and to which."""
    generator = np.random.default_rng(2)
    which = generator.integers(0, len(keys), count)
    along = keys[which] / np.linalg.norm(keys[which], axis=1, keepdims=True)
    across = generator.standard_normal(along.shape)
    across -= (across * along).sum(axis=1, keepdims=True) * along
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    found = cosine * along + math.sqrt(1 - cosine**2) * across
    return found.astype(np.float32), which


def recalls(history: int, asked: int, buckets: int, count: int) -> dict[str, Any]:
    """Mean recall at every cosine, of queries that come when all keys are there."""
    keys = drawn(0, history, SIZE)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    hashed = angular(0, SIZE, count, buckets)
    write = np.arange(history + asked) < history
    told: dict[str, Any] = {"buckets": buckets, "hashes": count, "recalled": {}, "repeat": {}}
    for cosine in COSINES:
        asks, which = repeats(keys, cosine, asked)
        queries = np.concatenate([keys, asks * np.float32(SHARPNESS / SCALE)])
        every_key = np.concatenate([keys, np.zeros_like(asks)])
        found = measure(hashed, queries, every_key, Limits(CAP, history), write)
        logits = SHARPNESS * (asks @ keys.T).astype(np.float64)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        told["recalled"][f"{cosine:g}"] = float(found.recalled[history:].mean())
        told["repeat"][f"{cosine:g}"] = float(
            (weights[np.arange(asked), which] / weights.sum(axis=1)).mean()
        )
        told["candidates"] = float(found.candidates[history:].mean())
    return told


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """All three parts."""
    torch.set_num_threads(1)
    lengths, histories, steps = list(LENGTHS), list(HISTORIES), STEPS
    history, asked = RECALL_HISTORY, 1000
    if arguments.quick:
        lengths, histories, steps = lengths[:2], histories[:2], 5
        history, asked = 200, 20
    rounds = arguments.rounds
    return {
        "batch": [whole_sequences(length, rounds) for length in lengths],
        "quoted": QUOTED,
        "stream": [streams(known, rounds, steps) for known in histories],
        "recall_history": history,
        "recall": [
            recalls(history, asked, buckets, count)
            for buckets in RECALL_BUCKETS
            for count in STREAM_HASHES
        ],
    }


def main() -> None:
    """Measure and write."""
    command_line = parser("attention", __doc__)
    command_line.add_argument("--rounds", type=int, default=9, help="[%(default)s]")
    arguments = command_line.parse_args()
    if arguments.quick:
        arguments.rounds = 1
    on_one_core()
    write(arguments, "attention", measured(arguments))


if __name__ == "__main__":
    main()
