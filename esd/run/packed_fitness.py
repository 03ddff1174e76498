"""The fitnesses of a whole run in as few bytes as the algorithm's shaping allows.

An update sees a fitness only through its shaping. Sign shaping reads which member of each mirrored pair is better: one
bit per pair, and a list of the ties. The shapings by rank, SNES and CR-FM-NES read the order: a small integer per
member. Anything else gets the numbers themselves. What is unpacked gives the same shaped fitness, bit for bit.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from esd.config.kinds import ALGORITHMS
from esd.config.settings import Config
from esd.evolution.shaping import failed
from esd.mpi.memory import available_memory

Float64s = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

SIGN, RANK, VALUE = "sign", "rank", "value"
LEVEL = 9  # of zlib: these files are written once
MOST_COMPRESSION = 1100  # zlib never makes less than a thousandth of anything
SLACK = 64  # bytes that zlib's stream may have beside its contents


def kind_of(config: Config) -> str:
    """What an algorithm reads of a fitness: "sign", "rank" or "value"."""
    if config.es.algorithm not in ALGORITHMS.built_in:
        return VALUE
    shaping = getattr(config.es, "shaping", "by_rank")
    if shaping == "sign":
        return SIGN
    return RANK if "rank" in shaping else VALUE


def pack(kind: str, fitness: Sequence[Float64s]) -> dict[str, Bytes]:
    """Pack the fitnesses of all generations.

    Args:
        kind: of ``kind_of``.
        fitness: for each generation float64 [population]; NaN and ±inf are failures.

    Returns:
        Arrays by name, uint8.
    """
    if not fitness:
        return {"fitness": np.zeros(0, np.uint8)}
    table = np.stack(fitness)
    if kind == VALUE:
        return {"fitness": _compressed(table.astype("<f8"))}
    worst_last = np.where(failed(table), -np.inf, table)
    if kind == RANK:
        ranks = np.stack([np.unique(row, return_inverse=True)[1].reshape(-1) for row in worst_last])
        return {"fitness": _compressed(ranks.astype(_integers(table.shape[1])))}
    first, second = worst_last[:, 0::2].reshape(-1), worst_last[:, 1::2].reshape(-1)
    ties = np.flatnonzero(first == second)
    steps = np.diff(ties, prepend=0).astype("<u4")
    return {"fitness": np.packbits(first > second), "ties": _compressed(steps)}


def unpack(kind: str, arrays: dict[str, Bytes], generations: int, population: int) -> Float64s:
    """The inverse of ``pack``: float64 [generations, population] of the same shaped fitness.

    Raises:
        ValueError: if the arrays hold anything else, in words.
    """
    shape = (generations, population)
    if not generations:
        return np.zeros(shape)
    if kind == VALUE:
        return _decompressed(arrays["fitness"], np.dtype("<f8"), shape).astype(np.float64)
    if kind == RANK:
        return _decompressed(arrays["fitness"], _integers(population), shape).astype(np.float64)
    if kind != SIGN:
        raise ValueError(f"its fitnesses are packed as {kind[:40]!r}")
    pairs = generations * (population // 2)
    if arrays["fitness"].size != -(-pairs // 8):
        raise ValueError(f"{arrays['fitness'].size} bytes of signs for {pairs} pairs")
    first_is_better = np.unpackbits(arrays["fitness"], count=pairs).astype(np.float64)
    second_is_better = 1.0 - first_is_better
    steps = _decompressed(arrays["ties"], np.dtype("<u4"), (-1,), 4 * pairs)
    ties = np.cumsum(steps.astype(np.int64))
    if ties.size and ties[-1] >= pairs:
        raise ValueError("a tie beyond the last pair")
    first_is_better[ties] = second_is_better[ties] = 0.0
    return np.stack([first_is_better, second_is_better], axis=1).reshape(shape)


def _integers(population: int) -> np.dtype[np.unsignedinteger]:
    """The smallest type that holds the ranks of a population."""
    return np.dtype("u1" if population <= 1 << 8 else "<u2" if population <= 1 << 16 else "<u4")


def _compressed(array: npt.NDArray[np.generic]) -> Bytes:
    return np.frombuffer(zlib.compress(array.tobytes(), LEVEL), np.uint8)


def _decompressed(
    packed: Bytes, dtype: np.dtype[np.generic], shape: tuple[int, ...], most: int | None = None
) -> npt.NDArray[np.generic]:
    """An array from its compressed bytes; never more memory than its shape, or ``most`` bytes, asks for."""
    wanted = math.prod(shape) * dtype.itemsize if most is None else most
    if most is None and wanted > MOST_COMPRESSION * packed.size:
        raise ValueError("fewer fitnesses than generations")
    if 2 * wanted > available_memory():
        raise ValueError(f"its fitnesses take {wanted:,} bytes of memory, more than there is")
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed.tobytes(), max(wanted, 1))
    except zlib.error as error:
        raise ValueError(f"its fitnesses can't be unpacked ({error})") from None
    if unpacker.unconsumed_tail and unpacker.decompress(unpacker.unconsumed_tail, SLACK):
        raise ValueError("more fitnesses than generations")
    if (most is None and len(data) != wanted) or len(data) % dtype.itemsize:
        raise ValueError("fewer fitnesses than generations")
    return np.frombuffer(data, dtype).reshape(shape)
