"""What hashing costs and what it misses: candidates, occupancy, and the share of exact attention that is recalled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esd.attention.hashing import Hash, one_bucket
from esd.attention.sequence import attend
from esd.attention.stream import Limits

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Telemetry:
    """Of a sequence of n tokens.

    Attributes:
        candidates: how many keys each query found, int64 [n].
        occupancy: how many of the sequence's keys each bucket got, int64 [rounds, buckets].
        recalled: share of full attention that lies on the keys found, float32 [n], from 0 to 1 but for rounding; NaN
            where nothing is remembered. Full attention is that over the newest ``capacity`` keys.
    """

    candidates: Int64s
    occupancy: Int64s
    recalled: Float32s


def measure(
    hashed: Hash,
    queries: Float32s,
    keys: Float32s | None = None,
    limits: Limits | None = None,
    write: npt.NDArray[np.bool_] | None = None,
) -> Telemetry:
    """Attend with buckets and without, at the cost of full attention; arguments as those of ``attend``."""
    limits = limits or Limits()
    nothing = np.zeros((len(queries), 0), np.float32)
    own = attend(hashed, queries, nothing, keys, limits, write)
    everything = Limits(limits.capacity, limits.capacity, limits.inclusive)
    full = attend(one_bucket(hashed.size), queries, nothing, keys, everything, write)
    key_buckets = hashed(queries if keys is None else keys)
    if write is not None:
        key_buckets = key_buckets[:, write]
    occupancy = np.stack([np.bincount(row, minlength=hashed.buckets) for row in key_buckets])
    recalled = np.full(len(queries), np.nan, np.float32)
    some = full.candidates > 0
    recalled[some] = np.exp(own.log_mass[some] - full.log_mass[some])
    return Telemetry(own.candidates, occupancy, recalled)
