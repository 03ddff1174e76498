"""Policies and modules of users that go wrong in every way that was thought of."""

from __future__ import annotations

import decimal
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from esd.evolution.layout import Layout
from esd.policies.base import Interface
from esd.policies.compiled_step import c_step


class Linear:
    """A right one, from which the others differ in one thing each."""

    squashed: Any = False

    def __init__(self, interface: Interface) -> None:
        self.sizes = (interface.observation_size, interface.action_size)
        self.layout: Any = Layout({"w": self.sizes})

    def initial_parameters(self, seed: int) -> Any:
        return np.random.default_rng(seed).standard_normal(self.layout.size).astype(np.float32)

    def load(self, parameters: np.ndarray) -> None:
        self.w = parameters.reshape(self.sizes).copy()

    def reset(self, seed: int) -> None:
        pass

    def act(self, observation: np.ndarray) -> Any:
        return observation @ self.w


class Returns(Linear):
    """Returns whatever it is told to.

    Args:
        what: a Python expression; ``n`` is the number of outputs that are wanted.
    """

    def __init__(self, interface: Interface, what: str) -> None:
        super().__init__(interface)
        names = {"np": np, "torch": torch, "n": self.sizes[1], "decimal": decimal}
        self.what = lambda: eval(what, names)

    def act(self, observation: np.ndarray) -> Any:
        return self.what()


class Starts(Linear):
    """Has another h_0: a Python expression of the seed and |h|."""

    def __init__(self, interface: Interface, what: str) -> None:
        super().__init__(interface)
        self.what = what

    def initial_parameters(self, seed: int) -> Any:
        return eval(self.what, {"np": np, "seed": seed, "size": self.layout.size})


class Has(Linear):
    """Has other attributes."""

    def __init__(self, interface: Interface, name: str, what: str) -> None:
        super().__init__(interface)
        setattr(self, name, eval(what, {"Layout": Layout, "np": np}))


class OddError(BaseException):
    """Derives from no Exception, and can't say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Raises(Linear):
    """Raises in one of its methods, from a step on.

    Args:
        where: the method.
        what: the error, a Python expression.
        after: calls that go well before.
    """

    def __init__(self, interface: Interface, where: str, what: str, after: int = 0) -> None:
        super().__init__(interface)
        self.where, self.what, self.left = where, what, after
        self._maybe("__init__")

    def _maybe(self, where: str) -> None:
        if where == self.where:
            self.left -= 1
            if self.left < 0:
                raise eval(self.what, {"OddError": OddError})

    def initial_parameters(self, seed: int) -> Any:
        self._maybe("initial_parameters")
        return super().initial_parameters(seed)

    def load(self, parameters: np.ndarray) -> None:
        self._maybe("load")
        super().load(parameters)

    def reset(self, seed: int) -> None:
        self._maybe("reset")

    def act(self, observation: np.ndarray) -> Any:
        self._maybe("act")
        return super().act(observation)


class Module(nn.Module):
    """A linear module that returns what it is told to make of its outputs ``y`` (or of its observation ``x``)."""

    def __init__(self, observation_size: int, action_size: int, what: str = "y") -> None:
        super().__init__()
        self.linear = nn.Linear(observation_size, action_size)
        self.what = what

    def forward(self, observation: Tensor) -> Any:
        y = self.linear(observation)
        return eval(self.what, {"torch": torch, "x": observation, "y": y, "self": self})


class Frozen(Module):
    """Some of its parameters, or all, are frozen."""

    def __init__(self, observation_size: int, action_size: int, which: str = "") -> None:
        super().__init__(observation_size, action_size)
        self.scale = nn.Parameter(torch.rand(action_size))
        self.counts = nn.Parameter(torch.ones(2, dtype=torch.int64), requires_grad=False)
        for name, parameter in self.named_parameters():
            if name.startswith(which):
                parameter.requires_grad_(False)

    def forward(self, observation: Tensor) -> Tensor:
        return self.linear(observation) * self.scale


class Tied(nn.Module):
    """One matrix is used twice."""

    def __init__(self, observation_size: int, action_size: int) -> None:
        super().__init__()
        self.one = nn.Linear(observation_size, action_size)
        self.other = nn.Linear(observation_size, action_size)
        self.other.weight = self.one.weight

    def forward(self, observation: Tensor) -> Tensor:
        return self.one(observation) - 2.0 * self.other(observation)


class Differentiated(nn.Linear):
    """Needs a gradient, which nobody records."""

    def forward(self, observation: Tensor) -> Any:
        outputs = super().forward(observation)
        torch.autograd.grad(outputs.sum(), self.weight)
        return outputs


class Built(nn.Module):
    """Whatever layers an expression makes, of ``seen`` and ``n``."""

    def __init__(self, observation_size: int, action_size: int, what: str) -> None:
        super().__init__()
        names = {**globals(), "seen": observation_size, "n": action_size}
        self.layers = eval(what, names)

    def forward(self, observation: Tensor) -> Any:
        return self.layers(observation)


class Remembers(Module):
    """Keeps a state that nobody clears, as an LSTM without ``reset`` does."""

    def __init__(self, observation_size: int, action_size: int) -> None:
        super().__init__(observation_size, action_size)
        self.cell = nn.LSTMCell(observation_size, action_size)
        self.state: Any = None

    def forward(self, observation: Tensor) -> Tensor:
        self.state = self.cell(observation[None], self.state)
        return self.state[0][0]


class Keeps(Module):
    """Keeps what it saw for whoever wants to look at it, but doesn't depend on it."""

    def forward(self, observation: Tensor) -> Tensor:
        self.last = self.linear(observation)
        return self.last


class Rewrites(Module):
    """Changes something of its own in forward: a parameter or a buffer."""

    def __init__(self, observation_size: int, action_size: int, what: str) -> None:
        super().__init__(observation_size, action_size)
        self.register_buffer("calls", torch.zeros(1))
        self.change = what

    def forward(self, observation: Tensor) -> Tensor:
        if self.change == "parameter":
            self.linear.bias += 0.1
        elif self.change == "buffer":
            self.calls += 1
        else:
            self.calls = self.calls + 1
        return self.linear(observation)


class ClearsInPlace(Module):
    """A right module: its memory is a buffer that reset clears in place."""

    def __init__(self, observation_size: int, action_size: int) -> None:
        super().__init__(observation_size, action_size)
        self.register_buffer("memory", torch.zeros(observation_size))

    def reset(self) -> None:
        self.memory.zero_()

    def forward(self, observation: Tensor) -> Tensor:
        self.memory = 0.5 * self.memory + observation
        return self.linear(self.memory)


class KeptInLists(nn.Module):
    """Keeps layers, or parameters, where torch does not find them; one list names what is registered all the same."""

    def __init__(self, observation_size: int, action_size: int, what: str) -> None:
        super().__init__()
        self.linear = nn.Linear(observation_size, action_size)
        self.also = [self.linear, nn.Tanh(), 3]
        self.kept: object = []
        if what == "layers":
            self.kept = [nn.Linear(action_size, action_size)]
        elif what == "parameters":
            self.kept = {"scale": nn.Parameter(torch.ones(action_size))}

    def forward(self, observation: Tensor) -> Tensor:
        return self.linear(observation)


class AlwaysTraining(nn.Module):
    """Puts itself into training mode before every forward."""

    def __init__(self, observation_size: int, action_size: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(observation_size)
        self.linear = nn.Linear(observation_size, action_size)

    def forward(self, observation: Tensor) -> Tensor:
        self.train()
        return self.linear(self.norm(observation.expand(2, -1)))[0]


class Scribbles(Module):
    """Changes its observation in place."""

    def forward(self, observation: Tensor) -> Tensor:
        observation *= 2.0
        return self.linear(observation)


def make_module(interface: Interface) -> Module:
    """A function that makes a module: of no use here."""
    return Module(interface.observation_size, interface.action_size)


READY = Module(2, 2)


class Inside(Linear):
    """Shows its inside: two expressions; takes its parameters in pieces, and raises at the second."""

    def __init__(self, interface: Interface, activities: str, weights: str) -> None:
        super().__init__(interface)
        self.shown = activities, weights
        self.w = np.zeros(self.sizes, np.float32)

    def activities(self) -> Any:
        return eval(self.shown[0], {"np": np})

    def weights(self) -> Any:
        return eval(self.shown[1], {"np": np})

    def load_piece(self, start: int, values: np.ndarray) -> None:
        if start:
            raise IndexError("too far")


class ShortStep(Linear):
    """Its compiled step writes fewer outputs than actions need."""

    def __init__(self, interface: Interface) -> None:
        super().__init__(interface)
        memory = np.zeros(4, np.float32)
        self.network = c_step(1 << 20, memory, memory.copy(), np.zeros(2, np.float32))


@dataclass(frozen=True)
class PickySettings:
    """Checks itself."""

    keep: float = 0.5

    def __post_init__(self) -> None:
        if self.keep > 1:
            raise ValueError("keep is a share")


class Picky(Linear):
    """Its settings raise what they like."""

    settings = PickySettings

    def __init__(self, interface: Interface, settings: PickySettings) -> None:
        super().__init__(interface)
