"""What memory alone allows: the plastic step's traffic with next to no arithmetic."""

from __future__ import annotations

import numpy as np

from esd.kernels import kernel
from esd.kernels.lanes import LANES, load, store
from esd.kernels.plastic import PLASTIC_STREAMS


@kernel
def touch(synapses):
    """Read all five streams of every group of sixteen synapses and write the first, as the plastic step does."""
    for at in range(0, synapses.size, PLASTIC_STREAMS * LANES):
        a = load(synapses, at + LANES) + load(synapses, at + 2 * LANES)
        b = load(synapses, at + 3 * LANES) + load(synapses, at + 4 * LANES)
        store(synapses, at, load(synapses, at) + (a + b))


@kernel
def touch_often(synapses, times):
    """``touch`` so many times: a call from Python costs more than a small network's traffic."""
    for _ in range(times):
        touch(synapses)
    return np.float32(0.0)
