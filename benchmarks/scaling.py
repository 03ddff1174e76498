"""How a member's perturbation and the whole update grow with the population and with |h|, on one core.

The ranks of a node make a slice of the update each; so that many ranks take 1/that of it, as long as memory keeps up.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from benchmarks.measuring import on_one_core, parser, seconds, write
from esd.evolution.noise import Noise
from esd.evolution.openai_es import Strategy
from esd.evolution.optimizers import make_optimizer
from esd.evolution.schedules import Decay

POPULATIONS = (64, 128, 256, 512, 1024, 2048, 4096)
SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
FIXED_SIZE, FIXED_POPULATION = 100_000, 64


def point(population: int, size: int, rounds: int) -> dict[str, Any]:
    """Time of one member's perturbation and of one update, medians and quartiles over rounds, ms."""
    strategy = Strategy(
        Noise("gaussian", 0), population, Decay(0.1), Decay(0.05), make_optimizer("adam")
    )
    state = strategy.start(np.zeros(size, np.float32))
    fitness = np.random.default_rng(0).standard_normal(population)
    member = np.empty(size, np.float32)

    def told() -> float:
        return 1e3 * seconds(lambda: strategy.tell(state, fitness))

    def asked() -> float:
        return 1e3 * seconds(lambda: strategy.ask(state, 1, member))

    told(), asked()
    taken = np.array([(asked(), told()) for _ in range(rounds)])
    ask, tell = np.quantile(taken, (0.25, 0.5, 0.75), axis=0).T
    return {
        "population": population,
        "coordinates": size,
        "ask_ms": ask.tolist(),
        "tell_ms": tell.tolist(),
        "millions_per_second": population / 2 * size / tell[1] / 1e3,
    }


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """Two lines of points."""
    populations, sizes, rounds = list(POPULATIONS), list(SIZES), arguments.rounds
    if arguments.quick:
        populations, sizes, rounds = populations[:2], sizes[:2], 1
    return {
        "over_population": [point(n, FIXED_SIZE, rounds) for n in populations],
        "over_coordinates": [point(FIXED_POPULATION, size, rounds) for size in sizes],
    }


def main() -> None:
    """Measure and write."""
    command_line = parser("scaling", __doc__)
    command_line.add_argument("--rounds", type=int, default=5, help="[%(default)s]")
    arguments = command_line.parse_args()
    on_one_core()
    write(arguments, "scaling", measured(arguments))


if __name__ == "__main__":
    main()
