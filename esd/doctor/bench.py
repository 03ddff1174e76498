"""Measurements that tell what a machine can do with esd: each beside its limit or its rival, in one run.

Machines are shared and noisy, so a figure and what it is compared with are taken in turns, and the ratio is the median
over rounds with its quartiles.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from esd.config.settings import LOW_RANK, Config
from esd.doctor.turns import in_turns, quartiles
from esd.episodes.making import make_environment
from esd.episodes.rollout import Rollout
from esd.evolution.low_rank import LowRankNoise
from esd.evolution.noise import NOISE_KINDS, Noise
from esd.evolution.openai_es import Strategy
from esd.evolution.optimizers import make_optimizer
from esd.evolution.records import Records, Status
from esd.evolution.schedules import Decay
from esd.evolution.state import make_strategy, start
from esd.kernels import bandwidth
from esd.kernels.lanes import aligned_zeros
from esd.mpi.comm import Alone, Communicator
from esd.mpi.team import Team
from esd.policies.base import Interface
from esd.policies.hebbian import HebbianPolicy, HebbianSettings
from esd.problems.episodes import make_player
from esd.training.node_state import NodeState
from esd.training.plan import on_a_device

NETWORKS = {"Ant": (28, (128, 64), 8), "CarRacing": (648, (128, 64), 3)}
NOISE_COORDINATES = 456_640  # the CarRacing network's coefficients
NOISE_PAIRS = 20
UPDATE_COORDINATES = 2_000_000


@dataclass(frozen=True)
class Measurement:
    """One figure and what it is compared with.

    Attributes:
        name: what was measured.
        value: median over rounds.
        unit: of value and reference.
        reference_name: what it is compared with; empty if with nothing.
        reference: its median; None without.
        ratio: median over rounds of value/reference; for rates more is better, for times less.
        quartiles: of that ratio (of the value, without a reference).
    """

    name: str
    value: float
    unit: str
    reference_name: str = ""
    reference: float | None = None
    ratio: float | None = None
    quartiles: tuple[float, float] = (0.0, 0.0)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def compared(
    name: str,
    unit: str,
    ours: Callable[[], float],
    reference_name: str,
    reference: Callable[[], float],
    rounds: int,
) -> Measurement:
    """Take two figures in turns."""
    pairs = in_turns([ours, reference], rounds)
    ratios = pairs[:, 0] / pairs[:, 1]
    return Measurement(
        name,
        float(np.median(pairs[:, 0])),
        unit,
        reference_name,
        float(np.median(pairs[:, 1])),
        float(np.median(ratios)),
        quartiles(ratios),
    )


def kernel(rounds: int) -> Iterator[Measurement]:
    """The plastic step (update, normalize, forward) beside the memory traffic that it can't do without."""
    repeats = 200
    for name, (inputs, hidden, outputs) in NETWORKS.items():
        policy = _network(name)
        policy.load(policy.initial_parameters(0))
        policy.reset(0)
        observation = np.random.default_rng(0).standard_normal(inputs).astype(np.float32)
        connections = sum(a * b for a, b in _layers(inputs, hidden, outputs))
        # 24 bytes per connection: w, A′, B′, C′, D′ read and w written; no padding
        memory = aligned_zeros(-(-connections // 16) * 80)

        def step(policy: HebbianPolicy = policy, x: npt.NDArray[np.float32] = observation) -> float:
            return _microseconds(lambda: [policy.act(x) for _ in range(repeats)], repeats)

        def floor(memory: npt.NDArray[np.float32] = memory) -> float:
            return _microseconds(lambda: bandwidth.touch_often(memory, repeats), repeats)

        yield compared(
            f"plastic step, {name} network, {connections:,} weights", "µs", step,
            "memory traffic alone, 24 B per weight", floor, rounds,
        )  # fmt: skip


def _network(name: str) -> HebbianPolicy:
    inputs, hidden, outputs = NETWORKS[name]
    return HebbianPolicy(Interface(inputs, outputs, True), HebbianSettings(hidden=hidden))


def _layers(inputs: int, hidden: tuple[int, ...], outputs: int) -> list[tuple[int, int]]:
    sizes = (inputs, *hidden, outputs)
    return list(itertools.pairwise(sizes))


def _microseconds(work: Callable[[], object], repeats: int) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) / repeats * 1e6


def noise(rounds: int) -> Iterator[Measurement]:
    """Rebuilding and accumulating perturbations, one thread, beside drawing as many normals with another library."""
    rival, draw = _normals()
    weights = np.linspace(-1, 1, NOISE_PAIRS, dtype=np.float32)
    out = np.empty(NOISE_COORDINATES, np.float32)
    samples = NOISE_PAIRS * NOISE_COORDINATES / 1e6

    def drawn() -> float:
        began = time.perf_counter()
        for _ in range(NOISE_PAIRS):
            draw()
        return samples / (time.perf_counter() - began)

    noises = {kind: Noise(kind, 0) for kind in NOISE_KINDS}
    noises[LOW_RANK] = LowRankNoise(LOW_RANK, 0, 1, _network("CarRacing").layout)
    for kind, source_of_kind in noises.items():

        def rebuilt(source: Noise = source_of_kind) -> float:
            began = time.perf_counter()
            source.accumulate(weights, 0, out)
            return samples / (time.perf_counter() - began)

        yield compared(
            f"{kind} noise, rebuilt and accumulated", "M/s", rebuilt,
            f"{rival}, drawn only", drawn, rounds,
        )  # fmt: skip


def _normals() -> tuple[str, Callable[[], object]]:
    """What draws normals fast, by name, and a call that draws as many as there are coordinates."""
    try:
        import torch
    except ModuleNotFoundError:
        out = np.empty(NOISE_COORDINATES, np.float32)
        generator = np.random.Generator(np.random.SFC64(0))  # numpy's fastest
        return "numpy's standard_normal", lambda: generator.standard_normal(
            dtype=np.float32, out=out
        )
    torch.set_num_threads(1)
    return "torch.randn", torch.empty(NOISE_COORDINATES).normal_


def rollout(config: Config, seconds: float, rounds: int) -> Iterator[Measurement]:
    """Episodes of an experiment's members beside the bare environment with random actions; resets included."""
    with (
        contextlib.closing(_Episodes(config)) as play,
        contextlib.closing(make_environment(config.env)) as env,
    ):
        env.action_space.seed(0)
        actions = [env.action_space.sample() for _ in range(1000)]
        yield compared(
            f"{config.env.id} with its {config.policy.kind} policy, one rank", "steps/s",
            lambda: play.rate(seconds),
            "the environment alone, random actions",
            lambda: bare_rate(env, actions, seconds), rounds,
        )  # fmt: skip


class _Episodes:
    """This rank's members, evaluated by whatever player a training would use."""

    def __init__(self, config: Config, ranks: int = 1, rank: int = 0) -> None:
        """Prepare.

        Args:
            config: of the training.
            ranks: how many share the members.
            rank: which of them this one is.
        """
        config = on_a_device(config)
        self._rollout = rollout = Rollout(config)
        algorithm = make_strategy(config, rollout.policy.layout)
        self._player = make_player(rollout, algorithm, ranks, rank)
        h = rollout.policy.initial_parameters(config.seed)
        self._state = start(algorithm, h, rollout.observation_size)
        self._population, self._own = config.population, range(rank, config.population, ranks)

    def rate(self, seconds: float) -> float:
        """Environment steps per second, generation by generation; the last one ends when the time is over."""
        steps, began = 0, time.perf_counter()
        rollout, state = self._rollout, self._state
        while time.perf_counter() - began < seconds:
            records = Records(self._population, 0, rollout.observation_size, len(rollout.variants))
            in_time = (row for row in self._own if time.perf_counter() - began < seconds)
            self._player.fill(state, in_time, records)
            steps += records.steps
            evolution = state.evolution  # other episodes of the same members
            evolution = dataclasses.replace(evolution, generation=evolution.generation + 1)
            state = self._state = dataclasses.replace(state, evolution=evolution)
        return steps / (time.perf_counter() - began)

    def close(self) -> None:
        """Close the player and the environment."""
        try:
            self._player.close()
        finally:
            self._rollout.close()


def bare_rate(env: gymnasium.Env[Any, Any], actions: list[Any], seconds: float) -> float:
    """Steps per second of an environment that is given one action after the other, resets included."""
    env.reset(seed=0)
    steps, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        steps += len(actions)
    return steps / elapsed


def ranks(comm: Communicator, config: Config, seconds: float, rounds: int) -> Iterator[Measurement]:
    """All ranks at once beside rank 0 with the machine to itself, and what one exchange of records takes."""
    with contextlib.closing(_Episodes(config, comm.size, comm.rank)) as episodes:
        episodes.rate(0.1)

        def together() -> float:
            return _sum(comm, episodes.rate(seconds))

        def alone() -> float:
            return _sum(comm, episodes.rate(seconds) if comm.rank == 0 else 0.0)

        yield compared(
            f"{config.env.id} on {comm.size} ranks", "steps/s", together, "rank 0 alone", alone, rounds,
        )  # fmt: skip
    yield from _exchange(comm, config.population, 20 * rounds)
    yield from _update(comm, rounds)


def _exchange(comm: Communicator, population: int, rounds: int) -> Iterator[Measurement]:
    """What one exchange of records takes when all ranks are there."""
    table = Records(population, 0, 0).table.reshape(-1)
    times = []
    for _ in range(rounds):
        comm.sum(np.zeros(1, np.uint64), "getting in step")
        began = time.perf_counter()
        comm.sum(table, "measuring the exchange")
        times.append((time.perf_counter() - began) * 1e6)
    yield Measurement(
        f"exchange of {population} records ({table.nbytes:,} B)",
        float(np.median(times)), "µs", quartiles=quartiles(times),
    )  # fmt: skip


def _update(comm: Communicator, rounds: int) -> Iterator[Measurement]:
    """The update of h by Adam: all ranks of a node their slices, beside rank 0 all of it."""
    strategy = Strategy(
        Noise("gaussian", 0),
        2 * NOISE_PAIRS,
        Decay(0.1),
        Decay(0.01),
        make_optimizer("adam"),
    )
    h = np.zeros(UPDATE_COORDINATES, np.float32)
    records = Records(2 * NOISE_PAIRS, 0, 0)
    for row in range(records.members):
        records.write(row, returns=[row**1.5], steps=1, episodes=1, status=Status.DONE)
    with comm.node() as node:
        shared = NodeState(Team(node), strategy, start(strategy, h, 0))
        own = NodeState(Team(Alone()), strategy, start(strategy, h, 0)) if comm.rank == 0 else None

        def together() -> float:
            comm.sum(np.zeros(1, np.uint64), "getting in step")
            return _microseconds(lambda: shared.advance(records), 1000)

        def alone() -> float:
            comm.sum(np.zeros(1, np.uint64), "getting in step")
            return _microseconds(lambda: own.advance(records), 1000) if own else 1.0

        yield compared(
            f"update of {UPDATE_COORDINATES:,} coordinates by {2 * NOISE_PAIRS} members, {node.size} ranks",
            "ms", together, "rank 0 alone", alone, rounds,
        )  # fmt: skip


def _sum(comm: Communicator, rate: float) -> float:
    """Σ of the ranks' rates, as whole steps per second."""
    total = np.array([int(rate)], np.uint64)
    comm.sum(total, "adding rates")
    return float(total[0])
