"""A network that learns while it acts: every connection has its own evolved Hebbian rule.

Najarro & Risi 2020, "Meta-Learning through Hebbian Plasticity in Random Networks" (arXiv 2007.02686). With x the
activity before a synapse and y the one behind it, after each step

    Δw = η(A·xy + B·x + C·y + D) + D₂,

a rule being the subset of coefficients that it has, times a rate that is fixed (1 in the paper). Order in a step:
forward, act, environment step, then (if the episode goes on) update with that forward's activities, then normalize.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from esd.config.fields import SECOND_VERSION, setting
from esd.errors import UsageError
from esd.evolution.layout import Layout
from esd.evolution.noise import Purpose, normals, uniforms
from esd.kernels import plastic
from esd.policies import shared_rules
from esd.policies.base import Interface
from esd.policies.kind import PolicyKind
from esd.policies.perceptron import (
    INITIAL_WEIGHTS,
    NORMALIZATION_KINDS,
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

# The nine rules by the coefficients they have, in the order in which they stand in h; all of them go through one
# kernel. η is folded into those before it; D_out stands outside of η, and so behind it.
RULE_COEFFICIENTS = {
    "A": ("A",),
    "AD": ("A", "D"),
    "AD_lr": ("A", "D", "eta"),
    "ABC": ("A", "B", "C"),
    "ABC_lr": ("A", "B", "C", "eta"),
    "ABCD": ("A", "B", "C", "D"),
    "ABCD_lr": ("A", "B", "C", "D", "eta"),
    "ABCD_lr_D_out": ("A", "B", "C", "eta", "D_out"),
    "ABCD_lr_D_in_and_out": ("A", "B", "C", "D", "eta", "D_out"),
}

DRAW_WEIGHTS = ("episode", "member", "run")  # see ``esd.episodes.weight_seeds``
SCHEMES = (*INITIAL_WEIGHTS, "coevolved")  # of an episode's first weights

# float32 makes 0 or infinity of others
RATE: dict[str, Any] = {"expected": "1e-30 to 1e30", "check": lambda v: 1e-30 <= v <= 1e30}


@dataclass(frozen=True)
class HebbianSettings:
    """[policy] kind = "hebbian": a multilayer perceptron whose weights a learning rule rewires at every step."""

    rule: str = setting(
        "ABCD_lr", "Learning rule (esd list rules)", choices=tuple(RULE_COEFFICIENTS)
    )
    rate: float = setting(
        1.0,
        "Factor on every change of a weight. With coefficients from N(0, 1) and weights of at most 1, a rate of 1 "
        "overwrites a network within a few steps; a small rate averages over many steps",
        **RATE,
    )
    convolutions: bool = convolutions()
    hidden: tuple[int, ...] = hidden_sizes()
    activation: str = activation()
    output: str = setting(
        "tanh",
        "Output of the last layer that the learning rule uses if actions are bounded: tanh (the action "
        "itself), or raw (before tanh, as in the paper's CarRacing). Otherwise it is always raw",
        choices=("tanh", "raw"),
    )
    initial_weights: str = setting(
        "uniform",
        "Initial weights of every episode: uniform ±0.1, normal(0, 0.024), uniform_wide ±1, xavier, "
        "kaiming, sparse, ones, zeros, or coevolved (one evolved set)",
        choices=SCHEMES,
    )
    normalization: str = setting(
        "max",
        "Normalization after every weight update: divide each layer by its max |w|, by its l2 norm (which sums "
        "squares in float32: only for weights from 1e-18 to 1e18), or not at all",
        choices=tuple(NORMALIZATION_KINDS),
    )
    freeze_after: int = setting(
        0,
        "Freeze the weights after this many steps of an episode. 0: never",
        expected="0 to 2⁶³ − 1",
        check=lambda v: 0 <= v < 2**63,
    )
    every: int = setting(
        1,
        "Update the weights after every k-th step of an episode only",
        expected="1 to 1,000,000",
        check=lambda v: 1 <= v <= 10**6,
        since=SECOND_VERSION,
    )
    average: bool = setting(
        False,
        "Update the weights by the means of the activities since the last update, instead of the activities of the "
        "last step; see policy.every",
        since=SECOND_VERSION,
    )
    draw_weights: str = setting(
        "episode",
        "How often initial weights are drawn: for every episode, once for each member of the population, or once "
        "for the run (docs/policies.md)",
        choices=DRAW_WEIGHTS,
        since=SECOND_VERSION,
    )
    coefficients: str = setting(
        "normal",
        "Distribution of the initial coefficients h_0: normal (N(0, 1)) or uniform (±1)",
        choices=("normal", "uniform"),
    )
    coefficient_scale: float = setting(
        1.0,
        "Factor on the initial coefficients h_0. With 0.01, rules start with hardly any plasticity",
        since=SECOND_VERSION,
        **RATE,
    )
    rules: int = setting(
        0,
        "Number of learning rules that the synapses share. 0: every synapse has its own. With esd train --from "
        "RUN, K-means merges the rules of that run into this number",
        expected=f"0 to {shared_rules.MOST_RULES:,}",
        check=lambda v: 0 <= v <= shared_rules.MOST_RULES,
        since=SECOND_VERSION,
    )
    assignment: str = setting(
        "",
        "Which of the shared rules each synapse follows, as base64; written by esd train --from. Empty: a random "
        "assignment, the same in all runs",
        since=SECOND_VERSION,
    )
    order: str = array_order()


class HebbianPolicy(PerceptronPolicy):
    """A perceptron without biases whose weights start at random in every episode and follow an evolved rule.

    h holds, layer by layer, each coefficient as an array [inputs, outputs] named ``layer0.A`` and so on; with
    ``initial_weights = "coevolved"`` also ``layer0.w``, the weights that every episode then starts from. Rules that
    synapses share are named ``rules.A`` and so on, [rules].

    Attributes:
        by_synapse: the layout of h if every synapse has its own rule.
        index: where in h each number of that layout is, int64 [its size]; None if h has that layout.
    """

    def __init__(self, interface: Interface, settings: HebbianSettings) -> None:
        """Build for one environment."""
        self._settings = settings
        self.squashed = interface.bounded and settings.output == "tanh"
        super().__init__(
            Perceptron(
                dataclasses.replace(interface, bounded=self.squashed),
                settings.hidden,
                settings.activation,
                settings.normalization,
                plastic.PLASTIC_STREAMS,
                settings.freeze_after,
                settings.every,
                settings.average,
            )
        )
        self._rate = np.float32(settings.rate)
        self._names = RULE_COEFFICIENTS[settings.rule]
        self._coevolved = settings.initial_weights == "coevolved"
        names = (*self._names, "w") if self._coevolved else self._names
        self.by_synapse = self.layout = Layout(
            {
                f"layer{layer}.{name}": shape
                for layer, shape in enumerate(self._perceptron.shapes)
                for name in names
            },
            settings.order,  # type: ignore[arg-type]  # checked by the config
        )
        self.index: npt.NDArray[np.int64] | None = None
        if settings.rules:
            self._share(settings)
        scheme = "ones" if self._coevolved else settings.initial_weights
        self._initial_weights = InitialWeights(scheme, self._perceptron.shapes)
        added = "D" in self._names
        streams = {name: 1 + "ABCD".index(name) for name in "ABCD"}
        # not those that the rule lacks: an infinite η would make NaN of their zeros, for the next member too (law 1)
        scaled = sum(1 << stream for name, stream in streams.items() if name in self._names)
        self._places = {
            "eta": (plastic.SCALE, scaled),
            "D_out": (plastic.ADD if added else plastic.SET, streams["D"]),
            **{name: (plastic.SET, stream) for name, stream in streams.items()},
        }
        self._evolved_weights = np.zeros(self._perceptron.connections, np.float32)

    def _share(self, settings: HebbianSettings) -> None:
        """Let synapses share rules.

        Raises:
            UsageError: if the assignment is none of this network, or something else of the network is in h, too.
        """
        if settings.convolutions:
            raise UsageError(
                f"policy.rules = {settings.rules}: can't be combined with policy.convolutions; use policy.rules = 0"
            )
        if self._coevolved:
            raise UsageError(
                f'policy.rules = {settings.rules}: initial_weights = "coevolved" stores one number per synapse in '
                "h; use other initial weights, or policy.rules = 0"
            )
        connections, rules = self._perceptron.connections, settings.rules
        self._assignment = shared_rules.assignment_of(settings.assignment, connections, rules)
        self.layout = Layout({f"rules.{name}": (rules,) for name in self._names})
        order: Any = settings.order
        found, start = [], 0
        for inputs, outputs in self._perceptron.shapes:
            of_layer = self._assignment[start : start + inputs * outputs].reshape(inputs, outputs)
            found += [of_layer.ravel(order) + rules * number for number in range(len(self._names))]
            start += inputs * outputs
        self.index = np.concatenate(found)
        self._rules = np.zeros(self.layout.size, np.float32)

    def coefficients(self, h: Float32s) -> Float32s:
        """Each synapse's coefficients, float32 [connections, coefficients]: layer by layer, each input by input."""
        arrays = self.by_synapse.unpack(h if self.index is None else h[self.index])
        layers = [
            np.stack([arrays[f"layer{layer}.{name}"].ravel() for name in self._names], axis=1)
            for layer in range(len(self._perceptron.shapes))
        ]
        return np.concatenate(layers)

    def shared(self, coefficients: Float32s) -> Float32s:
        """The h whose rules are the means of the coefficients of their synapses; the inverse of ``coefficients``."""
        means = shared_rules.means(coefficients, self._assignment, self._settings.rules)
        return means.astype(np.float32).T.ravel()

    def initial_parameters(self, seed: int) -> Float32s:
        """Coefficients N(0, 1) or U(−1, 1), times ``coefficient_scale``; coevolved weights uniform ±0.1."""
        draw = normals if self._settings.coefficients == "normal" else uniforms
        h = draw(seed, Purpose.INITIAL_H, self.layout.size)
        h *= np.float32(self._settings.coefficient_scale)
        if self._coevolved:
            small = uniforms(seed, Purpose.INITIAL_H, self.layout.size, first=1)
            for name, array in self.layout.unpack(h).items():
                if name.endswith(".w"):
                    array[...] = np.float32(0.1) * self.layout.unpack(small)[name]
        return h

    def load(self, parameters: Float32s) -> None:
        """Take the coefficients, with η folded into the others once per member."""
        self.load_piece(0, parameters)

    def load_piece(self, start: int, values: Float32s) -> None:
        """See ``LoadsPieces``."""
        if self.index is not None:
            self._rules[start : start + values.size] = values
            if start + values.size < self._rules.size:
                return
            start, values = 0, self._rules[self.index]
        stretches = self.stretches(start, values.size)
        self._perceptron.place(values, stretches, self.by_synapse.order, self._rate)
        if self._coevolved:
            for array, first, part in self.by_synapse.stretches(start, start + values.size):
                if array.endswith(".w"):
                    self._keep_weights(layer_of(array), values[part], first)

    def find_stretches(self, start: int, size: int) -> Iterator[Stretch]:
        """See ``PerceptronPolicy``; coevolved weights have their place elsewhere."""
        for array, first, part in self.by_synapse.stretches(start, start + size):
            name = array.partition(".")[2]
            if name != "w":
                place = self._places[name]
                yield self._perceptron.stretch(layer_of(array), *place, part, first)

    def _keep_weights(self, layer: int, values: Float32s, first: int) -> None:
        """Take a stretch of a layer's coevolved weights, which every episode starts from."""
        inputs, outputs = self._perceptron.shapes[layer]
        at = np.arange(first, first + values.size)
        if self.by_synapse.order == "F":
            at = at % inputs * outputs + at // inputs
        before = sum(a * b for a, b in self._perceptron.shapes[:layer])
        self._evolved_weights[before + at] = values

    def many(self) -> Many | None:
        """How many members' parameters come into networks at once; None if they are not one rule for each synapse."""
        if self._coevolved or self.index is not None:
            return None
        stretches, first = self.stretches(0, self.layout.size), self._initial_weights
        return Many(stretches, self.layout.order == "F", self._rate, first.draw_many, first.bounds)

    def reset(self, seed: int) -> None:
        """Draw new random weights (or take the coevolved ones)."""
        weights = self._evolved_weights if self._coevolved else self._initial_weights.draw(seed)
        self._perceptron.place_weights(weights, self._initial_weights.bounds)
        self._perceptron.begin()


HEBBIAN = PolicyKind(
    HebbianSettings,
    behind_convolutions(HebbianPolicy),
    lockstep="esd.lockstep.policies:hebbian",
    same_bits=True,
)
