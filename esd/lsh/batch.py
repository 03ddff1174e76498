"""LSH attention of whole sequences: what the stream computes step by step, several times faster.

Compiled rather than written in torch: the buckets must be the stream's, bit for bit, which torch's matrix products don't
promise, and ragged bands have no fast form there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esd.errors import UsageError
from esd.kernels import banded
from esd.kernels.plastic import padded
from esd.lsh.hashing import Hash
from esd.lsh.stream import Limits, scale_of

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Attention:
    """What attention has found.

    Attributes:
        out: Σ softmax(logits) value over the keys found, float32 [n, value size]; zeros if there is none.
        candidates: how many keys each query found, int64 [n].
        log_mass: log of Σ exp(logit) over them, float32 [n]; −∞ if there was none.
    """

    out: Float32s
    candidates: Int64s
    log_mass: Float32s


def shared_keys(queries: Float32s) -> Float32s:
    """Keys shared with queries: q/‖q‖, and zeros for zeros; float32 [n, size]."""
    lengths = np.sqrt(np.einsum("ti,ti->t", queries, queries))[:, None]
    return np.divide(queries, lengths, out=np.zeros_like(queries), where=lengths > 0.0)


def attend(
    hashed: Hash,
    queries: Float32s,
    values: Float32s,
    keys: Float32s | None = None,
    limits: Limits | None = None,
) -> Attention:
    """Attend causally within a sequence of n tokens; agrees with ``Stream.steps`` to 1e-5.

    Token t finds the keys j < t (j ≤ t if inclusive) that a stream would: in every round the newest of its bucket. What
    comes after t changes no bit of it.

    Args:
        hashed: of queries and keys.
        queries: float32 [n, size].
        values: float32 [n, value size].
        keys: float32 [n, size]; None: the queries divided by their lengths.
        limits: None: those of ``Limits()``.

    Raises:
        UsageError: shapes don't fit.
    """
    limits = limits or Limits()
    n = len(queries)
    shapes = [queries.shape, (n, hashed.size) if keys is None else keys.shape]
    if any(shape != (n, hashed.size) for shape in shapes) or len(values) != n or values.ndim != 2:
        raise UsageError(
            f"queries and keys of shapes {shapes} with values of shape {values.shape}: "
            f"expected [n, {hashed.size}] and [n, value size]"
        )
    if n > banded.MOST_TOKENS:
        raise UsageError(f"{n} tokens: expected at most {banded.MOST_TOKENS}")
    queries = np.ascontiguousarray(queries, np.float32)
    query_buckets = hashed(queries)
    out = np.zeros((n, padded(values.shape[1])), np.float32)
    largest, mass, counts = np.empty(n, np.float32), np.zeros(n, np.float32), np.zeros(n, np.int64)
    banded.attend(
        queries * scale_of(hashed.size, shared=keys is None),
        shared_keys(queries) if keys is None else np.ascontiguousarray(keys, np.float32),
        np.ascontiguousarray(values, np.float32),
        query_buckets,
        query_buckets if keys is None else hashed(keys),
        hashed.buckets,
        np.array([limits.cap, limits.capacity, limits.inclusive], np.int64),
        out,
        largest,
        mass,
        counts,
    )
    with np.errstate(divide="ignore"):  # log 0 where nothing is found
        log_mass = largest + np.log(mass)
    return Attention(out[:, : values.shape[1]], counts, log_mass)
