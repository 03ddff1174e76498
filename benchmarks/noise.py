"""The update: rebuilding and summing a generation's noise, on one core, beside others' ways of having it.

200 distinct ε of 456,640 coordinates (the coefficients of the Hebbian CarRacing network; a mirrored population of
400), in three tables: the weighted sum of the noise alone; a strategy's whole ``tell``; ``ask`` for all members and
``tell``.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.measuring import Table, in_turns, on_one_core, parser, seconds, write
from esd.evolution.algorithm import EvolutionState
from esd.evolution.layout import Layout
from esd.evolution.low_rank import make_noise
from esd.evolution.noise import NOISE_KINDS
from esd.evolution.openai_es import Strategy
from esd.evolution.optimizers import make_optimizer
from esd.evolution.schedules import Decay
from esd.kernels import kernel
from esd.policies.base import Interface
from esd.policies.hebbian import HebbianPolicy, HebbianSettings

Float32s = npt.NDArray[np.float32]
Work = Callable[[], None]

PAIRS, COORDINATES = 200, 456_640
TABLE_SIZE = 250_000_000  # of OpenAI's starter code: 1 GB
BATCH = 500  # rows that it multiplies at once
SIGMA, ALPHA = 0.1, 0.05
LOW_RANK = "esd, low_rank"
GOAL = 1 / 8  # of the time of Gaussian noise


def arrays(coordinates: int) -> Layout:
    """What lies in h: the CarRacing network's coefficients, or a square matrix."""
    if coordinates != COORDINATES:
        side = int(coordinates**0.5)
        return Layout({"w": (side, side), "rest": (coordinates - side * side,)})
    interface = Interface(648, 3, True)
    return HebbianPolicy(interface, HebbianSettings(hidden=(128, 64))).layout


@kernel
def _sum_of_slices(table, offsets, weights, out):  # type: ignore[no-untyped-def]
    """Sum weights[p]·table[offsets[p]:] into out, row by row: fastest in long runs through memory (measured)."""
    for j in range(out.size):
        out[j] = np.float32(0.0)
    for p in range(weights.size):
        weight = weights[p]
        row = table[offsets[p] : offsets[p] + out.size]
        for j in range(out.size):
            out[j] += weight * row[j]


def noise_sums(pairs: int, coordinates: int, table_size: int) -> dict[str, Work]:
    """Σ w_p ε_p, from noise as each one has it."""
    import torch

    torch.set_num_threads(1)
    weights = np.linspace(-1, 1, pairs, dtype=np.float32)
    out = np.empty(coordinates, np.float32)

    def rebuilt(kind: str) -> Work:
        source = make_noise(kind, 0, 1, arrays(coordinates))
        return lambda: source.accumulate(weights, 0, out)

    generator = np.random.default_rng(0)
    table = np.empty(table_size, np.float32)
    generator.standard_normal(out=table, dtype=np.float32)
    offsets = generator.integers(0, table_size - coordinates, pairs)

    batch = np.empty((min(BATCH, pairs), coordinates), np.float32)

    def dot_anew() -> None:
        out[:] = 0
        for start in range(0, pairs, BATCH):
            rows = [table[o : o + coordinates] for o in offsets[start : start + BATCH]]
            np.add(out, np.dot(weights[start : start + BATCH], np.array(rows)), out=out)

    def dot() -> None:
        out[:] = 0
        for start in range(0, pairs, BATCH):
            rows = [table[o : o + coordinates] for o in offsets[start : start + BATCH]]
            stacked = np.stack(rows, out=batch[: len(rows)])  # in memory that is there already
            np.add(out, np.dot(weights[start : start + BATCH], stacked), out=out)

    def compiled() -> None:
        _sum_of_slices(table, offsets, weights, out)

    drawn, total = torch.empty(coordinates), torch.empty(coordinates)

    def torch_draws() -> None:
        for _ in range(pairs):
            drawn.normal_()

    def torch_sums() -> None:
        total.zero_()
        for weight in weights.tolist():
            total.add_(drawn.normal_(), alpha=weight)

    epsilon = np.empty(coordinates, np.float32)

    def numpy_draws() -> None:
        for _ in range(pairs):
            generator.standard_normal(out=epsilon, dtype=np.float32)

    def numpy_sums() -> None:
        out[:] = 0
        for weight in weights:
            generator.standard_normal(out=epsilon, dtype=np.float32)
            np.add(out, np.multiply(epsilon, weight, out=epsilon), out=out)

    return {
        **{f"esd, {kind}": rebuilt(kind) for kind in NOISE_KINDS},
        LOW_RANK: rebuilt("low_rank"),
        "noise table, batched np.dot": dot_anew,
        "noise table, np.dot, batch memory kept": dot,
        "noise table, compiled loop": compiled,
        "torch.randn, drawn only": torch_draws,
        "torch.randn, drawn and summed": torch_sums,
        "numpy standard_normal, drawn only": numpy_draws,
        "numpy standard_normal, drawn and summed": numpy_sums,
    }


class _Peer(Protocol):
    """A strategy with a population of 2·pairs and fitnesses that stay the same."""

    def tell(self) -> None: ...

    def ask_and_tell(self) -> None: ...


class _Esd:
    """OpenAI-ES with mirrored pairs and centered ranks, as esd has it."""

    def __init__(
        self, pairs: int, coordinates: int, optimizer: str, noise: str = "gaussian"
    ) -> None:
        self._strategy = Strategy(
            make_noise(noise, 0, 1, arrays(coordinates)),
            2 * pairs,
            Decay(SIGMA),
            Decay(ALPHA),
            make_optimizer(optimizer),
        )
        self._state: EvolutionState = self._strategy.start(np.zeros(coordinates, np.float32))
        self._fitness = np.random.default_rng(0).standard_normal(2 * pairs)
        self._member = np.empty(coordinates, np.float32)

    def tell(self) -> None:
        self._strategy.tell(self._state, self._fitness)

    def ask_and_tell(self) -> None:
        for member in range(self._fitness.size):
            self._strategy.ask(self._state, member, self._member)
        self.tell()


class _Evosax:
    """evosax's Open_ES (mirrored, centered ranks, SGD), compiled by jax."""

    def __init__(self, pairs: int, coordinates: int) -> None:
        import jax
        import jax.numpy as jnp
        import optax
        from evosax.algorithms import Open_ES

        self._jax = jax
        self._strategy = Open_ES(
            population_size=2 * pairs,
            solution=jnp.zeros(coordinates),
            optimizer=optax.sgd(ALPHA),
            std_schedule=optax.constant_schedule(SIGMA),
        )
        self._key = jax.random.PRNGKey(0)
        self._parameters = self._strategy.default_params
        self._state = self._strategy.init(self._key, jnp.zeros(coordinates), self._parameters)
        self._fitness = jnp.asarray(np.random.default_rng(0).standard_normal(2 * pairs))
        self._members = self._asked()

    def _asked(self) -> Any:
        members, _ = self._strategy.ask(self._key, self._state, self._parameters)
        return self._jax.block_until_ready(members)

    def _told(self, members: Any) -> None:
        told = self._strategy.tell(self._key, members, self._fitness, self._state, self._parameters)
        self._jax.block_until_ready(told)

    def tell(self) -> None:
        self._told(self._members)

    def ask_and_tell(self) -> None:
        self._told(self._asked())


class _Evotorch:
    """evotorch's functional PGPE (mirrored, centered ranks, SGD, σ left alone)."""

    def __init__(self, pairs: int, coordinates: int) -> None:
        import torch
        from evotorch.algorithms import functional

        self._functional, self._size = functional, 2 * pairs
        self._state = functional.pgpe(
            center_init=torch.zeros(coordinates),
            center_learning_rate=ALPHA,
            stdev_learning_rate=0.0,
            stdev_init=SIGMA,
            objective_sense="max",
            optimizer="sgd",
        )
        generator = np.random.default_rng(0)
        self._fitness = torch.as_tensor(generator.standard_normal(2 * pairs), dtype=torch.float32)
        self._members = functional.pgpe_ask(self._state, popsize=self._size)

    def tell(self) -> None:
        self._functional.pgpe_tell(self._state, self._members, self._fitness)

    def ask_and_tell(self) -> None:
        members = self._functional.pgpe_ask(self._state, popsize=self._size)
        self._functional.pgpe_tell(self._state, members, self._fitness)


def installed(*modules: str) -> bool:
    """Whether all of a peer's modules can be imported."""
    return all(importlib.util.find_spec(module) is not None for module in modules)


def strategies(pairs: int, coordinates: int) -> dict[str, _Peer]:
    """The strategies that are installed, ours first."""
    found: dict[str, _Peer] = {
        "esd, sgd": _Esd(pairs, coordinates, "sgd"),
        LOW_RANK: _Esd(pairs, coordinates, "sgd", "low_rank"),
        "esd, adam": _Esd(pairs, coordinates, "adam"),
    }
    if installed("evosax", "jax"):
        found["evosax Open_ES"] = _Evosax(pairs, coordinates)
    if installed("evotorch"):
        found["evotorch PGPE"] = _Evotorch(pairs, coordinates)
    return found


def measured(arguments: argparse.Namespace) -> list[Table]:
    """All three tables."""
    pairs, coordinates, table_size = PAIRS, COORDINATES, arguments.table
    if arguments.quick:
        pairs, coordinates, table_size = 4, 10_000, 1_000_000
    peers = strategies(pairs, coordinates)
    work = f"{pairs} ε × {coordinates:,}"
    works: dict[str, dict[str, Work]] = {
        f"the weighted sum of {work}": noise_sums(pairs, coordinates, table_size),
        f"tell, {work}": {who: peer.tell for who, peer in peers.items()},
        f"ask for {2 * pairs} members and tell, {work}": {
            who: peer.ask_and_tell for who, peer in peers.items()
        },
    }

    def milliseconds(do: Work) -> Callable[[], float]:
        """Of the second of two calls: a virtual machine gives freed memory back, and the first call waits for it."""

        def second() -> float:
            do()
            return 1e3 * seconds(do)

        return second

    return [
        in_turns(
            name,
            "ms",
            {who: milliseconds(do) for who, do in part.items()},
            arguments.rounds,
            notes={LOW_RANK: f"goal: at most {GOAL} ×"} if name.startswith("the") else {},
        )
        for name, part in works.items()
    ]


def main() -> None:
    """Measure and write."""
    command_line = parser("noise", __doc__)
    command_line.add_argument("--rounds", type=int, default=4, help="[%(default)s]")
    command_line.add_argument(
        "--table", type=int, default=TABLE_SIZE, help="numbers in the noise table [%(default)s]"
    )
    arguments = command_line.parse_args()
    on_one_core()
    write(arguments, "noise", {"tables": measured(arguments)})


if __name__ == "__main__":
    main()
