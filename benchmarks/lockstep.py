"""Members in lock-step through torch, beside the compiled kernels: on torch's CPU device, or on a GPU.

    python -m benchmarks.lockstep
    python -m benchmarks.lockstep --device cuda

One rank. Without ``--device`` it keeps to one core, and says what the path that a GPU takes costs where there is none.
Members of generation 0, resets and perturbations included; every member plays one short episode. On a GPU the number
of slots grows, and a network too large for a core's caches is added.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from benchmarks.measuring import Table, in_turns, on_one_core, parser, write
from esd.config.experiment_files import read_experiment
from esd.config.settings import Config
from esd.config.tables import apply_settings, parse
from esd.episodes.rollout import Rollout
from esd.evolution.records import Records
from esd.evolution.state import make_strategy, start
from esd.problems.episodes import make_player

SLOTS = 64
ON_A_GPU = (256, 1024)  # slots
ON_A_GPU_MUJOCO = (256,)  # each slot has an environment of its own, which take time to make
EXPERIMENTS = ("cartpole", "pendulum", "halfcheetah", "ant")
LARGE = ("policy.hidden=[512, 512]",)
MODULE = ("policy.kind=benchmarks.torch_modules:Module",)
STEPS = 200  # of an episode on a GPU, where so many slots play one each


def contender(config: Config, slots: int, members: int = SLOTS) -> Callable[[], float]:
    """Environment steps per second of so many members, so many at a time."""
    config = dataclasses.replace(config, batch_members=slots, population=members)
    rollout = Rollout(config)
    algorithm = make_strategy(config, rollout.policy.layout)
    evaluator = make_player(rollout, algorithm, 1, 0)
    h = rollout.policy.initial_parameters(config.seed)
    state = start(algorithm, h, rollout.observation_size)

    def rate() -> float:
        records = Records(members, 0, rollout.observation_size)
        began = time.perf_counter()
        evaluator.fill(state, itertools.chain(range(members)), records)
        return records.steps / (time.perf_counter() - began)

    return rate


def compared(config: Config, name: str, rounds: int) -> Table:
    """Both ways on the CPU."""
    contenders = {
        "esd, compiled": contender(config, 0),
        f"esd, lock-step, {SLOTS} slots": contender(config, SLOTS),
    }
    return in_turns(name, "steps/s", contenders, rounds, more_is_better=True)


def compared_on_a_gpu(config: Config, name: str, rounds: int, slots: Sequence[int]) -> Table:
    """A core's compiled kernels, and the GPU with more and more slots."""
    on_gpu = dataclasses.replace(config, device="cuda")
    contenders = {
        "one core, compiled": contender(config, 0),
        **{f"GPU, {n:,} slots": contender(on_gpu, n, n) for n in slots},
    }
    return in_turns(name, "steps/s", contenders, rounds, more_is_better=True)


def work(arguments: argparse.Namespace) -> Iterator[tuple[str, Config]]:
    """What is played: a name, and how."""
    cases: list[tuple[str, tuple[str, ...]]] = [(name, ()) for name in EXPERIMENTS]
    on_gpu = arguments.device == "cuda"
    if on_gpu:
        cases[3:3] = [("halfcheetah", LARGE), ("halfcheetah", MODULE)]
    for experiment, settings in cases[:1] if arguments.quick else cases:
        table = apply_settings(read_experiment(experiment)[1], settings)
        if settings == MODULE:
            table["policy"] = {"kind": table["policy"]["kind"]}
        config = parse(table, experiment)
        most = 5 if arguments.quick else STEPS if on_gpu else config.env.max_steps
        config = dataclasses.replace(config, env=dataclasses.replace(config.env, max_steps=most))
        policy = "torch module" if settings == MODULE else f"{config.policy.kind} policy"
        sizes = " of 512 and 512 units" if settings == LARGE else ""
        yield f"{config.env.id} with its {policy}{sizes}", config


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """All experiments."""
    rounds = 1 if arguments.quick else arguments.rounds
    if arguments.device == "cpu":
        return {"tables": [compared(config, name, rounds) for name, config in work(arguments)]}
    tables = []
    for name, config in work(arguments):
        slots = ON_A_GPU_MUJOCO if config.env.id.startswith(("HalfCheetah", "Ant")) else ON_A_GPU
        tables.append(
            compared_on_a_gpu(config, name, rounds, slots[:1] if arguments.quick else slots)
        )
        print(tables[-1], file=sys.stderr, flush=True)
    return {"gpu": torch.cuda.get_device_name(), "tables": tables}


def main() -> None:
    """Measure and write."""
    command_line = parser("lockstep", __doc__)
    command_line.add_argument("--rounds", type=int, default=3, help="[%(default)s]")
    command_line.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="[%(default)s]"
    )
    arguments = command_line.parse_args()
    on_one_core()
    name = "lockstep" if arguments.device == "cpu" else "lockstep --device cuda"
    write(arguments, name, measured(arguments))


if __name__ == "__main__":
    main()
