"""LSH attention of whole sequences: what the stream computes step by step, several times faster.

Compiled rather than written in torch: the buckets must be the stream's, bit for bit, which torch's matrix products
don't promise, and ragged bands have no fast form there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esd.attention.hashing import Hash
from esd.attention.stream import Limits, check_shapes, scale_of
from esd.errors import UsageError
from esd.kernels import attention_sequence, attention_stream
from esd.kernels.lanes import padded

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
    """Keys shared with queries, float32 [n, size]: q/‖q‖, and zeros where ‖q‖² is 0, infinite or NaN in float32."""
    keys = np.empty_like(queries)
    attention_stream.normalize_many(queries, keys)
    return keys


def attend(
    hashed: Hash,
    queries: Float32s,
    values: Float32s,
    keys: Float32s | None = None,
    limits: Limits | None = None,
    write: npt.NDArray[np.bool_] | None = None,
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
        write: which keys are remembered, bool [n]; None: all.

    Raises:
        UsageError: shapes don't fit.
    """
    limits = limits or Limits()
    check_shapes(hashed.size, queries, values, keys, write)
    n = len(queries)
    if n > attention_sequence.MOST_TOKENS:
        raise UsageError(f"{n} tokens: expected at most {attention_sequence.MOST_TOKENS}")
    written = np.ones(n, np.bool_) if write is None else write
    come = np.cumsum(written) - (0 if limits.inclusive else written)
    queries = np.ascontiguousarray(queries, np.float32)
    query_buckets = hashed(queries)
    if keys is None:
        own_keys, key_buckets = shared_keys(queries), query_buckets
    else:
        own_keys = np.ascontiguousarray(keys, np.float32)
        key_buckets = hashed(own_keys)
    if write is not None:
        own_keys, key_buckets = own_keys[write], np.ascontiguousarray(key_buckets[:, write])
        values = values[write]
    out = np.zeros((n, padded(values.shape[1])), np.float32)
    largest, mass, counts = np.empty(n, np.float32), np.zeros(n, np.float32), np.zeros(n, np.int64)
    scaled = queries * scale_of(hashed.size, shared=keys is None)
    attention_sequence.attend(
        (scaled, own_keys, np.ascontiguousarray(values, np.float32)),
        (query_buckets, key_buckets, hashed.buckets),
        come.astype(np.int64),
        (limits.cap, limits.capacity),
        (out, largest, mass, counts),
    )
    with np.errstate(divide="ignore"):  # log 0 where nothing is found
        log_mass = largest + np.log(mass)
    return Attention(out[:, : values.shape[1]], counts, log_mass)
