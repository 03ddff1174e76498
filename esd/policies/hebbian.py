"""Networks that learn while they act: every synapse has its own evolved Hebbian rule.

Najarro & Risi 2020, "Meta-Learning through Hebbian Plasticity in Random Networks" (arXiv 2007.02686). With x the
activity before a synapse and y the one behind it, after each step

    Δw = η(A·xy + B·x + C·y + D) + D₂,

a rule being the subset of coefficients that it has. Order in a step: forward, act, environment step, then (if the
episode goes on) update with that forward's activities, then normalize.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from esd.config import HebbianConfig
from esd.kernels import plastic
from esd.noise import Purpose, normals, uniforms
from esd.policies.base import Interface
from esd.policies.perceptron import InitialWeights, Perceptron
from esd.vectorize import Layout

Float32s = npt.NDArray[np.float32]

# The nine rules by the coefficients they have; all of them go through one kernel. D_out stands outside of η.
RULE_COEFFICIENTS = {
    "A": ("A",),
    "AD": ("A", "D"),
    "AD_lr": ("A", "D", "eta"),
    "ABC": ("A", "B", "C"),
    "ABC_lr": ("A", "B", "C", "eta"),
    "ABCD": ("A", "B", "C", "D"),
    "ABCD_lr": ("A", "B", "C", "D", "eta"),
    "ABCD_lr_D_out": ("A", "B", "C", "D_out", "eta"),
    "ABCD_lr_D_in_and_out": ("A", "B", "C", "D", "D_out", "eta"),
}


class HebbianPolicy:
    """A perceptron without biases whose weights start at random in every episode and follow an evolved rule.

    h holds, layer by layer, each coefficient as an array [inputs, outputs] named ``layer0.A`` and so on; with
    ``initial_weights = "coevolved"`` also ``layer0.w``, the weights that every episode then starts from.
    """

    def __init__(self, interface: Interface, settings: HebbianConfig) -> None:
        """Build for one environment."""
        self._settings = settings
        self._network = Perceptron(
            interface,
            settings.hidden,
            settings.activation,
            settings.normalization,
            plastic.PLASTIC_STREAMS,
        )
        self._names = RULE_COEFFICIENTS[settings.rule]
        self._coevolved = settings.initial_weights == "coevolved"
        names = (*self._names, "w") if self._coevolved else self._names
        self.layout = Layout(
            {
                f"layer{layer}.{name}": shape
                for layer, shape in enumerate(self._network.shapes)
                for name in names
            },
            settings.order,  # type: ignore[arg-type]  # checked by the config
        )
        self.squashed = interface.bounded
        scheme = "ones" if self._coevolved else settings.initial_weights
        self._initial_weights = InitialWeights(scheme, self._network.shapes)
        self._evolved_weights: Float32s | None = None
        self._ones = [np.ones(s, np.float32, order=settings.order) for s in self._network.shapes]  # type: ignore[call-overload]

    def initial_parameters(self, seed: int) -> Float32s:
        """Coefficients N(0, 1) or U(−1, 1); coevolved weights uniform ±0.1."""
        draw = normals if self._settings.coefficients == "normal" else uniforms
        h = draw(seed, Purpose.INITIAL_H, self.layout.size)
        if self._coevolved:
            small = uniforms(seed, Purpose.INITIAL_H, self.layout.size, first=1)
            for name, array in self.layout.unpack(h).items():
                if name.endswith(".w"):
                    array[...] = np.float32(0.1) * self.layout.unpack(small)[name]
        return h

    def load(self, parameters: Float32s) -> None:
        """Fold η into the other coefficients, once per member."""
        arrays = self.layout.unpack(parameters)
        weights = []
        for layer, ones in enumerate(self._ones):
            eta = arrays.get(f"layer{layer}.eta", ones)
            added = {"D_out"} if "D" in self._names else set()
            for name in self._names:
                if name != "eta":
                    values = arrays[f"layer{layer}.{name}"]
                    factor = ones if name == "D_out" else eta
                    self._network.set_coefficient(layer, name[0], values, factor, name in added)
            if self._coevolved:
                weights.append(arrays[f"layer{layer}.w"].reshape(-1))
        self._evolved_weights = np.concatenate(weights) if self._coevolved else None

    def reset(self, seed: int) -> None:
        """Draw new random weights (or take the coevolved ones)."""
        weights = self._evolved_weights
        if weights is None:
            weights = self._initial_weights.draw(seed)
        self._network.begin(weights, self._initial_weights.bounds)

    def act(self, observation: Float32s) -> Float32s:
        """Rewire by the previous step's activities, then forward; outputs float32 [action_size]."""
        return self._network.step(observation)

    def weights(self) -> list[Float32s]:
        """The present weights of each layer, float32 [inputs, outputs]; the last step's update is still pending."""
        return [self._network.weights(layer) for layer in range(len(self._network.shapes))]
