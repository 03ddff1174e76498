"""LSH attention in plain numpy: every pair of tokens is looked at, and a mask says which of them count."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tests.helpers.oracles import philox

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

HASH = 6  # the purpose of the stream, the counter's fourth word


def rotations(seed: int, size: int, rounds: int, factors: Sequence[int], layer: int) -> Float32s:
    """Gaussian rows [rounds, Σ factors / 2, size], made orthonormal: ``size`` at a time, each factor for itself."""
    columns = sum(factors) // 2
    whole = []
    for r in range(rounds):
        drawn = philox.epsilon("gaussian", seed, r, layer, 0, columns * size, HASH)
        rows = iter(drawn.reshape(-1, size).astype(np.float64))
        for factor in factors:
            basis: list[Float64s] = []
            for _ in range(factor // 2):
                if len(basis) == size:
                    basis = []
                row = next(rows)
                for other in basis:
                    row = row - in_order(row * other) * other
                basis.append(row / np.sqrt(in_order(row * row)))
                whole.append(basis[-1].astype(np.float32))
    return np.reshape(whole, (rounds, columns, size))


def in_order(terms: Float64s) -> float:
    """Their sum, from the first to the last; numpy's own sum adds them in pairs."""
    return float(np.cumsum(terms)[-1])


def buckets(vectors: Float32s, rows: Float32s, factors: Sequence[int]) -> Int64s:
    """[rounds, n]: per factor argmax([y; −y]), y summed in float32 from the first coordinate on."""
    found = np.zeros((len(rows), len(vectors)), np.int64)
    for r, round_rows in enumerate(rows):
        first = 0
        for factor in factors:
            own = round_rows[first : first + factor // 2]
            y = np.zeros((len(vectors), len(own)), np.float32)
            for i in range(vectors.shape[1]):
                y = y + vectors[:, i : i + 1] * own[:, i]
            digits = np.argmax(np.concatenate([y, -y], axis=1), axis=1)
            found[r] = found[r] * factor + digits
            first += factor // 2
    return found


def mask(
    query_buckets: Int64s,
    key_buckets: Int64s,
    cap: int | None = None,
    capacity: int | None = None,
    inclusive: bool = False,
) -> Mask:
    """mask[t, j]: does t see j? Of each bucket they share the ``cap`` newest, of all keys the last ``capacity``."""
    rounds, length = query_buckets.shape
    seen = np.zeros((length, length), bool)
    for t in range(length):
        known = range(t + 1 if inclusive else t)
        if capacity is not None:
            known = known[-capacity:]
        for r in range(rounds):
            shared = [j for j in known if key_buckets[r, j] == query_buckets[r, t]]
            seen[t, shared if cap is None else shared[-cap:]] = True
    return seen


def attend(
    queries: Float32s, keys: Float32s, values: Float32s, seen: Mask, scale: float
) -> Float64s:
    """Softmax over what is seen, float64 [n, value size]; zeros where nothing is."""
    logits = queries.astype(np.float64) @ keys.astype(np.float64).T * scale
    out = np.zeros((len(queries), values.shape[1]))
    for t, row in enumerate(seen):
        if row.any():
            weights = np.exp(logits[t, row] - logits[t, row].max())
            out[t] = weights @ values[row].astype(np.float64) / weights.sum()
    return out


def normalized(queries: Float32s) -> Float32s:
    """Keys shared with queries: q/‖q‖."""
    return queries / np.linalg.norm(queries, axis=1, keepdims=True)


def recalled_mass(
    queries: Float32s, keys: Float32s, seen: Mask, all_seen: Mask, scale: float
) -> Float64s:
    """Share of the exact attention that lies on what is seen; NaN where there is nothing to recall."""
    weights = np.exp(queries.astype(np.float64) @ keys.astype(np.float64).T * scale)
    with np.errstate(invalid="ignore"):
        return (weights * seen).sum(axis=1) / (weights * all_seen).sum(axis=1)
