"""Evaluations until a test function of 20 coordinates is down to 1e-6, by every algorithm and by pycma.

A run ends at 200,000 evaluations, or when the distribution is too small to move anything; then its best value is what
counts. There are 15 seeds, but only 5 where none of the first 5 reaches the target. Start, sigma and population of a
function are the same for all: (3, …, 3) and 2, Rosenbrock's (0, …, 0) and 0.5; 12 members, pycma's default, and 100 on
Rastrigin's function. openai_es begins with a tenth of that sigma, pgpe with a quarter. Their learning rates (for Adam
and ClipUp) fall by a factor of 0.9 per 1,000 evaluations, the best of four schedules tried on the sphere; the others'
are constant.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measuring import parser, write
from esd.evolution.algorithm import Algorithm
from esd.evolution.cr_fm_nes import CRFMNES
from esd.evolution.noise import Noise
from esd.evolution.openai_es import Strategy
from esd.evolution.optimizers import make_optimizer
from esd.evolution.pgpe import PGPE
from esd.evolution.schedules import Decay
from esd.evolution.snes import SNES

Float64s = npt.NDArray[np.float64]

DIMENSION = 20
TARGET = 1e-6
EVALUATIONS = 200_000
SEEDS = 15
FIRST = 5  # seeds; if none of them reaches the target, the others are not tried
TOO_SMALL = (
    1e-7  # a standard deviation, or a learning rate, that hardly moves a float32 of the order of 1
)
RATE_FACTOR = 0.9
ROTATION = np.linalg.qr(np.random.default_rng(7).normal(size=(DIMENSION, DIMENSION)))[0]


@dataclass(frozen=True)
class Function:
    """A function to minimize: its minimum is 0.

    Attributes:
        cost: of rows, float64 [n, 20] → [n].
        start: every coordinate's.
        sigma: at first.
        population: members per generation.
    """

    cost: Callable[[Float64s], Float64s]
    start: float
    sigma: float
    population: int


def _sphere(x: Float64s) -> Float64s:
    total: Float64s = (x * x).sum(axis=1)
    return total


def _rosenbrock(x: Float64s) -> Float64s:
    a, b = x[:, :-1], x[:, 1:]
    total: Float64s = (100.0 * (b - a * a) ** 2 + (1.0 - a) ** 2).sum(axis=1)
    return total


def _rastrigin(x: Float64s) -> Float64s:
    total: Float64s = (x * x - 10.0 * np.cos(2.0 * math.pi * x) + 10.0).sum(axis=1)
    return total


def _ellipsoid(condition: float) -> Callable[[Float64s], Float64s]:
    weights = condition ** (np.arange(DIMENSION) / (DIMENSION - 1))

    def cost(x: Float64s) -> Float64s:
        total: Float64s = (weights * (x @ ROTATION.T) ** 2).sum(axis=1)
        return total

    return cost


FUNCTIONS = {
    "sphere": Function(_sphere, 3.0, 2.0, 12),
    "Rosenbrock": Function(_rosenbrock, 0.0, 0.5, 12),
    "rotated ellipsoid, condition 10²": Function(_ellipsoid(1e2), 3.0, 2.0, 12),
    "rotated ellipsoid, condition 10⁶": Function(_ellipsoid(1e6), 3.0, 2.0, 12),
    "Rastrigin": Function(_rastrigin, 3.0, 2.0, 100),
}


def _openai_es(f: Function, seed: int) -> Algorithm:
    factor = RATE_FACTOR ** (f.population / 1000)
    return Strategy(
        Noise("gaussian", seed),
        f.population,
        Decay(0.1 * f.sigma, factor, 1e-6),
        Decay(0.025 * f.sigma, factor),
        make_optimizer("adam"),
    )


def _pgpe(f: Function, seed: int) -> Algorithm:
    rate = Decay(0.125 * f.sigma, RATE_FACTOR ** (f.population / 1000))
    return PGPE(
        Noise("gaussian", seed), f.population, 0.25 * f.sigma, rate, make_optimizer("clipup")
    )


ALGORITHMS: dict[str, Callable[[Function, int], Algorithm]] = {
    "cr_fm_nes": lambda f, seed: CRFMNES(Noise("gaussian", seed), f.population, f.sigma),
    "snes": lambda f, seed: SNES(Noise("gaussian", seed), f.population, f.sigma),
    "pgpe": _pgpe,
    "openai_es": _openai_es,
}


@dataclass(frozen=True)
class Outcome:
    """How one run ended.

    Attributes:
        evaluations: until the target; None if it was not reached.
        best: the smallest value seen.
    """

    evaluations: int | None
    best: float


def run(algorithm: Algorithm, function: Function, limit: int) -> Outcome:
    """Ask and tell until the target, the limit or the end of all movement."""
    state = algorithm.start(np.full(DIMENSION, function.start, np.float32))
    members = np.empty((algorithm.population, DIMENSION), np.float32)
    best = math.inf
    for evaluations in range(algorithm.population, limit + 1, algorithm.population):
        for member, out in enumerate(members):
            algorithm.ask(state, member, out)
        costs = function.cost(members.astype(np.float64))
        best = min(best, float(np.nanmin(costs)))
        if best <= TARGET:
            return Outcome(evaluations, best)
        with np.errstate(over="ignore", invalid="ignore"):
            state = algorithm.tell(state, -costs)
        if not min(state.sigma_range[1], state.scalars["learning_rate"]) > TOO_SMALL:
            break
    return Outcome(None, best)


def run_pycma(function: Function, seed: int, limit: int) -> Outcome:
    """The same by pycma, with its own ends of hopeless runs."""
    import cma

    options = {
        "seed": seed + 1, "verbose": -9, "ftarget": TARGET, "maxfevals": limit,
        "popsize": function.population,
    }  # fmt: skip
    es = cma.CMAEvolutionStrategy(np.full(DIMENSION, function.start), function.sigma, options)
    while not es.stop():
        members = es.ask()
        es.tell(members, function.cost(np.array(members)).tolist())
    best = float(es.result.fbest)
    return Outcome(int(es.result.evaluations) if best <= TARGET else None, best)


def play(who: str, name: str, seed: int, limit: int) -> Outcome:
    """One run of one contender."""
    function = FUNCTIONS[name]
    if who == "pycma":
        return run_pycma(function, seed, limit)
    return run(ALGORITHMS[who](function, seed), function, limit)


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """Medians over seeds; of evaluations if most runs reached the target."""
    counts = sorted(o.evaluations if o.evaluations is not None else math.inf for o in outcomes)
    median = counts[len(counts) // 2]
    return {
        "reached": sum(o.evaluations is not None for o in outcomes),
        "evaluations": None if math.isinf(median) else median,
        "best": float(np.median([o.best for o in outcomes])),
        "outcomes": outcomes,
    }


def main() -> None:
    """Run all, and write the medians."""
    arguments = parser("algorithms", __doc__).parse_args()
    seeds, limit = (1, 1_200) if arguments.quick else (SEEDS, EVALUATIONS)
    pycma = ["pycma"] if importlib.util.find_spec("cma") is not None else []
    tables: dict[str, dict[str, Any]] = {}
    with ProcessPoolExecutor() as pool:
        for name, who in ((name, who) for name in FUNCTIONS for who in [*pycma, *ALGORITHMS]):
            outcomes: list[Outcome] = []
            for some in (range(min(FIRST, seeds)), range(FIRST, seeds)):
                if outcomes and all(o.evaluations is None for o in outcomes):
                    break
                futures = [pool.submit(play, who, name, seed, limit) for seed in some]
                outcomes += [future.result() for future in futures]
            tables.setdefault(name, {})[who] = found = summary(outcomes)
            print(
                f"{name}, {who}: {found['evaluations']} evaluations, reached {found['reached']} of {len(outcomes)}, "
                f"best {found['best']:.2g}",
                file=sys.stderr, flush=True,
            )  # fmt: skip
    settings = {"dimension": DIMENSION, "target": TARGET, "limit": limit, "seeds": seeds}
    write(arguments, "algorithms", {**settings, "functions": tables})


if __name__ == "__main__":
    main()
