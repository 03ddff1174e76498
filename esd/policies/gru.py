"""A gated recurrent unit: the small memory that attention is compared with."""

from __future__ import annotations

import numpy as np

from esd.config.policies import GruConfig
from esd.kernels import gru
from esd.kernels.lanes import aligned_zeros
from esd.policies.base import Interface
from esd.policies.recurrent import RememberingPolicy, clock_face


class GruPolicy(RememberingPolicy):
    """One layer of gated units, and a head that reads them.

    h holds ``input`` [features, 3 · units] and ``recurrent`` [units, 3 · units], columns of r, z and n as in
    torch.nn.GRU; then the head's. Features are the observation, the clock and a one.
    """

    def __init__(self, interface: Interface, settings: GruConfig) -> None:
        """Build for one environment."""
        features = interface.observation_size + 2 * len(settings.clock) + 1
        units = settings.units
        shapes = {"input": (features, 3 * units), "recurrent": (units, 3 * units)}
        super().__init__(interface, settings, shapes, units + 1)
        numbers = [0] * gru.PERIODS
        numbers[gru.SEEN], numbers[gru.UNITS] = interface.observation_size, units
        self._memory: gru.Gru = gru.Gru(
            np.array([*numbers, *settings.clock], np.int64),
            self._matrices.flat,
            clock_face(settings.clock),
            aligned_zeros(gru.scratch_size(features, units)),
        )

    def reset(self, seed: int) -> None:
        """Begin an episode with nothing remembered."""
        super().reset(seed)
        gru.begin(self._memory)
