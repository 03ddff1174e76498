"""Members in lock-step through torch on its CPU device, beside the compiled kernels, one rank on one core.

No GPU has run this. It says what the path that a GPU takes costs where there is none: 64 slots, members of generation
0, resets included.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from collections.abc import Callable
from typing import Any

from benchmarks.measuring import Table, in_turns, on_one_core, parser, write
from esd.config.experiment_files import read_experiment
from esd.config.settings import Config
from esd.config.tables import parse
from esd.episodes.rollout import Rollout
from esd.evolution.records import Records
from esd.evolution.state import make_strategy, start
from esd.problems.episodes import make_player

SLOTS = 64
EXPERIMENTS = ("cartpole", "pendulum", "halfcheetah", "ant")


def contender(config: Config, slots: int) -> Callable[[], float]:
    """Environment steps per second of as many members as there are slots."""
    config = dataclasses.replace(config, batch_members=slots, population=SLOTS)
    rollout = Rollout(config)
    algorithm = make_strategy(config, rollout.policy.layout)
    evaluator = make_player(rollout, algorithm, 1, 0)
    h = rollout.policy.initial_parameters(config.seed)
    state = start(algorithm, h, rollout.observation_size)

    def rate() -> float:
        records = Records(SLOTS, 0, rollout.observation_size)
        began = time.perf_counter()
        evaluator.fill(state, itertools.chain(range(SLOTS)), records)
        return records.steps / (time.perf_counter() - began)

    return rate


def compared(experiment: str, rounds: int, quick: bool) -> Table:
    """Both ways."""
    config = parse(read_experiment(experiment)[1], experiment)
    if quick:
        config = dataclasses.replace(config, env=dataclasses.replace(config.env, max_steps=5))
    contenders = {
        "esd, compiled": contender(config, 0),
        f"esd, lock-step, {SLOTS} slots": contender(config, SLOTS),
    }
    name = f"{config.env.id} with its {config.policy.kind} policy"
    return in_turns(name, "steps/s", contenders, rounds, more_is_better=True)


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """All experiments."""
    experiments = EXPERIMENTS[:1] if arguments.quick else EXPERIMENTS
    rounds = 1 if arguments.quick else arguments.rounds
    return {"tables": [compared(name, rounds, arguments.quick) for name in experiments]}


def main() -> None:
    """Measure and write."""
    command_line = parser("lockstep", __doc__)
    command_line.add_argument("--rounds", type=int, default=3, help="[%(default)s]")
    arguments = command_line.parse_args()
    on_one_core()
    write(arguments, "lockstep", measured(arguments))


if __name__ == "__main__":
    main()
