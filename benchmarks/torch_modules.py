"""A user's torch.nn.Module: 64 members on one core, one by one as before, and as they are evaluated by default.

In every environment, in turns, in one process:

- “esd, by default”: all members at a time.
- “esd, one by one”: ``batch_members = 1``, the way of a module that torch can't evaluate many members of.
- “esd, one by one, stepped in Python”: the same with ``env.compiled = "never"``, the only way there was.
- “limit: environments alone”: steps of 64 environments with outputs that nobody computes.
- “limit: module alone”: the module's outputs for 64 members, without environments.

Resets, perturbations and records are included, but for the limits. Episodes of members near h_0 last 15 steps in
CartPole and end one after the other, so that most of a batch idles; those of members that have learned last longer.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.measuring import Table, in_turns, on_one_core, parser, write
from esd.config.settings import Config
from esd.config.tables import parse
from esd.episodes.rollout import Rollout
from esd.evolution.records import Records
from esd.evolution.state import RunState, make_strategy, start
from esd.lockstep.evaluator import Lockstep
from esd.lockstep.worlds import CompiledWorlds
from esd.problems.episodes import make_player

MEMBERS = 64
GENERATIONS = 30  # after which members have learned


class Module(torch.nn.Module):
    """A network as anyone would write it."""

    def __init__(self, observation_size: int, action_size: int) -> None:
        """Make its layers."""
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(observation_size, 64),
            torch.nn.Tanh(),
            torch.nn.Linear(64, action_size),
        )

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Outputs [action_size] of an observation [observation_size]."""
        outputs: torch.Tensor = self.layers(observation)
        return outputs


def config_of(environment: str, max_steps: int = 0) -> Config:
    """64 members with such a module."""
    table = {
        "population": MEMBERS,
        "policy": {"kind": "benchmarks.torch_modules:Module"},
        "env": {"id": environment, "max_steps": max_steps},
        "es": {"sigma": 0.1, "learning_rate": 0.1},
    }
    return parse(table, environment)


def prepared(config: Config) -> tuple[Any, RunState]:
    """A player, and h_0."""
    rollout = Rollout(config)
    strategy = make_strategy(config, rollout.policy.layout)
    h = rollout.policy.initial_parameters(config.seed)
    state = start(strategy, h, rollout.observation_size)
    return make_player(rollout, strategy, 1, 0), state


def filled(player: Any, state: RunState) -> Records:
    """A generation."""
    records = Records(MEMBERS, 0, 0)
    player.fill(state, iter(range(MEMBERS)), records)
    return records


def learned(config: Config, generations: int) -> RunState:
    """What is there after some generations."""
    player, state = prepared(config)
    strategy = make_strategy(config, Rollout(config).policy.layout)
    for _ in range(generations):
        fitnesses = filled(player, state).returns[:, 0]
        ranks = np.argsort(np.argsort(fitnesses)) / (MEMBERS - 1) - 0.5
        gradient = np.zeros_like(state.h)
        for member, rank in enumerate(ranks):
            perturbed = strategy.ask(state.evolution, member, np.empty_like(state.h))
            gradient += np.float32(rank) * (perturbed - state.h)
        h = state.h + np.float32(0.5) * gradient
        evolution = dataclasses.replace(state.evolution, h=h, generation=state.generation + 1)
        state = dataclasses.replace(state, evolution=evolution)
    return state


def rate_of(player: Any, state: RunState) -> Callable[[], float]:
    """Environment steps per second of a generation."""

    def rate() -> float:
        began = time.perf_counter()
        records = filled(player, state)
        return records.steps / (time.perf_counter() - began)

    return rate


def limits(player: Any, state: RunState, calls: int) -> dict[str, Callable[[], float]]:
    """Steps per second of the environments alone, and of the module alone."""
    assert isinstance(player, Lockstep)
    worlds, policy = player._worlds, player._policy
    assert isinstance(worlds, CompiledWorlds)
    filled(player, state)
    outputs = policy.act(worlds.observations)

    def environments() -> float:
        began = time.perf_counter()
        for _ in range(calls):
            worlds._slots.playing[...] = 1
            worlds._slots.step(worlds._first, worlds._scale, outputs)
        return calls * MEMBERS / (time.perf_counter() - began)

    def module() -> float:
        began = time.perf_counter()
        for _ in range(calls):
            policy.act(worlds.observations)
        return calls * MEMBERS / (time.perf_counter() - began)

    return {"limit: environments alone": environments, "limit: module alone": module}


def compared(config: Config, generations: int, rounds: int) -> Table:
    """One environment, at a state."""
    state = learned(config, generations)
    in_python = dataclasses.replace(config.env, compiled="never")
    ways = {
        "esd, by default": config,
        "esd, one by one": dataclasses.replace(config, batch_members=1),
        "esd, one by one, stepped in Python": dataclasses.replace(
            config, batch_members=1, env=in_python
        ),
    }
    players = {name: prepared(way)[0] for name, way in ways.items()}
    contenders = {name: rate_of(player, state) for name, player in players.items()}
    contenders |= limits(players["esd, by default"], state, 50)
    steps = filled(players["esd, by default"], state).steps // MEMBERS
    name = f"{config.env.id}, {MEMBERS} members after {generations} generations, {steps} steps each"
    return in_turns(name, "steps/s", contenders, rounds, more_is_better=True)


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """All environments and states."""
    rounds = 1 if arguments.quick else arguments.rounds
    cases = [("CartPole-v1", 0, 0), ("CartPole-v1", 0, GENERATIONS), ("HalfCheetah-v5", 200, 0)]
    if arguments.quick:
        cases = [("CartPole-v1", 5, 0)]
    return {
        "tables": [compared(config_of(name, most), after, rounds) for name, most, after in cases]
    }


def main() -> None:
    """Measure and write."""
    command_line = parser("torch_modules", __doc__)
    command_line.add_argument("--rounds", type=int, default=5, help="[%(default)s]")
    arguments = command_line.parse_args()
    on_one_core()
    write(arguments, "torch_modules", measured(arguments))


if __name__ == "__main__":
    main()
