"""An action for an observation by a small perceptron in one call, where an environment is stepped from Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from esd.episodes.observations import Vector
from esd.episodes.spaces import ActionDecoder, ObservationFlattener
from esd.kernels import one_step as kernels
from esd.kernels.plastic import Network

Float64s = npt.NDArray[np.float64]


class OneStep:
    """What ``ObservationFlattener.take`` and ``normalize``, the policy and ``ActionDecoder`` do, with the same bits.

    Attributes:
        saw: the last observation was finite.
    """

    def __init__(
        self, network: Network, vector: Vector, observe: ObservationFlattener, decode: ActionDecoder
    ) -> None:
        """Collect what the kernel works on; see ``one_step_of``."""
        self._look, self._shape, self._vector = vector.declared, vector.shape, vector
        self._table = table = np.zeros(kernels.NUMBERS, np.int64)
        self._decode, self.saw = decode, True
        self._scale: tuple[Float64s, Float64s] | None = None
        assert decode.tables is not None
        sizes, first, low, high = decode.tables
        self._first = int(first[0]) if sizes.size else 0
        self._action = np.zeros(low.size, np.float32)
        self._boxed = bool(low.size)
        named = {
            kernels.OBSERVATION: observe.buffer,
            kernels.SYNAPSES: network.synapses,
            kernels.MEMORY: network.memory,
            kernels.SETTINGS: network.settings,
            kernels.LOW: low,
            kernels.HIGH: high,
            kernels.ACTION: self._action,
        }
        for which, array in named.items():
            kernels.put(table, which, array)
        table[kernels.FIRST_END : kernels.OUTPUTS] = network.ends
        table[kernels.OUTPUTS] = decode.size
        self._kept = list(named.values())

    def begin(self, scale: tuple[Float64s, Float64s] | None, sums: Float64s) -> None:
        """Before an episode: mean and inverse deviation of observations, and where they are summed."""
        self.saw = True
        self._table[kernels.SQUASHED] = self._decode.squashed
        if scale is self._scale:
            return
        self._scale, self._sums = scale, sums
        nothing = np.empty(0)
        mean, deviation = scale or (nothing, nothing)
        kernels.put(self._table, kernels.MEAN, mean)
        kernels.put(self._table, kernels.DEVIATION, deviation)
        kernels.put(self._table, kernels.SUMS, sums)

    def __call__(self, observation: Any) -> Any:
        """The action, or None if the observation (see ``saw``) or an output is not finite.

        Raises:
            MisfitError: if the observation does not fit its space.
        """
        if (
            type(observation) is not np.ndarray
            or observation.shape != self._shape
            or observation.dtype is not self._vector.last
        ):
            observation = self._look(observation)
        code = kernels.one_step(observation, self._table)
        if code < 0:
            self.saw = code != kernels.NOT_SEEN
            return None
        return self._action.copy() if self._boxed else code + self._first


def one_step_of(
    network: object, observe: ObservationFlattener, decode: ActionDecoder
) -> OneStep | None:
    """The one of a network and an environment; None if there is none.

    Observations have to be vectors of floats, and actions a choice or a vector of float32.
    """
    vector = observe.vector
    if type(network) is not Network or vector is None or not decode.is_plain:
        return None
    return OneStep(network, vector, observe, decode)
