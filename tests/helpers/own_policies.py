"""Policies of a user's own that declare all that a policy can: settings, a compiled step, a lock-step builder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import carray, cfunc, types

from esd.config.fields import POSITIVE, setting
from esd.evolution.layout import Layout
from esd.policies.base import Interface
from esd.policies.compiled_step import CStep, act, c_step
from esd.policies.kind import PolicyKind


@dataclass(frozen=True)
class LeakySettings:
    """Of ``Leaky`` and its like."""

    leak: float = setting(0.5, "share of a trace that is left after a step", **POSITIVE)
    hidden: tuple[int, ...] = setting((3,), "not used")
    mode: str = setting("plain", "plain or signed", choices=("plain", "signed"))


class Leaky:
    """A linear policy of a leaky trace of what it has seen; trace and outputs are summed in order."""

    settings = LeakySettings
    squashed = False

    def __init__(self, interface: Interface, settings: LeakySettings, gain: float = 1.0) -> None:
        self.own, self.gain = settings, np.float32(gain)
        self.leak = np.float32(settings.leak)
        self.layout = Layout({"w": (interface.observation_size, interface.action_size)})
        self.trace = np.zeros(interface.observation_size, np.float32)
        self.outputs = np.zeros(interface.action_size, np.float32)

    def initial_parameters(self, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal(self.layout.size).astype(np.float32)

    def load(self, parameters: np.ndarray) -> None:
        self.w = self.layout.unpack(parameters)["w"] * self.gain

    def reset(self, seed: int) -> None:
        self.trace[:] = 0.0

    def act(self, observation: np.ndarray) -> np.ndarray:
        self.trace[:] = self.trace * self.leak + observation
        self.outputs[:] = 0.0
        for x, row in zip(self.trace, self.w, strict=True):
            self.outputs += x * row
        return self.outputs

    @staticmethod
    def lockstep(
        policy: Leaky, settings: LeakySettings, interface: Interface, slots: int, device: Any
    ) -> LeakyTogether:
        return LeakyTogether(policy, settings, slots)


class LeakyTogether:
    """``Leaky`` for many members at once, by numpy."""

    same_bits = True

    def __init__(self, policy: Leaky, settings: LeakySettings, slots: int) -> None:
        self.leak, self.layout, self.gain = np.float32(settings.leak), policy.layout, policy.gain
        self.w = np.zeros((slots, *policy.layout.shapes["w"]), np.float32)
        self.trace = np.zeros((slots, policy.trace.size), np.float32)

    def load(self, slots: Sequence[int], parameters: Any) -> None:
        for slot, h in zip(slots, parameters.cpu().numpy(), strict=True):
            self.w[slot] = self.layout.unpack(np.ascontiguousarray(h))["w"] * self.gain

    def reset(self, slot: int, seed: int) -> None:
        self.trace[slot] = 0.0

    def act(self, observations: np.ndarray) -> np.ndarray:
        self.trace = self.trace * self.leak + observations
        outputs = np.zeros((len(self.w), self.w.shape[2]), np.float32)
        for i in range(self.trace.shape[1]):
            outputs += self.trace[:, i, None] * self.w[:, i]
        return outputs


class LeakyByName(Leaky):
    """Its lock-step builder is imported when it is used."""

    lockstep = "tests.helpers.own_policies:leaky_together"


def leaky_together(
    policy: Leaky, settings: LeakySettings, interface: Interface, slots: int, device: Any
) -> LeakyTogether:
    """A lock-step builder."""
    return LeakyTogether(policy, settings, slots)


class WrongBuilder(Leaky):
    """Its lock-step builder isn't there."""

    lockstep = "tests.helpers.own_policies:nothing"


def c_function(seen: int, actions: int) -> Any:
    """The step of ``CompiledLeaky`` for these sizes; ``parameters`` are the leak and then w."""
    floats = types.CPointer(types.float32)

    @cfunc(types.int64(floats, floats, floats, floats))
    def step(observation, parameters, state, outputs):  # type: ignore[no-untyped-def]
        x, p = carray(observation, seen), carray(parameters, 1 + seen * actions)
        trace, out = carray(state, seen), carray(outputs, actions)
        for j in range(actions):
            out[j] = np.float32(0.0)
        for i in range(seen):
            trace[i] = trace[i] * p[0] + x[i]
            for j in range(actions):
                out[j] += trace[i] * p[1 + i * actions + j]
        return 0

    return step


class CompiledLeaky(Leaky):
    """``Leaky`` with a compiled step."""

    def __init__(self, interface: Interface, settings: LeakySettings, gain: float = 1.0) -> None:
        super().__init__(interface, settings, gain)
        self.parameters = np.zeros(1 + self.layout.size, np.float32)
        self.step = c_function(interface.observation_size, interface.action_size)
        self._network = c_step(self.step.address, self.parameters, self.trace, self.outputs)

    @property
    def network(self) -> CStep:
        return self._network

    def load(self, parameters: np.ndarray) -> None:
        self.parameters[0] = self.leak
        self.parameters[1:] = parameters * self.gain

    def act(self, observation: np.ndarray) -> np.ndarray:
        act(observation, self.network, self.outputs)
        return self.outputs


class NotAClassOfSettings(Leaky):
    """Its ``settings`` are no dataclass, and so none that it declares."""

    settings = {"leak": 0.5}  # type: ignore[assignment]  # noqa: RUF012

    def __init__(self, interface: Interface) -> None:
        super().__init__(interface, LeakySettings())


@dataclass(frozen=True)
class UnreadableSettings:
    """No config can hold a complex number."""

    z: complex = 1j


class Unreadable(Leaky):
    """Declares what can't be read."""

    settings = UnreadableSettings  # type: ignore[assignment]


LEAKY = PolicyKind(LeakySettings, Leaky, lockstep=leaky_together, same_bits=True)
NOTHING = math.pi
