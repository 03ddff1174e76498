"""Policies that break law 1 in many ways, and some that look as if they did."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from esd.evolution.layout import Layout
from esd.policies.base import Interface

GENERATOR = np.random.default_rng()


class ImpurePolicy:
    """A linear policy that is impure in the way that it is told.

    Args:
        how: "memory" (an attribute that reset leaves), "load" (half of the parameters stay the former member's),
            "kept best" (the largest parameters ever loaded play), "class" (a counter in the class), "module" (a
            generator in the module), "unseeded" (a generator of its own), "constructor" (random weights of the
            constructor's), "time", "initial" (an h_0 without a seed), "global initial" (an h_0 of the global
            generator), "loads" ("load", but from the hundredth member on), "late" (a memory that shows after 100
            episodes' worth of steps), "episodes" (every fifth episode), "rare" (every sixtieth), or pure: "none",
            "global" (the global generator, which is seeded), "view" (returns what it overwrites later), "keeps"
            (keeps what it has seen, and clears it).
    """

    squashed = False
    calls = 0

    def __init__(self, interface: Interface, how: str = "none") -> None:
        self.how = how
        self.layout = Layout({"w": (interface.observation_size, interface.action_size)})
        self.w = np.zeros(self.layout.shapes["w"], np.float32)
        self.outputs = np.zeros(interface.action_size, np.float32)
        self.total, self.steps, self.episodes, self.loads = np.float32(0.0), 0, 0, 0
        self.generator = np.random.default_rng()
        self.bias = np.float32(self.generator.random() if how == "constructor" else 0.0)
        self.seen: list[Any] = []

    def initial_parameters(self, seed: int) -> np.ndarray:
        if self.how == "global initial":
            return np.random.standard_normal(self.layout.size).astype(np.float32)  # noqa: NPY002
        generator = np.random.default_rng(None if self.how == "initial" else seed)
        return generator.standard_normal(self.layout.size).astype(np.float32)

    def load(self, parameters: np.ndarray) -> None:
        w = self.layout.unpack(parameters)["w"]
        self.loads += 1
        if self.how == "load" or (self.how == "loads" and self.loads > 100):
            self.w[:, 0] = w[:, 0]
            self.w[:, 1:] = np.where(self.w[:, 1:] == 0.0, w[:, 1:], self.w[:, 1:])
        elif self.how == "kept best":
            self.w = np.maximum(self.w, w)
        else:
            self.w = w.copy()

    def reset(self, seed: int) -> None:
        self.episodes += 1
        if self.how not in ("memory",):
            self.total = np.float32(0.0)
        self.seen.clear()

    def act(self, observation: np.ndarray) -> np.ndarray:
        how = self.how
        self.steps += 1
        ImpurePolicy.calls += 1
        self.total += np.float32(observation.sum())
        self.outputs[:] = observation @ self.w + self.bias
        if how == "view":
            return self.outputs
        self.seen.append(observation.copy())
        noise = {
            "memory": lambda: self.total,
            "class": lambda: ImpurePolicy.calls,
            "module": GENERATOR.random,
            "unseeded": self.generator.random,
            "time": lambda: time.perf_counter() % 1.0,
            "late": lambda: self.steps > 300,
            "episodes": lambda: self.episodes % 5 == 0,
            "rare": lambda: self.episodes % 60 == 0,
            "global": np.random.random,
            "keeps": lambda: len(self.seen),
        }.get(how, lambda: 0.0)()
        return self.outputs + np.float32(noise)


class LongMemory(torch.nn.Module):
    """An LSTM as one writes it without thinking of episodes: nothing clears its state."""

    def __init__(self, observation_size: int, action_size: int) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(observation_size, 4)
        self.head = torch.nn.Linear(4, action_size)
        self.state: Any = None

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        hidden, self.state = self.lstm(observation[None], self.state)
        return self.head(hidden[0])


class ClearedMemory(LongMemory):
    """The same with a ``reset``."""

    def reset(self) -> None:
        self.state = None


class HalfClearedMemory(LongMemory):
    """Its reset forgets one of two."""

    def reset(self) -> None:
        if self.state is not None:
            self.state = (torch.zeros_like(self.state[0]), self.state[1])


class RandomBuffer(torch.nn.Module):
    """A fixed random projection that the constructor draws from numpy without a seed."""

    def __init__(self, observation_size: int, action_size: int) -> None:
        super().__init__()
        drawn = np.random.default_rng().standard_normal((observation_size, 4))
        self.register_buffer("projection", torch.tensor(drawn, dtype=torch.float32))
        self.head = torch.nn.Linear(4, action_size)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return self.head(observation @ self.projection)
