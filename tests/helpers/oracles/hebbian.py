"""The Hebbian network as its paper writes it: plain numpy, one operation after the other, nothing folded or fused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]


class HebbianOracle:
    """Najarro & Risi 2020: forward, Δw = rate·(η(A·xy + B·x + C·y + D) + D₂), then division by the layer's norm."""

    def __init__(
        self,
        coefficients: Sequence[Mapping[str, Array]],
        weights: Sequence[Array],
        normalization: str,
        hidden_activation: str,
        bounded: bool,
        precision: type[np.floating] = np.float64,
        freeze_after: int = 0,
        rate: float = 1.0,
        every: int = 1,
        average: bool = False,
    ) -> None:
        self.rate = rate
        self.updates_left = freeze_after or np.inf
        self.every, self.average = every, average
        self.since_update: list[list[Array]] = []
        self.precision = precision
        self.coefficients = [
            {name: np.asarray(value, precision) for name, value in layer.items()}
            for layer in coefficients
        ]
        self.weights = [np.asarray(w, precision).copy() for w in weights]
        self.normalization = normalization
        self.hidden = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0.0), "none": lambda x: x}[
            hidden_activation
        ]
        self.output = np.tanh if bounded else lambda x: x

    def forward(self, observation: Array) -> Array:
        self.activities = [np.asarray(observation, self.precision)]
        for layer, w in enumerate(self.weights):
            function = self.output if layer == len(self.weights) - 1 else self.hidden
            self.activities.append(function(self.activities[-1] @ w))
        self.since_update.append(self.activities)
        return self.activities[-1]

    def update(self) -> None:
        """What follows a step; ``freeze_after`` counts steps, not the updates that are made."""
        if self.updates_left == 0:
            return
        self.updates_left -= 1
        if len(self.since_update) < self.every:
            return
        seen = self.since_update
        activities = [np.mean(own, axis=0) for own in zip(*seen, strict=True)]
        if not self.average:
            activities = seen[-1]
        self.since_update = []
        for layer, w in enumerate(self.weights):
            own = self.coefficients[layer]
            zero, one = np.zeros_like(w), np.ones_like(w)
            x, y = activities[layer][:, None], activities[layer + 1][None, :]
            inner = (
                own.get("A", zero) * x * y
                + own.get("B", zero) * x
                + own.get("C", zero) * y
                + own.get("D", zero)
            )
            w += self.rate * (own.get("eta", one) * inner + own.get("D_out", zero))
            if self.normalization == "max" and np.abs(w).max() > 0.0:
                w /= np.abs(w).max()
            elif self.normalization == "l2" and np.linalg.norm(w) > 0.0:
                w /= np.linalg.norm(w)
