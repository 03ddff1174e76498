"""``--format mat``: h, its named matrices and a worked example, for MATLAB and GNU Octave.

``h`` is a column. Where each array stands in it is in ``layout``: with order "F" it is ``reshape(h(first:last),
shape)``, with order "C" ``permute(reshape(h(first:last), fliplr(shape)), numel(shape):-1:1)`` (docs/export.md). Of an
objective, ``parameters`` has what its function is given: within the bounds, where h need not be. The file is of
MATLAB's version 5, whose variables hold at most 2 GB each.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esd.config.tables import to_table
from esd.errors import MissingPackageError, UsageError
from esd.export.network import policy_of
from esd.export.subject import CLIP, Subject
from esd.policies.base import Policy, Traceable
from esd.policies.guard import unguarded
from esd.policies.hebbian import HebbianPolicy
from esd.policies.static import StaticPolicy
from esd.problems.make import parameters_of
from esd.run.files import json_text, write_atomically
from esd.run.folder import Warn

EXAMPLE_STEPS = 10
LONGEST_NAME = (
    31  # of a variable, which scipy and old versions of MATLAB keep to; newer ones take 63
)
MOST_BYTES = 2**31 - 1  # of a variable
RESERVED = ("h", "layout", "policy", "normalizer", "config", "source", "example", "parameters")
HEADER = b"MATLAB 5.0 MAT-file, written by esd export"  # a text of any kind is allowed
HEADER_BYTES = 116


def write(path: Path, subject: Subject, warn: Warn) -> None:
    """Write the file.

    Raises:
        UsageError: if h is larger than a .mat file holds; ``MissingPackageError`` without SciPy.
        RunError: if the file can't be written.
    """
    try:
        import scipy.io
    except ImportError as error:
        raise MissingPackageError("--format mat", "scipy") from error
    h = subject.state.h
    if h.nbytes > MOST_BYTES:
        raise UsageError(
            f"--format mat: h has {h.nbytes:,} bytes, and a variable in a .mat file at most {MOST_BYTES:,}; use "
            "--format safetensors"
        )
    names = _names(list(subject.layout.shapes))
    variables: dict[str, Any] = {
        "h": h.reshape(-1, 1),
        "layout": _layout(subject, names),
        "config": json_text(to_table(subject.config)),
        "source": {**subject.words(), "generation": float(subject.state.generation)},
    }
    variables |= {names[name]: _column(array) for name, array in subject.layout.unpack(h).items()}
    if subject.scale is not None:
        mean, inverse = subject.scale
        ends = {"mean": mean.reshape(-1, 1), "inverse_deviation": inverse.reshape(-1, 1)}
        variables["normalizer"] = {**ends, "clip": CLIP}
    if subject.config.objective.named:
        found = parameters_of(subject.config, subject.interface, h)
        variables["parameters"] = {names[name]: _column(array) for name, array in found.items()}
    else:
        variables["policy"] = _settings(subject)
        variables["example"] = example(subject)
    file = io.BytesIO()
    scipy.io.savemat(file, variables, do_compression=True, oned_as="column", long_field_names=True)
    written = file.getvalue()
    write_atomically(path, HEADER.ljust(HEADER_BYTES) + written[HEADER_BYTES:])


def _column(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array with the two axes that MATLAB's have at least."""
    return array if array.ndim > 1 else array.reshape(-1, 1)


def _names(arrays: list[str]) -> dict[str, str]:
    """A MATLAB variable's name for each array: ``layer0.A`` is ``layer0_A``."""
    found: dict[str, str] = {}
    for array in arrays:
        stem = re.sub(r"\W", "_", array, flags=re.ASCII)[:LONGEST_NAME]
        stem = stem if stem[:1].isalpha() else f"p{stem}"[:LONGEST_NAME]
        name, number = stem, 1
        while name in (*RESERVED, *found.values()):
            number += 1
            name = f"{stem[: LONGEST_NAME - 8]}_{number}"
        found[array] = name
    return found


def _layout(subject: Subject, names: dict[str, str]) -> dict[str, Any]:
    """Where each matrix stands in h, counted from 1 as MATLAB does."""
    shapes = subject.layout.shapes
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    last = np.cumsum(sizes, dtype=np.float64)
    parts = np.zeros(
        (len(shapes),), [(n, object) for n in ("name", "variable", "shape", "first", "last")]
    )
    for number, (name, shape) in enumerate(shapes.items()):
        whole = (*shape, 1, 1)[: max(2, len(shape))]  # a number, a column
        first = last[number] - sizes[number] + 1.0
        parts[number] = (name, names[name], np.array([whole], np.float64), first, last[number])
    return {"order": subject.layout.order, "parts": parts}


def _settings(subject: Subject) -> dict[str, Any]:
    """[policy]; names of settings are names of fields."""
    table = to_table(subject.config.policy.settings)
    table = {k: v for k, v in table.items() if isinstance(v, str | int | float | list | tuple)}
    fields = {
        k: np.array([v], np.float64) if isinstance(v, list | tuple) and _numbers(v) else v
        for k, v in table.items()
        if re.fullmatch(r"[A-Za-z]\w{0,30}", k)
    }
    bounded = subject.interface.bounded
    return {"kind": subject.config.policy.kind, **fields, "bounded_actions": bounded}


def _numbers(values: Any) -> bool:
    return all(isinstance(value, int | float) for value in values)


def example(subject: Subject) -> dict[str, Any]:
    """Ten steps of the policy itself, to check a program by: from the episode with seed 0, on random observations.

    Returns:
        ``observations`` [10, observation_size] as the network gets them (normalized, if the run normalizes),
        ``outputs`` [10, action_size], and of a perceptron ``initial_weights`` and ``final_weights``, cells of
        [inputs, outputs], those of the first and of the last step. A plain perceptron also has its ``activations``.
    """
    policy = policy_of(subject)
    inside = unguarded(policy)
    generator = np.random.default_rng(0)
    size = subject.interface.observation_size
    high = 255.0 if getattr(subject.config.policy.settings, "convolutions", False) else 1.0
    low = 0.0 if high > 1.0 else -1.0
    observations = generator.uniform(low, high, (EXAMPLE_STEPS, size)).astype(np.float32)
    found: dict[str, Any] = {"seed": 0.0, "observations": observations}
    perceptron = isinstance(inside, HebbianPolicy | StaticPolicy)
    if perceptron:
        found["initial_weights"] = _cells(inside)
    found["outputs"] = np.array([_act(policy, each) for each in observations])
    if perceptron:
        found["final_weights"] = _cells(inside)
        found["squashed"] = policy.squashed
    return found


def _act(policy: Policy, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return policy.act(observation.copy()).copy()


def _cells(policy: object) -> npt.NDArray[np.object_]:
    """Matrices as a cell array."""
    assert isinstance(policy, Traceable)
    weights = policy.weights()
    cells = np.empty(len(weights), object)
    for number, layer in enumerate(weights):
        cells[number] = layer.copy()
    return cells
