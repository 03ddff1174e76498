"""A multilayer perceptron whose weights are evolved directly: the baseline of a Hebbian network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esd.config.fields import setting
from esd.evolution.layout import Layout
from esd.kernels import plastic
from esd.policies.base import Interface
from esd.policies.kind import PolicyKind
from esd.policies.perceptron import (
    INITIAL_WEIGHTS,
    ONE,
    InitialWeights,
    Many,
    Perceptron,
    PerceptronPolicy,
    Stretch,
    activation,
    array_order,
    behind_convolutions,
    convolutions,
    hidden_sizes,
    layer_of,
)

Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StaticSettings:
    """[policy] kind = "static": the same network, its weights evolved directly."""

    convolutions: bool = convolutions()
    hidden: tuple[int, ...] = hidden_sizes()
    activation: str = activation()
    initial_weights: str = setting(
        "xavier",
        "Distribution of the initial weights h_0, drawn once per run",
        choices=INITIAL_WEIGHTS,
    )
    order: str = array_order()


class StaticPolicy(PerceptronPolicy):
    """A perceptron without biases; h is its weights, ``layer0.w`` [inputs, outputs] and so on."""

    def __init__(self, interface: Interface, settings: StaticSettings) -> None:
        """Build for one environment."""
        super().__init__(
            Perceptron(
                interface, settings.hidden, settings.activation, "none", plastic.STATIC_STREAMS
            )
        )
        shapes = self._perceptron.shapes
        self.layout = Layout(
            {f"layer{layer}.w": shape for layer, shape in enumerate(shapes)},
            settings.order,  # type: ignore[arg-type]  # checked by the config
        )
        self.squashed = interface.bounded
        self._initial_weights = InitialWeights(settings.initial_weights, shapes)

    def initial_parameters(self, seed: int) -> Float32s:
        """Weights of the scheme ``initial_weights``."""
        flat = self._initial_weights.draw(seed)
        arrays, start = {}, 0
        for layer, shape in enumerate(self._perceptron.shapes):
            stop = start + shape[0] * shape[1]
            bound = self._initial_weights.bounds[layer]
            arrays[f"layer{layer}.w"] = flat[start:stop].reshape(shape) * bound
            start = stop
        return self.layout.pack(arrays)

    def load(self, parameters: Float32s) -> None:
        """Take the weights."""
        self.load_piece(0, parameters)

    def load_piece(self, start: int, values: Float32s) -> None:
        """See ``LoadsPieces``."""
        self._perceptron.place(values, self.stretches(start, values.size), self.layout.order)

    def find_stretches(self, start: int, size: int) -> Iterator[Stretch]:
        """See ``PerceptronPolicy``."""
        for name, first, part in self.layout.stretches(start, start + size):
            yield self._perceptron.stretch(layer_of(name), plastic.SET, 0, part, first)

    def many(self) -> Many:
        """How many members' parameters come into networks at once."""
        stretches = self.stretches(0, self.layout.size)
        return Many(stretches, self.layout.order == "F", ONE, None, self._initial_weights.bounds)

    def reset(self, seed: int) -> None:
        """Begin an episode; nothing about it is random."""
        self._perceptron.begin()


STATIC = PolicyKind(
    StaticSettings,
    behind_convolutions(StaticPolicy),
    lockstep="esd.lockstep.policies:static",
    same_bits=True,
)
