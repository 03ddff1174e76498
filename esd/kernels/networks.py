"""The compiled steps of all policies under one name, so that one kernel plays the episodes of any of them.

What a policy works on is a named tuple, or a memory of the episode and the network that reads from it; its type says
which step it is. A kind with a memory of its own has a file here, in which ``step_of`` marks the memory's step. A
policy of a user's own gives the address of its step: what is called by its address is no part of the kernels, which are
compiled once and kept on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from numba.core import types
from numba.extending import intrinsic, overload

from esd.kernels import Kernel, kernel, plastic
from esd.kernels.c_calls import call

Float32s = npt.NDArray[np.float32]


class CStep(NamedTuple):
    """A step that is a C function; ``policies.compiled_step.c_step`` makes one.

    ``int64_t step(const float *observation, const float *parameters, float *state, float *outputs)``; what it returns
    is of no meaning.

    Attributes:
        address: int64 [1].
        parameters: float32 [n].
        state: float32 [n], an episode's own.
        outputs: float32 [action_size]; written.
    """

    address: npt.NDArray[np.int64]
    parameters: Float32s
    state: Float32s
    outputs: Float32s


class Memory(Protocol):
    """A named tuple that a memory's step works on."""

    @property
    def scratch(self) -> Float32s:
        """Begins with what the step gives to the head."""


Network = plastic.Network | CStep | tuple[Memory, plastic.Network]


def forward(observation: Any, network: Any) -> Float32s:
    """Make a step; returns the outputs and what lies behind them, a view of the network's memory."""
    raise NotImplementedError("only kernels call it")


def has_step(network: object) -> bool:
    """Whether there is a compiled step for it."""
    first = network[0] if type(network) is tuple and network else network
    return type(first) in _STEPS


@overload(forward)
def _forward(observation, network):
    first = network if isinstance(network, types.NamedTuple) else network[0]
    return _STEPS[first.instance_class]


@intrinsic
def _call_step(typingctx, address, observation, parameters, state, outputs):
    """Call a C function that makes a step."""
    return types.int64(types.intp, observation, parameters, state, outputs), call


def _c_step(observation, network):
    address, parameters, state, outputs = network
    _call_step(address[0], observation, parameters, state, outputs)
    return outputs


def _perceptron(observation, network):
    synapses, memory, settings, ends = network
    now = plastic.step(observation, synapses, memory, settings)
    return memory[ends[now] :]


def _with_head(think):
    """The step of a memory, which leaves what it gives at the beginning of its scratch, and of the head behind it."""

    def step(observation, network):
        memory, head = network
        think(observation, memory)
        synapses, outputs, settings, ends = head
        now = plastic.step(memory.scratch, synapses, outputs, settings)
        return outputs[ends[now] :]

    return step


# by the type of what a policy works on, or of its memory
_STEPS: dict[Any, Any] = {plastic.Network: _perceptron, CStep: _c_step}


def step_of(memory: type[Memory]) -> Callable[[Kernel], Kernel]:
    """Mark the inlined function (observation, memory) that is a memory's step.

    Only in files beside this one: a change of any of them makes the kernels on disk stale, and of no others.

    Args:
        memory: the named tuple that it works on.
    """
    assert memory.__module__.startswith("esd.kernels."), memory

    def mark(think: Kernel) -> Kernel:
        _STEPS[memory] = _with_head(think)
        return think

    return mark


@kernel
def act(observation, network, outputs):
    """Make a step; sets outputs, float32 [action_size]."""
    outputs[:] = forward(observation, network)[: outputs.size]
