"""The compiled steps of all policies under one name, so that one kernel plays the episodes of any of them.

What a policy works on is a ``plastic.Network``, or a memory and the network that reads from it, whose type says which
step it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba.core import types
from numba.extending import overload

from esd.kernels import gru, kernel, plastic, reformer

Memory = reformer.Reformer | gru.Gru
Network = plastic.Network | tuple[Memory, plastic.Network]


def forward(observation: Any, network: Any) -> npt.NDArray[np.float32]:
    """Make a step; returns the outputs and what lies behind them, a view of the network's memory."""
    raise NotImplementedError("only kernels call it")


@overload(forward)
def _forward(observation, network):
    if isinstance(network, types.NamedTuple):
        return _perceptron
    return {reformer.Reformer: _reformer, gru.Gru: _gru}[network[0].instance_class]


def _perceptron(observation, network):
    synapses, memory, settings, ends = network
    now = plastic.step(observation, synapses, memory, settings)
    return memory[ends[now] :]


def _reformer(observation, network):
    memory, head = network
    reformer.think(observation, memory)
    synapses, outputs, settings, ends = head
    now = plastic.step(memory.scratch, synapses, outputs, settings)
    return outputs[ends[now] :]


def _gru(observation, network):
    memory, head = network
    gru.recur(observation, memory)
    synapses, outputs, settings, ends = head
    now = plastic.step(memory.scratch, synapses, outputs, settings)
    return outputs[ends[now] :]


@kernel
def act(observation, network, outputs):
    """Make a step; sets outputs, float32 [action_size]."""
    outputs[:] = forward(observation, network)[: outputs.size]
