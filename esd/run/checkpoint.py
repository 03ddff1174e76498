"""A state on disk: safetensors, versioned, checksummed, atomic."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import safetensors.numpy

from esd.errors import UPDATE, UsageError, shown
from esd.evolution.state import RunState
from esd.mpi.memory import available_memory
from esd.reading import open_regular, parse_json
from esd.run.files import write_atomically

FORMAT = "esd-checkpoint-1"
HEAD_BYTES = 1_000_000  # the names and shapes of its arrays
_WIDTHS = {"F32": 4, "F64": 8, "I64": 8, "U8": 1}


@dataclass(frozen=True)
class Checkpoint:
    """A state and where it belongs.

    Attributes:
        identity: hash of the settings that h depends on.
        state: the state.
        center_return: mean return of the center on the select stream, if this is the best one.
    """

    identity: str
    state: RunState
    center_return: float | None = None


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically.

    Raises:
        RunError: if the disk is full or the folder can't be written; the file that was there is unchanged.
    """
    metadata = {
        "format": FORMAT,
        "generation": str(checkpoint.state.generation),
        "identity": checkpoint.identity,
        "state_sha256": checkpoint.state.sha256(),
        "h_sha256": checkpoint.state.h_sha256(),
    }
    if checkpoint.center_return is not None:
        metadata["center_return"] = repr(checkpoint.center_return)
    write_atomically(path, safetensors.numpy.save(checkpoint.state.arrays(), metadata))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint and check its hash.

    Raises:
        UsageError: if it isn't there, is cut short or damaged, or is not a checkpoint of esd.
    """
    try:
        with open_regular(path) as file:
            metadata, _ = read_head(file, path)
            file.seek(0)
            data = file.read()
        arrays = safetensors.numpy.load(data)
        del data
    except FileNotFoundError:
        raise UsageError(f"{path}: no such checkpoint") from None
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: cut short or damaged ({error})") from error
    if metadata.get("format") != FORMAT:
        found = shown(metadata.get("format"))
        newer = str(metadata.get("format")).startswith(FORMAT.rstrip("1"))
        raise UsageError(
            f"{path}: format {found}, expected {FORMAT!r}; {UPDATE if newer else 'this is not a checkpoint of esd'}"
        )
    try:
        state = RunState.of_arrays(int(metadata["generation"]), arrays)
        intact = state.sha256() == metadata["state_sha256"]
        kept = state.arrays()
        for name, array in arrays.items():  # one that was converted has other bits
            if name in kept and array.dtype != kept[name].dtype:
                raise ValueError(f"{name} is {array.dtype}, expected {kept[name].dtype}: it")
        best = metadata.get("center_return")
        loaded = Checkpoint(metadata["identity"], state, None if best is None else float(best))
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise UsageError(f"{path}: damaged, {error} is missing or wrong") from error
    if not intact:
        raise UsageError(f"{path}: damaged, its contents don't match their checksum")
    return loaded


def generation_of(path: Path) -> int | None:
    """The generation of a checkpoint, from its head alone; None if there is no such checkpoint."""
    try:
        with open_regular(path) as file:
            return int(read_head(file, path)[0]["generation"])
    except (OSError, UsageError, ValueError, KeyError, TypeError):
        return None


def center_return_of(path: Path) -> float | None:
    """The return, of the sign that is maximized, by which a checkpoint is the best; None if there is none such."""
    try:
        with open_regular(path) as file:
            found = float(read_head(file, path)[0]["center_return"])
    except (OSError, UsageError, ValueError, KeyError, TypeError):
        return None
    return found if math.isfinite(found) else None


def read_head(
    file: BinaryIO, path: Path, most: int = HEAD_BYTES, what: str = "a checkpoint"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metadata and the arrays' descriptions of a safetensors file, and whether the file has the size they ask for.

    That is looked at before any of it is read: what a file holds may be much more than this machine's memory.

    Args:
        file: open, at its beginning.
        path: of it, for messages.
        most: the largest head that is read, in bytes.
        what: the file should be, for messages.

    Raises:
        UsageError: if the file is not a safetensors file with such arrays, or has another size.
        ValueError: if its head is damaged.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, most):
        raise UsageError(f"{path}: cut short or damaged, or not {what}")
    head = parse_json(file.read(length))
    if not isinstance(head, dict):
        raise UsageError(f"{path}: cut short or damaged, or not {what}")
    metadata = head.pop("__metadata__", {})
    bytes_of_arrays = 0
    for array in head.values():
        if not isinstance(array, dict) or array.get("dtype") not in _WIDTHS:
            raise UsageError(f"{path}: damaged, or not {what}: its arrays have other types")
        bytes_of_arrays += _WIDTHS[array["dtype"]] * math.prod(array.get("shape", (0,)))
    if not isinstance(metadata, dict) or size != 8 + length + bytes_of_arrays:
        raise UsageError(f"{path}: cut short or damaged, {size:,} bytes")
    available = available_memory()
    if 2 * size > available:
        raise UsageError(
            f"{path}: {size:,} bytes need twice as much memory to read, more than the available {available:,}"
        )
    return metadata, head
