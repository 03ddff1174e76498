"""Whole jobs under mpirun on two ranks: from launch to the first generation, memory of a rank, and how ranks scale.

“launch” is the time from starting mpirun until the first generation of a tiny CartPole run is in its metrics, with
kernels compiled before and with an empty cache. “memory” is what a rank holds of its own (RssAnon) and sees of the
node's shared memory (RssShmem) while it evaluates, for two sizes of a static network with Adam. “ranks” is what
``esd bench ranks`` says. “train” is the rate of a whole ``esd train`` on one rank, from its metrics, behind the first
generation (which loads kernels) and with all that is written, also without compiled steps
(``env.compiled = "never"``), beside a bare loop of the same environment.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import Table, child_environment, in_turns, mpirun, parser, write
from benchmarks.recording import ACTIONS
from esd.config.experiment_files import read_experiment
from esd.config.settings import Config, Wrapper
from esd.config.tables import parse
from esd.doctor.bench import bare_rate
from esd.episodes.making import make_environment
from esd.episodes.rollout import Rollout
from esd.evolution.state import make_strategy

RANKS = 2
TINY = ("generations=1", "population=2", "env.max_steps=5", "run.center_every=0")
BARE = (
    "policy.kind=static", "es.optimizer=adam", "env.max_steps=5", "run.center_every=0",
    "run.checkpoint_every=100000", "generations=100000", "population=16",
)  # fmt: skip
# to the end, or as many generations as make some seconds
TRAININGS: dict[str, tuple[str, ...]] = {
    "cartpole": (),
    "halfcheetah": ("generations=3", "population=32", "run.center_every=0"),
    "ant": ("generations=3", "population=8", "run.center_every=0"),
    "cartpole-hidden": (),
}
# what a compiled world is measured beside
ORIGINALS = {"cartpole-hidden": "CartPole-v1"}
QUICK_TRAININGS: dict[str, tuple[str, ...]] = {"cartpole": ("generations=2", "population=4")}
NETWORKS = {
    10_000: "[100,92]",
    10_000_000: "[3160,3160]",
}  # |h|, about, and hidden units on CartPole


def esd(*words: str) -> list[str]:
    """The words that start esd on the ranks."""
    return [*mpirun(RANKS), sys.executable, "-m", "esd", *words]


def settings(*changes: str) -> list[str]:
    """As options of the command line."""
    return [f"--set={change}" for change in changes]


def launched(cache: str) -> float:
    """Seconds from launch to the first generation."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder) / "run" / "metrics.jsonl"
        began = time.monotonic()
        job = subprocess.Popen(
            esd("train", "--run", str(metrics.parent), *settings(*TINY)),
            env={**child_environment(), "NUMBA_CACHE_DIR": cache},
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not (metrics.exists() and metrics.stat().st_size):
            if job.poll() not in (None, 0):
                raise SystemExit(f"esd train ended with {job.returncode}")
            time.sleep(0.005)
        took = time.monotonic() - began
        job.wait()
    return took


def launches(rounds: int) -> dict[str, Any]:
    """With an empty cache, and then as often with what that has left; without rounds once, with what is compiled."""
    with tempfile.TemporaryDirectory() as cache:
        cold = launched(cache if rounds else "")
        warm = np.quantile([launched(cache) for _ in range(rounds)] or [cold], (0.25, 0.5, 0.75))
    return {"cold_seconds": cold, "warm_seconds": warm.tolist()}


def _held(pid: int) -> dict[str, int]:
    """A process' resident memory in bytes, its own and shared."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {name: 1024 * int(found[name].split()[0]) for name in ("RssAnon", "RssShmem")}


def memory(hidden: str) -> dict[str, Any]:
    """Largest over the ranks, each its median over ten looks while members are evaluated."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder) / "run" / "metrics.jsonl"
        job = subprocess.Popen(
            esd("train", "--run", "run", *settings(*BARE, f"policy.hidden={hidden}")),
            env=child_environment(),
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not (metrics.exists() and len(metrics.read_text().splitlines()) > 2):
                if job.poll() is not None:
                    raise SystemExit(f"esd train ended with {job.returncode}")
                time.sleep(0.1)
            ranks = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
            looks = []
            for _ in range(10):
                looks.append([[*_held(int(rank)).values()] for rank in ranks])
                time.sleep(0.1)
        finally:
            job.kill()
            job.wait()
    own, shared = np.median(looks, axis=0).max(axis=0)
    return {"own_bytes": own, "shared_bytes": shared}


def ranks(experiment: str, quick: bool) -> dict[str, Any]:
    """What ``esd bench ranks`` measures."""
    words = esd("bench", "ranks", "--json", "--experiment", experiment)
    if quick:
        words += ["--seconds", "0.05", "--rounds", "1"]
    told = subprocess.run(
        words, env=child_environment(), capture_output=True, text=True, check=True
    )
    measured: dict[str, Any] = json.loads(told.stdout[told.stdout.index("{") :])
    return measured


def trained(experiment: str, words: tuple[str, ...]) -> float:
    """Environment steps per second of a run on one rank, behind its first generation."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "esd", "train", experiment, "--run", "run", *settings(*words)],
            env=child_environment(),
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    return float((last["env_steps"] - first["env_steps"]) / (last["seconds"] - first["seconds"]))


def actions_of_members(config: Config, members: int) -> list[Any]:
    """What the first members of a run do, one episode after the other."""
    recorded = (Wrapper("benchmarks.recording:Recorded"),)
    wrappers = (*config.env.wrappers, *recorded)
    config = dataclasses.replace(config, env=dataclasses.replace(config.env, wrappers=wrappers))
    rollout = Rollout(config)
    strategy = make_strategy(config, rollout.policy.layout)
    state = strategy.start(rollout.policy.initial_parameters(config.seed))
    ACTIONS.clear()
    for member in range(members):
        rollout.load(strategy.ask_pieces(state, member))
        rollout.play(rollout.member_seeds(0, member))
    rollout.close()
    return list(ACTIONS)


def trainings(quick: bool) -> list[Table]:
    """Each experiment beside its bare environment."""
    tables = []
    seconds = 0.1 if quick else 2.0
    for experiment, words in (QUICK_TRAININGS if quick else TRAININGS).items():
        config = parse(read_experiment(experiment)[1], experiment)
        original = ORIGINALS.get(experiment, config.env.id)
        env = make_environment(dataclasses.replace(config.env, id=original))
        env.action_space.seed(0)
        random = [env.action_space.sample() for _ in range(1000)]
        own = actions_of_members(config, 1 if quick else 4)
        contenders: dict[str, Callable[[], float]] = {
            "esd train, 1 rank": lambda name=experiment, w=words: trained(name, w),  # type: ignore[misc]
            "esd train, 1 rank, stepped in Python": lambda name=experiment, w=words: trained(  # type: ignore[misc]
                name, (*w, "env.compiled=never")
            ),
            f"bare {original}, random actions": lambda e=env, a=random: bare_rate(e, a, seconds),  # type: ignore[misc]
            f"bare {original}, members' actions": lambda e=env, a=own: bare_rate(e, a, seconds),  # type: ignore[misc]
        }
        name = f"{experiment}, {config.policy.kind} network"
        rounds = 1 if quick else 3
        tables.append(in_turns(name, "env-steps/s", contenders, rounds, more_is_better=True))
    return tables


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """All three."""
    experiments = ("cartpole",) if arguments.quick else ("cartpole", "ant")
    sizes = list(NETWORKS)[: 1 if arguments.quick else 2]
    tables = trainings(arguments.quick)  # first: whatever is not compiled yet takes memory, too
    return {
        "ranks": RANKS,
        "tables": tables,
        "launch": launches(0 if arguments.quick else 5),
        "memory": [{"coordinates": size, **memory(NETWORKS[size])} for size in sizes],
        "scaling": [
            m for name in experiments for m in ranks(name, arguments.quick)["measurements"]
        ],
    }


def main() -> None:
    """Measure and write."""
    arguments = parser("jobs", __doc__).parse_args()
    write(arguments, "jobs", measured(arguments))


if __name__ == "__main__":
    main()
