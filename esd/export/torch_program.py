"""``--format torch``: one step of the policy as a program of ``torch.export``, which needs no esd where it is loaded.

``torch.export.load("policy.pt2").module()`` maps (observation, state) to (actions, outputs, next state). A policy that
is a torch.nn.Module itself is written with its own forward.
"""

from __future__ import annotations

import dataclasses
import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esd.config.plugins import in_one_line
from esd.errors import MissingPackageError, UsageError
from esd.export.network import Network, network_of, policy_of, require_policy
from esd.export.step import step
from esd.export.subject import Subject, described_normalizer, described_space
from esd.policies.guard import unguarded
from esd.run.files import write_atomically
from esd.run.folder import Warn

DESCRIPTION = "esd.json"  # an extra file in the archive


def write(path: Path, subject: Subject, warn: Warn) -> None:
    """Write the program.

    Raises:
        UsageError: if the policy is of a kind that has none; ``MissingPackageError`` without torch.
        RunError: if the file can't be written.
    """
    require_policy(subject, "torch")
    try:
        import torch
    except ImportError as error:
        raise MissingPackageError("--format torch", "torch") from error
    policy = unguarded(policy_of(subject))
    own = getattr(policy, "module", None)
    if isinstance(own, torch.nn.Module):
        module, state = _of_module(own, subject)
    else:
        network = network_of(subject, "torch")
        module = program_of(network)
        state = {name: torch.from_numpy(a.copy()) for name, a in network.initial_state().items()}
    dtype = getattr(torch, subject.observation_dtype)
    observation = torch.zeros(subject.interface.observation_size, dtype=dtype)
    description = {
        **subject.words(),
        "state": list(state),
        "spaces": [described_space(space) for space in subject.spaces],
        "normalizer": json.loads(described_normalizer(subject)),
    }
    archive = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own parts
        try:
            program = torch.export.export(module, (observation, state))
        except Exception as error:
            if not isinstance(own, torch.nn.Module):
                raise
            raise UsageError(
                f"--format torch: torch.export can't trace policy.kind = {subject.config.policy.kind!r} "
                f"({in_one_line(error)[:200]}); use --format safetensors"
            ) from error
        torch.export.save(program, archive, extra_files={DESCRIPTION: json.dumps(description)})
    write_atomically(path, archive.getvalue())


def _of_module(own: Any, subject: Subject) -> tuple[Any, dict[str, Any]]:
    """A module of the user's, behind the normalization of observations and before the decoding of actions."""
    import torch

    if hasattr(own, "reset"):
        raise UsageError(
            f"--format torch: policy.kind = {subject.config.policy.kind!r} has a reset(), so it keeps a memory, "
            "which torch.export would freeze; use --format safetensors"
        )
    around = Network(
        subject.interface.observation_size, subject.observation_dtype, subject.scale, None, None, (),
        "none", 0, subject.spaces[1], False,
    )  # fmt: skip

    class Program(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.policy = own

        def forward(self, observation: Any, state: dict[str, Any]) -> Any:
            ops = _Operations(None)
            x = observation
            if around.scale is not None:
                mean, inverse = (torch.from_numpy(each) for each in around.scale)
                x = ((x.double() - mean) * inverse).clamp(-10.0, 10.0).float()
            actions, outputs, _ = step(ops, _decoder(around), self.policy(x).reshape(-1), {})
            return actions, outputs, state

    return Program(), {}


def _decoder(network: Network) -> Network:
    """The network without its normalization: outputs to actions alone."""
    return dataclasses.replace(network, scale=None)


def program_of(network: Network) -> Any:
    """The module that is traced, ``torch.nn.Module``; its constants are buffers."""
    import torch

    class Program(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            first = {n: torch.from_numpy(a.copy()) for n, a in network.initial_state().items()}
            with torch.no_grad():  # a first step finds the constants
                dtype = getattr(torch, network.observation_dtype)
                zeros = torch.zeros(network.observation_size, dtype=dtype)
                step(_Operations(self), network, zeros, first)
            for name, value in first.items():
                self.register_buffer(f"initial_{name.replace('.', '_')}", value)

        def forward(self, observation: Any, state: dict[str, Any]) -> Any:
            actions, outputs, after = step(_Operations(self), network, observation, state)
            return actions, outputs, after

    return Program().eval()


def _buffer(name: str) -> str:
    """A name that a buffer may have, which has no dots; another one for every name of a constant."""
    return name.replace("_", "_u").replace(".", "_d")


class _Operations:
    """``step.Operations`` of torch; constants are buffers of a module, or of none."""

    def __init__(self, module: Any) -> None:
        import torch

        self._torch, self._module = torch, module

    def constant(self, name: str, array: npt.NDArray[Any]) -> Any:
        name = _buffer(name)
        if self._module is None:
            return self._torch.from_numpy(np.array(array))
        if not hasattr(self._module, name):
            self._module.register_buffer(name, self._torch.from_numpy(np.array(array)))
        return getattr(self._module, name)

    def cast(self, x: Any, dtype: str) -> Any:
        return x.to(getattr(self._torch, dtype))

    def reshape(self, x: Any, shape: Sequence[int]) -> Any:
        return x.reshape(tuple(shape))

    def transpose(self, x: Any, axes: Sequence[int]) -> Any:
        return x.permute(tuple(axes))

    def matmul(self, a: Any, b: Any) -> Any:
        return a @ b

    def convolve(self, x: Any, weights: Any, stride: int) -> Any:
        return self._torch.nn.functional.conv2d(x, weights, stride=stride)

    def pool(self, x: Any) -> Any:
        return self._torch.nn.functional.max_pool2d(x, 2)

    def tanh(self, x: Any) -> Any:
        return x.tanh()

    def relu(self, x: Any) -> Any:
        return x.relu()

    def round(self, x: Any) -> Any:
        return x.round()

    def clip(self, x: Any, low: Any, high: Any) -> Any:
        return self._torch.minimum(self._torch.maximum(x, low), high)

    def largest_magnitude(self, x: Any) -> Any:
        return x.abs().amax((0, 1), keepdim=True)

    def norm(self, x: Any) -> Any:
        return (x * x).sum((0, 1), keepdim=True).sqrt()

    def greater(self, a: Any, b: float) -> Any:
        return a > b

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        return self._torch.where(condition, a, b)

    def argmax(self, x: Any) -> Any:
        return x.argmax(0)

    def part(self, x: Any, start: int, stop: int) -> Any:
        return x[start:stop]

    def concatenate(self, parts: Sequence[Any]) -> Any:
        return self._torch.cat(list(parts))

    def row(self, table: Any, step: Any, period: int) -> Any:
        return self._torch.index_select(table, 0, (step % period).reshape(1)).reshape(-1)
