"""A state on disk: safetensors, versioned, checksummed, atomic."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.numpy

from esd.errors import UsageError
from esd.evolution.state import RunState
from esd.run.files import write_atomically

FORMAT = "esd-checkpoint-1"


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
        data = path.read_bytes()
        arrays = safetensors.numpy.load(data)
        metadata = _metadata(data)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such checkpoint") from None
    except (OSError, safetensors.SafetensorError, ValueError, struct.error) as error:
        raise UsageError(f"{path}: cut short or damaged ({error})") from error
    if metadata.get("format") != FORMAT:
        raise UsageError(
            f"{path}: format {metadata.get('format')!r}, expected {FORMAT!r}: not a checkpoint of this esd"
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
    except (KeyError, ValueError, IndexError) as error:
        raise UsageError(f"{path}: damaged, {error} is missing or wrong") from error
    if not intact:
        raise UsageError(f"{path}: damaged, its contents don't match their checksum")
    return loaded


def generation_of(path: Path) -> int | None:
    """The generation of a checkpoint, from its head alone; None if there is no such checkpoint."""
    try:
        with safetensors.safe_open(path, "numpy") as file:
            return int(file.metadata()["generation"])
    except (OSError, safetensors.SafetensorError, KeyError, TypeError):
        return None


def _metadata(data: bytes) -> dict[str, str]:
    """The ``__metadata__`` of a safetensors file: a uint64 length, then JSON (its documented format)."""
    (length,) = struct.unpack_from("<Q", data)
    metadata: dict[str, str] = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    return metadata
