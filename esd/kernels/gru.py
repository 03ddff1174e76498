"""One step of a gated recurrent unit (Cho et al. 2014, arXiv 1406.1078), in the form that torch.nn.GRU has.

    r = σ(W_r x + U_r h),  z = σ(W_z x + U_z h),  n = tanh(W_n x + r·U_n h),  h ← (1 − z)·n + z·h

where x is the observation, the clock, and a one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from esd.kernels import clock, inlined, kernel
from esd.kernels.dense import multiply
from esd.kernels.elementary import tanh
from esd.kernels.lanes import padded
from esd.kernels.networks import step_of

SETTINGS = np.dtype(
    [
        ("step", np.int64),  # since the episode began
        ("seen", np.int64),  # numbers of an observation
        ("features", np.int64),  # the observation, the clock, and a one
        ("units", np.int64),
    ],
    align=True,
)

f32 = np.float32
_HALF = f32(0.5)
_ONE = f32(1.0)

Float32s = npt.NDArray[np.float32]
Records = npt.NDArray[np.void]


class Gru(NamedTuple):
    """What a step works on.

    Attributes:
        settings: ``SETTINGS`` [1]; the step's number in it is advanced.
        weights: float32; W [features, 3 · units] and U [units, 3 · units], the columns of r, z and n side by side,
            padded to whole vectors.
        face: ``clock.FACE`` [Σ periods].
        scratch: float32 [scratch_size]; h is in its first entries, and a one behind it.
    """

    settings: Records
    weights: Float32s
    face: Records
    scratch: Float32s


def scratch_size(features: int, units: int) -> int:
    """Floats of scratch."""
    return sum(padded(size) for size in (units + 1, features, 3 * units, 3 * units))


@inlined
def _sigmoid(x):
    return _HALF + _HALF * tanh(_HALF * x)


@step_of(Gru)
@inlined
def recur(observation, gru):
    """Make a step; h is in the scratch, see ``Gru``."""
    records, weights, face, scratch = gru
    settings = records[0]
    units = settings.units
    seen = settings.seen
    features = settings.features
    columns = padded(3 * units)
    at = padded(units + 1)
    now = scratch[at : at + features]
    at += padded(features)
    inputs = scratch[at : at + columns]
    recurrent = scratch[at + columns : at + 2 * columns]
    now[:seen] = observation[:seen]
    clock.read(settings.step, face, now[seen : features - 1])
    now[features - 1] = _ONE
    settings.step += 1
    h = scratch[:units]
    scratch[units] = _ONE
    multiply(now, weights, 0, columns, columns, inputs)
    multiply(h, weights, features * columns, columns, columns, recurrent)
    for i in range(units):
        r = _sigmoid(inputs[i] + recurrent[i])
        z = _sigmoid(inputs[units + i] + recurrent[units + i])
        n = tanh(inputs[2 * units + i] + r * recurrent[2 * units + i])
        h[i] = (_ONE - z) * n + z * h[i]


@kernel
def step(observation, gru):
    """See ``recur``."""
    recur(observation, gru)


@kernel
def begin(gru):
    """Begin an episode: h is zero."""
    settings = gru.settings[0]
    settings.step = 0
    gru.scratch[: settings.units] = f32(0.0)
