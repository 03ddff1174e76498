"""What policies share that are a memory of the episode in front of a perceptron that reads from it."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from esd.evolution.layout import Layout
from esd.evolution.noise import Purpose, normals
from esd.kernels import clock, networks
from esd.kernels.lanes import aligned_zeros, padded
from esd.policies.base import Interface
from esd.policies.hebbian import RULE_COEFFICIENTS, HebbianPolicy, HebbianSettings
from esd.policies.static import StaticPolicy, StaticSettings

Float32s = npt.NDArray[np.float32]
Records = npt.NDArray[np.void]

HEADS = ("linear", *RULE_COEFFICIENTS)


def _periods(value: tuple[int, ...]) -> bool:
    return all(2 <= period <= 2**20 for period in value)


PERIODS: dict[str, Any] = {"expected": "whole numbers from 2 to 2²⁰", "check": _periods}


class HeadSettings(Protocol):
    """What the settings of every kind with a memory and a head have."""

    @property
    def head(self) -> str:
        """One of ``HEADS``."""

    @property
    def head_rate(self) -> float:
        """Of the head's learning rule."""

    @property
    def order(self) -> str:
        """In which arrays are flattened."""


class Matrices:
    """Matrices as kernels want them: one after the other, their columns padded to whole vectors.

    Attributes:
        flat: float32, all of them.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, int]]) -> None:
        """Allocate zeros."""
        sizes = [rows * padded(columns) for rows, columns in shapes.values()]
        self.flat = aligned_zeros(sum(sizes))
        self._views, start = {}, 0
        for (name, (rows, columns)), size in zip(shapes.items(), sizes, strict=True):
            whole = self.flat[start : start + size].reshape(rows, padded(columns))
            self._views[name] = whole[:, :columns]
            start += size

    def set(self, arrays: Mapping[str, Float32s]) -> None:
        """Take the matrices by their names."""
        for name, array in arrays.items():
            self._views[name][...] = array

    def add(self, name: str, number: float) -> None:
        """Add a number to one of the matrices."""
        self._views[name][...] += np.float32(number)


def clock_face(periods: Sequence[int]) -> Records:
    """Sine and cosine of all steps of all periods, ``clock.FACE`` [Σ periods]."""
    face = np.zeros(sum(periods), clock.FACE)
    clock.draw_face(np.array(periods, np.int64), face)
    return face


class RememberingPolicy:
    """A memory's own matrices, then those of the head, in one h.

    A subclass sets ``_memory``, what its kernel works on, and begins episodes in it.
    """

    def __init__(
        self,
        interface: Interface,
        settings: HeadSettings,
        shapes: Mapping[str, tuple[int, int]],
        features: int,
    ) -> None:
        """Build the head and the place for the matrices.

        Args:
            interface: what the policy meets.
            settings: of the policy.
            shapes: of the memory's matrices, by name.
            features: numbers that the head reads.
        """
        seen = dataclasses.replace(interface, observation_size=features)
        self._head: HebbianPolicy | StaticPolicy
        if settings.head == "linear":
            self._head = StaticPolicy(seen, StaticSettings(hidden=(), order=settings.order))
        else:
            of_head = HebbianSettings(
                hidden=(), rule=settings.head, rate=settings.head_rate, order=settings.order
            )
            self._head = HebbianPolicy(seen, of_head)
        self.squashed = self._head.squashed
        self._own = Layout(shapes, settings.order)  # type: ignore[arg-type]  # checked by the config
        of_head_shapes = {f"head.{name}": shape for name, shape in self._head.layout.shapes.items()}
        self.layout = Layout({**shapes, **of_head_shapes}, self._own.order)
        self._matrices = Matrices(shapes)
        self._outputs = np.zeros(interface.action_size, np.float32)
        self._memory: networks.Memory

    def initial_parameters(self, seed: int) -> Float32s:
        """Normal with deviation 1/√rows; the head's as it has it."""
        own = normals(seed, Purpose.INITIAL_H, self._own.size, first=2)
        for array in self._own.unpack(own).values():
            array *= np.float32(1.0 / math.sqrt(array.shape[0]))
        return np.concatenate([own, self._head.initial_parameters(seed)])

    def load(self, parameters: Float32s) -> None:
        """Take the matrices."""
        self._matrices.set(self._own.unpack(parameters[: self._own.size]))
        self._head.load(parameters[self._own.size :])

    def reset(self, seed: int) -> None:
        """Begin an episode: an empty memory, and a new random head if it is plastic."""
        self._head.reset(seed)

    def act(self, observation: Float32s) -> Float32s:
        """Remember and recall; outputs float32 [action_size]."""
        networks.act(observation, self.network, self._outputs)
        return self._outputs

    def activities(self) -> list[Float32s]:
        """What the memory gave to the head, and the head's outputs; see ``Traceable``."""
        return self._head.activities()

    def weights(self) -> list[Float32s]:
        """The head's; see ``Traceable``."""
        return self._head.weights()

    @functools.cached_property
    def network(self) -> networks.Network:
        """What the compiled step, which is all of ``act``, works on."""
        return self._memory, self._head.network
