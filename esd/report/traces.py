"""Traces of ``esd eval --trace`` as a report reads them: checked, and thinned out while they are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors

from esd.errors import UsageError
from esd.reading import open_regular, parse_json
from esd.run.folder import RunFolder, is_regular

Float32s = npt.NDArray[np.float32]

FORMAT = "esd-trace-1"
MOST_BYTES = 2 << 30
HEAD_BYTES = 1_000_000
MOST_FRAMES = 48  # moments of the weights
MOST_UNITS = 64  # of a layer's inputs and outputs
OWN_FILES = ("initial.safetensors",)


@dataclass(frozen=True)
class Layer:
    """Weights from one layer to the next at some moments.

    Attributes:
        frames: float32 [moments, inputs drawn, outputs drawn].
        inputs, outputs: of the layer.
        of_inputs, of_outputs: numbers of the units that are drawn.
        size: mean |w| at the moments, float64 [moments].
        change: mean |w − w at the start|, float64 [moments].
    """

    frames: Float32s
    inputs: int
    outputs: int
    of_inputs: npt.NDArray[np.int64]
    of_outputs: npt.NDArray[np.int64]
    size: npt.NDArray[np.float64]
    change: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trace:
    """One recorded episode.

    Attributes:
        path: of the file.
        words: its metadata.
        steps: of the episode.
        rewards: float32 [steps].
        observations: float32 [steps, numbers].
        moments: the steps of the weights' frames.
        layers: weights.
        activities: of each layer, float32 [steps, units], layer 0 being what the network saw.
    """

    path: Path
    words: dict[str, str]
    steps: int
    rewards: Float32s
    observations: Float32s
    moments: npt.NDArray[np.int64]
    layers: list[Layer]
    activities: list[Float32s]

    @property
    def title(self) -> str:
        """What was recorded, in words."""
        parts = [self.words.get("run", ""), f"generation {self.words.get('generation', '?')}"]
        parts.append(self.words.get("variant", ""))
        if self.words.get("rules", "evolved") != "evolved":
            parts.append(f"{self.words['rules']} rules")
        return ", ".join(part for part in parts if part)


def traces_in(folder: RunFolder) -> list[Path]:
    """The trace files that lie in a run's folder; links and other files are ignored."""
    found = []
    for path in sorted(folder.place.glob("*.safetensors")):
        if path.name in OWN_FILES or path.name.startswith(".") or not is_regular(path):
            continue
        if is_trace(path):
            found.append(path)
    return found


def is_trace(path: Path, follow: bool = False) -> bool:
    """Whether a file is a trace; ``follow`` as of ``read``."""
    try:
        return _words(path, follow).get("format") == FORMAT
    except UsageError:
        return False


def read(path: Path, follow: bool = False) -> Trace:
    """Read a trace; of a long one only what is drawn.

    Args:
        path: of the file.
        follow: also through a symbolic link, as for a file that the user names.

    Raises:
        UsageError: if there is none, or it is damaged.
    """
    words = _words(path, follow)
    if words.get("format") != FORMAT:
        raise UsageError(f"{path}: not a trace; esd eval RUN --trace FILE.safetensors records one")
    try:
        with safetensors.safe_open(str(path), "numpy") as file:
            names = set(file.keys())
            observations, rewards = file.get_tensor("observations"), file.get_tensor("rewards")
            steps = len(rewards)
            activities = [file.get_tensor(name) for name in _numbered(names, "activities")]
            every = int(words.get("weights_every", "1"))
            slices = [file.get_slice(name) for name in _numbered(names, "weights")]
            recorded = min((s.get_shape()[0] for s in slices), default=0)
            rows = _evenly(recorded, MOST_FRAMES)
            layers = [_layer(s, rows) for s in slices] if recorded else []
        _check(steps, rewards, [observations, *activities], every)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except (
        OSError,
        safetensors.SafetensorError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
    ) as error:
        raise UsageError(f"{path}: cut short or damaged ({error})") from None
    return Trace(path, words, steps, rewards, observations, rows * every, layers, activities)


def _check(steps: int, rewards: Float32s, arrays: Sequence[Float32s], every: int) -> None:
    """Refuse arrays of other shapes than a trace has."""
    fits = all(a.ndim == 2 and len(a) == steps and a.dtype == np.float32 for a in arrays)
    if not steps or rewards.ndim != 1 or not fits or every < 1:
        raise UsageError("damaged: its arrays do not belong to one episode")


def _layer(recorded: Any, rows: npt.NDArray[np.int64]) -> Layer:
    """The frames of one layer, read moment by moment."""
    _, inputs, outputs = recorded.get_shape()
    of_inputs, of_outputs = _evenly(inputs, MOST_UNITS), _evenly(outputs, MOST_UNITS)
    frames = np.empty((rows.size, of_inputs.size, of_outputs.size), np.float32)
    size, change = np.empty(rows.size), np.empty(rows.size)
    first = None
    for place, row in enumerate(rows.tolist()):
        weights = recorded[row : row + 1][0]
        first = weights if first is None else first
        frames[place] = weights[np.ix_(of_inputs, of_outputs)]
        size[place] = np.abs(weights, dtype=np.float64).mean()
        change[place] = np.abs(weights.astype(np.float64) - first).mean()
    return Layer(frames, inputs, outputs, of_inputs, of_outputs, size, change)


def _evenly(count: int, most: int) -> npt.NDArray[np.int64]:
    """At most so many of the numbers 0 to count − 1, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _numbered(names: set[str], kind: str) -> list[str]:
    """The arrays of a kind in the order of their layers."""
    ordered: list[str] = []
    while f"{kind}.{len(ordered)}" in names:
        ordered.append(f"{kind}.{len(ordered)}")
    return ordered


def _words(path: Path, follow: bool = False) -> dict[str, str]:
    """The metadata, read without the arrays; nothing is allocated that a damaged head asks for.

    Raises:
        UsageError: if it is not a safetensors file.
    """
    try:
        with open_regular(path, MOST_BYTES, follow=follow) as file:
            length = int.from_bytes(file.read(8), "little")
            if length > HEAD_BYTES:
                raise UsageError(f"{path}: not a trace, or damaged")
            head = parse_json(file.read(length))
            size = file.seek(0, 2)
        metadata = head.pop("__metadata__", {})
        needed = 8 + length + sum(4 * math.prod(array["shape"]) for array in head.values())
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not a trace, or damaged ({error})") from None
    is_text = isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())
    if not is_text or (metadata.get("format") == FORMAT and needed != size):
        raise UsageError(f"{path}: cut short or damaged")
    return dict(metadata)
