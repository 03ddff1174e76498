"""The multilayer perceptron that ``hebbian`` and ``static`` share: its memory, initial weights and compiled step."""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from esd.config.fields import setting
from esd.evolution.noise import (
    Purpose,
    normals,
    normals_of_seeds,
    uniforms,
    uniforms_of_seeds,
)
from esd.kernels import plastic
from esd.kernels.lanes import LANES, aligned_zeros, padded
from esd.policies.base import Interface, Policy

Float32s = npt.NDArray[np.float32]
Uint64s = npt.NDArray[np.uint64]
Stretch = tuple[int, int, int, int, int, int, int, int]

ACTIVATION_KINDS = {"tanh": plastic.TANH, "relu": plastic.RELU, "none": plastic.IDENTITY}
NORMALIZATION_KINDS = {
    "max": plastic.NORMALIZE_MAX,
    "none": plastic.NORMALIZE_NONE,
    "l2": plastic.NORMALIZE_L2,
}
INITIAL_WEIGHTS = (
    "uniform",
    "normal",
    "uniform_wide",
    "xavier",
    "kaiming",
    "sparse",
    "ones",
    "zeros",
)  # see ``InitialWeights``
SPARSE_SHARE_OF_ZEROS = 0.8
ONE = np.float32(1.0)


# settings that kinds share; each call makes a field of its own


def convolutions() -> Any:
    """``convolutions``, see ``behind_convolutions``."""
    return setting(
        False,
        "Use two evolved convolutions in front, for square RGB observations, resized to 84×84 (Najarro & Risi 2020)",
    )


def hidden_sizes() -> Any:
    """``hidden``."""
    return setting(
        (128, 64),
        "Sizes of the hidden layers",
        expected="sizes above 0",
        check=lambda v: min(v, default=1) > 0,
    )


def activation() -> Any:
    """``activation``."""
    return setting(
        "tanh", "Activation function of the hidden layers", choices=tuple(ACTIVATION_KINDS)
    )


def array_order() -> Any:
    """``order``."""
    return setting(
        "C",
        "Order in which arrays are flattened into h: C row by row, F column by column",
        choices=("C", "F"),
    )


def layer_of(array: str) -> int:
    """The number in an array's name, such as ``layer0.A``."""
    return int(array.removeprefix("layer").partition(".")[0])


class Perceptron:
    """Buffers of one network without biases, and the calls into its kernel.

    The last layer has a tanh if the interface is bounded, and none (raw logits) otherwise.

    Attributes:
        synapses, memory, settings: what ``plastic.step`` works on.
        network: these, and where the outputs are.
    """

    def __init__(
        self,
        interface: Interface,
        hidden: Sequence[int],
        activation: str,
        normalization: str,
        streams: int,
        freeze_after: int = 0,
        every: int = 1,
        average: bool = False,
    ) -> None:
        """Allocate for the sizes input → hidden… → output; 0 is no last update.

        Weights are updated after every ``every``-th step, by the means of the activities since the last update if
        ``average``.
        """
        average = average and every > 1  # of one step's activities they are the mean
        sizes = (interface.observation_size, *hidden, interface.action_size)
        self.shapes = list(itertools.pairwise(sizes))
        widths = [padded(size) for size in sizes]
        self._streams = streams
        layer_floats = [inputs * streams * padded(outputs) for inputs, outputs in self.shapes]
        self.synapses = aligned_zeros(sum(layer_floats))
        self._layer_starts = np.cumsum([0, *layer_floats])
        self.memory = aligned_zeros(plastic.memory_size(sizes, average))
        output = plastic.TANH if interface.bounded else plastic.IDENTITY
        self.settings = np.array(
            [
                0,
                streams,
                NORMALIZATION_KINDS[normalization],
                ACTIVATION_KINDS[activation],
                output,
                freeze_after or np.iinfo(np.int64).max,
                every,
                average,
                *sizes,
            ],
            np.int64,
        )
        units = sum(widths)
        starts = np.cumsum([0, *widths[:-1]])
        self._activities = [
            [
                self.memory[number * units + start :][:size]
                for start, size in zip(starts, sizes, strict=True)
            ]
            for number in (0, 1)
        ]
        ends = np.array([number * units + units - widths[-1] for number in (0, 1)])
        self.network = plastic.Network(self.synapses, self.memory, self.settings, ends)
        self._outputs = tuple(activities[-1] for activities in self._activities)

    @property
    def connections(self) -> int:
        """Number of weights."""
        return sum(inputs * outputs for inputs, outputs in self.shapes)

    def streams(self, layer: int) -> Float32s:
        """A layer's memory, float32 [groups, inputs, streams, 16]; output j is lane j % 16 of group j // 16."""
        inputs, outputs = self.shapes[layer]
        block = self.synapses[self._layer_starts[layer] : self._layer_starts[layer + 1]]
        groups = padded(outputs) // LANES
        return block.reshape(groups, inputs, self._streams, LANES)

    def stretch(self, layer: int, operation: int, stream: int, part: slice, first: int) -> Stretch:
        """Say where the values in ``part`` belong, whose first is element ``first`` of a flattened matrix."""
        start = int(self._layer_starts[layer])
        return (part.start, part.stop, first, operation, stream, start, *self.shapes[layer])

    def place(
        self,
        values: Float32s,
        stretches: npt.NDArray[np.int64],
        order: str,
        factor: np.float32 = ONE,
    ) -> None:
        """Take values times a factor to where the stretches say, int64 [stretches, 8]; see ``plastic.place``."""
        plastic.place(values, stretches, order == "F", factor, self.synapses, self._streams)

    def place_weights(self, weights: Float32s, bounds: Float32s) -> None:
        """Take weights·bounds: float32 [connections] input-major, and float32 [layers]."""
        plastic.place_weights(weights, bounds, self.synapses, self.settings)

    def begin(self) -> None:
        """Start an episode from the weights as they are."""
        plastic.begin(self.memory, self.settings)

    def step(self, observation: Float32s) -> Float32s:
        """Update by the previous step, normalize, forward; returns the outputs, a view."""
        now = plastic.step(observation, self.synapses, self.memory, self.settings)
        return self._outputs[now]

    def activities(self) -> list[Float32s]:
        """The last step's activities, views of float32 [units], from input to output."""
        return self._activities[(int(self.settings[plastic.STEP]) - 1) & 1]

    def weights(self, layer: int) -> Float32s:
        """A layer's present weights, float32 [inputs, outputs], before the update that is still pending."""
        inputs, outputs = self.shapes[layer]
        grouped = self.streams(layer)[:, :, 0, :]
        stored = grouped.swapaxes(0, 1).reshape(inputs, -1)[:, :outputs]
        weights: Float32s = stored * self.memory[layer - len(self.shapes)]
        return weights


class Many(NamedTuple):
    """How the parameters of many members, and the weights that their episodes begin with, come into networks.

    Attributes:
        stretches, by_columns, factor: see ``plastic.place``, of the whole h.
        draw: from seeds, uint64 [n], to values, float32 [n, connections]; None if the parameters are the weights.
        bounds: float32 [layers], by which those of each layer are multiplied.
    """

    stretches: npt.NDArray[np.int64]
    by_columns: bool
    factor: np.float32
    draw: Callable[[Uint64s], Float32s] | None
    bounds: Float32s


class PerceptronPolicy(abc.ABC):
    """What all policies have in common that are a perceptron and nothing else."""

    def __init__(self, perceptron: Perceptron) -> None:
        """Take the perceptron."""
        self._perceptron = perceptron
        self._stretches: dict[tuple[int, int], npt.NDArray[np.int64]] = {}

    @abc.abstractmethod
    def find_stretches(self, start: int, size: int) -> Iterator[Stretch]:
        """Say where the parameters in a piece of h belong, see ``Perceptron.stretch``."""

    def stretches(self, start: int, size: int) -> npt.NDArray[np.int64]:
        """The same as int64 [stretches, 8], found once: every member has the same pieces."""
        found = self._stretches.get((start, size))
        if found is None:
            found = np.array([*self.find_stretches(start, size)], np.int64).reshape(-1, 8)
            self._stretches[start, size] = found
        return found

    def act(self, observation: Float32s) -> Float32s:
        """Rewire by the previous step's activities, if it learns, then forward; outputs float32 [action_size]."""
        return self._perceptron.step(observation)

    @property
    def network(self) -> plastic.Network:
        """What the compiled step, which is all of ``act``, works on."""
        return self._perceptron.network

    def activities(self) -> list[Float32s]:
        """See ``Traceable``."""
        return self._perceptron.activities()

    def weights(self) -> list[Float32s]:
        """The present weights of each layer, float32 [inputs, outputs]; the last step's update is still pending."""
        return [self._perceptron.weights(layer) for layer in range(len(self._perceptron.shapes))]


class InitialWeights:
    """The schemes by which the weights of an episode (or a static h_0) are drawn.

    uniform: ±0.1. normal: deviation 0.024. uniform_wide: ±1. xavier: uniform ±√(6/(inputs + outputs)) (Glorot &
    Bengio 2010). kaiming: uniform ±√(6/inputs) (He et al. 2015). sparse: normal of deviation 0.01, each weight zero
    with probability 0.8. ones, zeros.
    """

    def __init__(self, scheme: str, shapes: Sequence[tuple[int, int]]) -> None:
        """Prepare for the layers' (inputs, outputs)."""
        self._scheme = scheme
        self._count = sum(inputs * outputs for inputs, outputs in shapes)
        constant = {"uniform": 0.1, "normal": 0.024, "sparse": 0.01}.get(scheme, 1.0)
        bounds = [constant for _ in shapes]
        if scheme == "xavier":
            bounds = [math.sqrt(6.0 / (inputs + outputs)) for inputs, outputs in shapes]
        elif scheme == "kaiming":
            bounds = [math.sqrt(6.0 / inputs) for inputs, outputs in shapes]
        self.bounds = np.array(bounds, np.float32)
        self._fixed = {
            "ones": np.ones(self._count, np.float32),
            "zeros": np.zeros(self._count, np.float32),
        }.get(scheme)

    def draw(self, seed: int) -> Float32s:
        """Values to be multiplied by each layer's bound, float32 [Σ inputs·outputs], input-major."""
        if self._fixed is not None:
            return self._fixed
        if self._scheme == "normal":
            return normals(seed, Purpose.INITIAL_WEIGHTS, self._count)
        if self._scheme == "sparse":
            values = normals(seed, Purpose.INITIAL_WEIGHTS, self._count)
            chance = uniforms(seed, Purpose.INITIAL_WEIGHTS, self._count, first=1)
            values[chance < np.float32(2.0 * SPARSE_SHARE_OF_ZEROS - 1.0)] = 0.0
            return values
        return uniforms(seed, Purpose.INITIAL_WEIGHTS, self._count)

    def draw_many(self, seeds: Uint64s) -> Float32s:
        """``draw`` of every seed, float32 [seeds, Σ inputs·outputs]."""
        if self._fixed is not None or self._scheme == "sparse":
            return np.array([self.draw(seed) for seed in seeds.tolist()])
        draw = normals_of_seeds if self._scheme == "normal" else uniforms_of_seeds
        return draw(seeds, Purpose.INITIAL_WEIGHTS, self._count)


def behind_convolutions(
    build: Callable[[Interface, Any], Policy],
) -> Callable[[Interface, Any], Policy]:
    """The builder of a kind whose settings have ``convolutions``: two of them in front, if they are asked for."""

    def built(interface: Interface, settings: Any) -> Policy:
        if not settings.convolutions:
            return build(interface, settings)
        from esd.policies.convolutional import ConvolutionalPolicy

        return ConvolutionalPolicy(interface, lambda seen: build(seen, settings))

    return built
