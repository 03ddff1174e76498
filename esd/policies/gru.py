"""A gated recurrent unit (GRU) with evolved weights: a small memory, the baseline of the Reformer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from esd.config.fields import POSITIVE, setting
from esd.kernels import gru
from esd.kernels.lanes import aligned_zeros
from esd.policies.base import Interface
from esd.policies.hebbian import RATE
from esd.policies.kind import PolicyKind
from esd.policies.perceptron import array_order
from esd.policies.recurrent import HEADS, PERIODS, RememberingPolicy, clock_face


@dataclass(frozen=True)
class GruSettings:
    """[policy] kind = "gru": a gated recurrent unit and a linear head, as a baseline with a memory of fixed size."""

    units: int = setting(16, "Size of the hidden state", **POSITIVE)
    clock: tuple[int, ...] = setting(
        (),
        "Periods in steps: adds sine and cosine of the time since the start of the episode to the "
        "observation",
        **PERIODS,
    )
    head: str = setting(
        "linear",
        "Output layer: linear, or a learning rule that rewires a random layer during the episode",
        choices=HEADS,
    )
    head_rate: float = setting(0.1, "Rate of the output layer's learning rule", **RATE)
    order: str = array_order()


class GruPolicy(RememberingPolicy):
    """One layer of gated units, and a head that reads them.

    h holds ``input`` [features, 3 · units] and ``recurrent`` [units, 3 · units], columns of r, z and n as in
    torch.nn.GRU; then the head's. Features are the observation, the clock and a one.
    """

    def __init__(self, interface: Interface, settings: GruSettings) -> None:
        """Build for one environment."""
        features = interface.observation_size + 2 * len(settings.clock) + 1
        units = settings.units
        shapes = {"input": (features, 3 * units), "recurrent": (units, 3 * units)}
        super().__init__(interface, settings, shapes, units + 1)
        numbers = np.zeros(1, gru.SETTINGS)
        numbers["seen"], numbers["features"] = interface.observation_size, features
        numbers["units"] = units
        self._memory: gru.Gru = gru.Gru(
            numbers,
            self._matrices.flat,
            clock_face(settings.clock),
            aligned_zeros(gru.scratch_size(features, units)),
        )

    def reset(self, seed: int) -> None:
        """Begin an episode with nothing remembered."""
        super().reset(seed)
        gru.begin(self._memory)


GRU = PolicyKind(GruSettings, GruPolicy)
