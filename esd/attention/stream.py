"""Attention over everything seen so far, one step at a time, at a cost that doesn't grow with the history."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esd.attention.hashing import Hash
from esd.errors import UsageError
from esd.kernels import attention_stream
from esd.kernels.lanes import aligned_zeros, padded

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]
Records = npt.NDArray[np.void]

CAP, CAPACITY = 64, 16384


@dataclass(frozen=True)
class Limits:
    """What a query finds at most, the same for a stream and for whole sequences.

    Attributes:
        cap: of the keys in a query's bucket, in every round, only so many are found, the newest.
        capacity: only so many keys are remembered at all, the newest.
        inclusive: a query may find the key of its own step.
    """

    cap: int = CAP
    capacity: int = CAPACITY
    inclusive: bool = False

    def __post_init__(self) -> None:
        """Refuse what can't be.

        Raises:
            UsageError: cap or capacity is below 1.
        """
        for name, value in (("cap", self.cap), ("capacity", self.capacity)):
            if value < 1:
                raise UsageError(f"{name} = {value} keys: expected at least 1")


def scale_of(size: int, shared: bool) -> np.float32:
    """The factor on logits: 1/√size, or 1 for shared keys, whose length is 1 already."""
    return np.float32(1.0 if shared else 1.0 / math.sqrt(size))


def check_shapes(
    size: int,
    queries: Float32s,
    values: Float32s,
    keys: Float32s | None,
    write: npt.NDArray[np.bool_] | None,
) -> None:
    """Compare the shapes of a sequence.

    Raises:
        UsageError: they don't fit each other or the hash.
    """
    n = len(queries)
    found = [queries.shape] if keys is None else [queries.shape, keys.shape]
    fits = all(shape == (n, size) for shape in found)
    if not fits or values.ndim != 2 or len(values) != n:
        raise UsageError(
            f"queries{'' if keys is None else ' and keys'} of shape {', '.join(map(str, found))} with values "
            f"of shape {values.shape}: expected [n, {size}] and [n, value size]"
        )
    if write is not None and (write.shape != (n,) or write.dtype != np.bool_):
        raise UsageError(f"write is {write.dtype} {write.shape}: expected bool ({n},)")


def allocate(
    hashes: Sequence[Hash], value_size: int, limits: Limits
) -> tuple[Records, Float32s, Int64s, Int64s, Int64s, Float32s]:
    """Make memories, one per hash; all hashes have the same size, rounds and factors.

    Returns:
        settings, rows, rings, filled, stamps and projections, all [hashes, …]: what ``attention_stream.insert``,
        ``attention_stream.look_up`` and ``hashing.hash_one`` work on.

    Raises:
        UsageError: there is no room for them.
    """
    n, first = len(hashes), hashes[0]
    cap = min(limits.cap, limits.capacity)  # older keys than the capacity has are never found
    settings = np.zeros(n, attention_stream.SETTINGS)
    settings["size"], settings["value_size"] = first.size, value_size
    settings["rounds"], settings["buckets"] = first.rounds, first.buckets
    settings["cap"], settings["capacity"] = cap, limits.capacity
    settings["columns"], settings["digits"] = first.columns, len(first.factors)
    settings["factors"][:, : len(first.factors)] = first.factors
    lists = first.rounds * first.buckets
    floats = limits.capacity * (padded(first.size) + padded(value_size))
    projections = aligned_zeros(n * first.size * first.columns).reshape(n, -1)
    for row, hashed in zip(projections, hashes, strict=True):
        row[:] = hashed.projections
    try:
        return (
            settings,
            aligned_zeros(n * floats).reshape(n, floats),
            np.zeros((n, lists * cap), np.int64),
            np.zeros((n, lists), np.int64),
            np.zeros((n, limits.capacity), np.int64),
            projections,
        )
    except (MemoryError, ValueError) as error:  # ValueError: more than an array can be large
        gigabytes = n * (4 * floats + 8 * (lists * (cap + 1) + limits.capacity)) / 1e9
        raise UsageError(
            f"{n} {'memory' if n == 1 else 'memories'} of {limits.capacity} keys of size {first.size} in {lists} "
            f"buckets of up to {cap} take {gigabytes:,.0f} GB, more than there is: choose a smaller capacity, cap, "
            "size, or number of buckets or rounds"
        ) from error


def scratch(hashed: Hash, limits: Limits) -> tuple[Int64s, Float32s, Float32s, Int64s]:
    """What a step scribbles on: candidates, found, sums, and buckets of query and key; see its ``step``."""
    most = hashed.rounds * min(limits.cap, limits.capacity)
    return (
        np.zeros(most, np.int64),
        aligned_zeros(attention_stream.LOGITS + padded(most)),
        aligned_zeros(hashed.columns),
        np.zeros((2, hashed.rounds), np.int64),
    )


class Stream:
    """A memory of keys and values, of fixed size.

    It takes capacity · (size + value size) float32, and rounds · buckets · cap numbers of 8 bytes (a cap above the
    capacity counts as the capacity). Buckets · cap is about how many keys can be found again at all: choose both so
    that it exceeds the capacity.

    Attributes:
        projections, memory, work: what ``attention_stream.step`` works on, for kernels that call it.
        shared: keys are queries divided by their length.
    """

    def __init__(
        self, hashed: Hash, value_size: int, limits: Limits | None = None, shared: bool = False
    ) -> None:
        """Allocate; without limits those of ``Limits()``.

        Raises:
            UsageError: there is no room for it.
        """
        self.limits = limits or Limits()
        self.shared = shared
        self._scale = scale_of(hashed.size, shared)
        self._size, self._value_size = hashed.size, value_size
        settings, rows, rings, filled, stamps, projections = allocate(
            [hashed], value_size, self.limits
        )
        self.memory = (settings, rows[0], rings[0], filled[0], stamps[0])
        self.projections = projections[0]
        candidates, found, sums, buckets = scratch(hashed, self.limits)
        self.work = (
            candidates,
            found,
            aligned_zeros(padded(hashed.size)),
            aligned_zeros(hashed.size),
            sums,
            buckets,
        )
        self._out = aligned_zeros(padded(value_size))
        self._no_key = np.zeros(hashed.size, np.float32)

    def reset(self) -> None:
        """Forget everything."""
        attention_stream.begin(self.memory)

    def step(
        self, query: Float32s, value: Float32s, key: Float32s | None = None, write: bool = True
    ) -> Float32s:
        """Look up a query, and remember a key and its value.

        Args:
            query: float32 [size].
            value: float32 [value size].
            key: float32 [size]; None if keys are shared.
            write: whether the key is remembered.

        Returns:
            Σ softmax(logits) value over the keys found, float32 [value size]; zeros if there is none. The next step
            overwrites it.

        Raises:
            UsageError: shapes don't fit.
        """
        self._check(query.shape, value.shape, None if key is None else key.shape)
        attention_stream.step(
            query,
            self._no_key if key is None else key,
            value,
            self._scale,
            self.shared,
            self.limits.inclusive,
            write,
            self.projections,
            self.memory,
            self.work,
            self._out,
        )
        return self._out[: self._value_size]

    def steps(
        self,
        queries: Float32s,
        values: Float32s,
        keys: Float32s | None = None,
        write: npt.NDArray[np.bool_] | None = None,
    ) -> tuple[Float32s, Int64s]:
        """Make many steps in one call: outputs [n, value size], and how many keys each query found, int64 [n]."""
        check_shapes(self._size, queries, values, keys, write)
        self._check(queries.shape[1:], values.shape[1:], None if keys is None else keys.shape[1:])
        n = len(queries)
        width = padded(self._value_size)
        out = aligned_zeros(n * width).reshape(n, width)
        counts = np.zeros(n, np.int64)
        queries, keys, values = (
            np.ascontiguousarray(array, np.float32)
            for array in (queries, queries if keys is None else keys, values)
        )
        attention_stream.steps(
            queries,
            keys,
            values,
            self._scale,
            self.shared,
            self.limits.inclusive,
            np.ones(n, np.bool_) if write is None else write,
            self.projections,
            self.memory,
            self.work,
            out,
            counts,
        )
        return out[:, : self._value_size], counts

    def _check(
        self, query: tuple[int, ...], value: tuple[int, ...], key: tuple[int, ...] | None
    ) -> None:
        """The kernels look at no bounds."""
        if self.shared != (key is None):
            expected = "none, since keys are shared" if self.shared else "one"
            raise UsageError(
                f"the step got {'no' if key is None else 'a'} key: expected {expected}"
            )
        expected_shapes = (self._size,), (self._value_size,)
        if (query, value) != expected_shapes or key not in (None, query):
            raise UsageError(
                f"query, value and key have shapes {query}, {value} and {key}: expected a size of {self._size}, "
                f"and {self._value_size} for the value"
            )

    @property
    def candidates(self) -> int:
        """How many keys the last query found."""
        return int(self.memory[0]["found"][0])

    @property
    def log_mass(self) -> float:
        """Log of Σ exp(logit) over the keys that the last query found; −∞ if there was none, NaN if one was NaN."""
        if not self.candidates:
            return -math.inf
        largest, mass = self.work[1][: attention_stream.LOGITS]
        return float(largest) + math.log(mass)

    def occupancy(self) -> Int64s:
        """How many keys each bucket has got so far, int64 [rounds, buckets]; of these it holds at most the cap."""
        settings, _, _, filled, _ = self.memory
        of_rounds: Int64s = filled.reshape(settings["rounds"][0], -1)
        return of_rounds.copy()
