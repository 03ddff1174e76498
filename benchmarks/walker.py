"""Walker2d-v5 with PGPE and ClipUp: esd beside evotorch, after the same processor time and after the same steps.

    python -m benchmarks.walker runs/walker --seconds 480 --seeds 0 1 2
    python -m benchmarks.learning                          # the table and the figure of docs/results.md

Trains the groups in ``GROUPS``, each run in one process. They take turns, some seconds of processor time each, so that
whatever else the machine does slows all of them. Processor time is what is compared: on a shared machine wall time also
measures the other programs. Then the centers are evaluated in the plain environment, alive bonus included, by one loop
for all groups. What is found is kept in benchmarks/results/learning/walker-clipup.json.

Runs that have had their seconds are used as they are. Of those that were interrupted, esd's go on, and evotorch's begin
anew. With --evaluate nothing is trained: so many seconds of the runs that are there are compared. evotorch is optional:
pip install 'esd-mpi[benchmarks]'.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measuring import RESULTS, child_environment, machine
from benchmarks.noise import installed
from benchmarks.plots import OURS, THEIRS, as_svg, save
from benchmarks.tables.markdown import table

FILE = RESULTS / "learning" / "walker-clipup.json"
ENVIRONMENT = "Walker2d-v5"
MAX_SPEED = 0.015
FIRST_EPISODE = 1_000_000  # seeds of test episodes; no training uses them
CURVE_POINTS, CURVE_EPISODES = 10, 20
COLORS = (OURS, "#c1666b", THEIRS, "#6b8f3c")  # of the groups, in their order

Act = Callable[[npt.NDArray[np.float64]], Any]


@dataclass(frozen=True)
class Point:
    """A center in training: after so many updates, from so many steps, in so many seconds of its process."""

    generation: int
    env_steps: int
    cpu_seconds: float
    seconds: float


class Clock:
    """Processor and wall time of this process, without what it waits for its turn; goes on after a last point."""

    def __init__(self, last: Point | None) -> None:
        self._cpu = time.process_time() - (last.cpu_seconds if last else 0.0)
        self._wall = time.perf_counter() - (last.seconds if last else 0.0)

    def skip(self, seconds: float) -> None:
        """Don't count so many seconds of wall time."""
        self._wall += seconds

    def point(self, generation: int, env_steps: int) -> Point:
        """A center as it is now."""
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        return Point(generation, env_steps, round(cpu, 3), round(wall, 3))


@dataclass(frozen=True)
class Group:
    """A way to train.

    Attributes:
        name: in tables.
        label: in the names of its runs' folders.
        train: yields its centers, for ever, from a seed and the folder that the run is in.
        policy: of a center: how it starts an episode and how it acts, from the folder and a generation.
        population: in words.
        needs: modules that have to be installed.
        resumes: whether an interrupted run goes on.
    """

    name: str
    label: str
    train: Callable[[int, Path, Clock], Iterator[Point]]
    policy: Callable[[Path, int], tuple[Callable[[int], None], Act]]
    population: str
    needs: tuple[str, ...] = ()
    resumes: bool = False


def esd_trainer(experiment: str, **settings: Any) -> Callable[[int, Path, Clock], Iterator[Point]]:
    """``esd train EXPERIMENT``, whose center isn't evaluated meanwhile: evotorch's isn't either."""

    def train(seed: int, folder: Path, clock: Clock) -> Iterator[Point]:
        import esd

        own = {"run.center_every": 0, "run.checkpoint_every": 50, **settings}
        for report in esd.generations(
            experiment, run=folder / "run", seed=seed, generations=1_000_000, settings=own
        ):
            yield clock.point(report.generation + 1, int(report.env_steps))

    return train


def esd_policy(folder: Path, generation: int) -> tuple[Callable[[int], None], Act]:
    """The center of a run, rebuilt from its journal."""
    from esd.api.policy import Policy
    from esd.run.folder import RunFolder

    run = RunFolder(folder / "run")
    config = run.config()
    policy = Policy(config, run.state_at(generation, config, run.journal(config)))
    return policy.reset, policy.act


def evotorch_trainer(**population: Any) -> Callable[[int, Path, Clock], Iterator[Point]]:
    """GymNE and PGPE of evotorch, with the settings of its example of ClipUp's Walker2d, in this process."""

    def train(seed: int, folder: Path, clock: Clock) -> Iterator[Point]:
        import gymnasium
        import torch
        from evotorch.algorithms import PGPE
        from evotorch.neuroevolution import GymNE
        from evotorch.tools import set_default_logger_config

        def seeded() -> gymnasium.Env[Any, Any]:
            env = gymnasium.make(ENVIRONMENT)
            env.reset(seed=seed)
            return env

        torch.set_num_threads(1)
        torch.manual_seed(seed)
        set_default_logger_config(logger_level=40)  # errors only
        problem = GymNE(
            seeded,
            "Linear(obs_length, act_length)",
            observation_normalization=True,
            decrease_rewards_by=1.0,  # the alive bonus
            num_actors=1,  # this process
        )
        problem.manual_seed(seed)
        searcher = PGPE(
            problem,
            center_learning_rate=0.75 * MAX_SPEED,
            stdev_learning_rate=0.1,
            radius_init=15 * MAX_SPEED,
            optimizer="clipup",
            optimizer_config={"max_speed": MAX_SPEED},
            **population,
        )
        updates = 0
        while True:
            # a step updates the center and then evaluates members around it, from which this center hasn't learned
            before = clock.point(updates, problem.interaction_count)
            searcher.step()
            statistics_of = problem.get_observation_stats()
            np.savez(
                folder / f"{updates}.npz",
                center=searcher.status["center"].numpy(),
                mean=statistics_of.mean,
                deviation=statistics_of.stdev,
            )
            yield before
            updates += 1

    return train


def evotorch_policy(folder: Path, generation: int) -> tuple[Callable[[int], None], Act]:
    """A linear policy from a file of ``evotorch_trainer``: the weights [actions, observations], then the biases."""
    with np.load(folder / f"{generation}.npz") as file:
        center, mean, deviation = (file[name] for name in ("center", "mean", "deviation"))
    outputs = center.size // (mean.size + 1)
    weights, bias = center[:-outputs].reshape(outputs, mean.size), center[-outputs:]

    def act(observation: npt.NDArray[np.float64]) -> Any:
        normalized = (observation.astype(np.float32) - mean) / deviation
        return np.clip(weights @ normalized + bias, -1.0, 1.0)

    return lambda seed: None, act


_EVOTORCH: dict[str, Any] = {
    "policy": evotorch_policy,
    "needs": ("evotorch",),
}
GROUPS = {
    group.label: group
    for group in (
        Group("esd, linear", "esd", esd_trainer("walker-clipup"), esd_policy, "100", resumes=True),
        Group(
            "evotorch, linear",
            "evotorch",
            evotorch_trainer(popsize=100),
            population="100",
            **_EVOTORCH,
        ),
        Group(
            "evotorch, its example",
            "evotorch-example",
            evotorch_trainer(popsize=100, popsize_max=800, num_interactions=75_000),
            population="100 to 800",
            **_EVOTORCH,
        ),
        Group(
            "esd, Hebbian",
            "esd-hebbian",
            esd_trainer("walker-clipup-hebbian"),
            esd_policy,
            "100",
            resumes=True,
        ),
    )
}


def points_of(folder: Path) -> list[Point]:
    """What was written of a run; a line that was cut off is not read."""
    file = folder / "points.jsonl"
    lines = file.read_text("utf-8").splitlines(keepends=True) if file.exists() else []
    return [Point(**json.loads(line)) for line in lines if line.endswith("\n")]


def work(group: Group, seed: int, folder: Path) -> None:
    """Be a run's process: for every line on stdin, train until so much processor time was used."""
    last = points_of(folder)[-1:]
    clock = Clock(last[0] if last else None)
    centers = group.train(seed, folder, clock)
    used = last[0].cpu_seconds if last else 0.0
    with (folder / "points.jsonl").open("a", encoding="utf-8") as file:
        while True:
            began = time.perf_counter()
            line = sys.stdin.readline()
            clock.skip(time.perf_counter() - began)
            if not line:
                return
            while used < float(line):
                point = next(centers)
                used = point.cpu_seconds
                file.write(f"{json.dumps(asdict(point))}\n")
                file.flush()
            print(json.dumps({"used": used}), file=sys.__stdout__, flush=True)


class Worker:
    """A run's process as seen from here."""

    def __init__(self, group: Group, seed: int, folder: Path) -> None:
        if not group.resumes:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        words = ["--work", group.label, "--seeds", str(seed)]
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.walker", str(folder), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "stderr").open("w"),
            text=True,
            env={**child_environment(), "OMP_NUM_THREADS": "1"},
        )

    def train_until(self, cpu_seconds: float) -> None:
        """Let it use so much processor time in all."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{cpu_seconds}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("{"):  # whatever else a library prints
                return
        raise SystemExit(f"the process of {self._folder} ended: see {self._folder / 'stderr'}")

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def train(runs: Path, groups: list[Group], seeds: list[int], seconds: float, turn: float) -> None:
    """All runs, in turns, until each has used so much processor time; all their processes wait in memory."""
    workers = {}
    try:
        for seed in seeds:
            for group in groups:
                folder = runs / f"{group.label}-s{seed}"
                points = points_of(folder)
                if not points or points[-1].cpu_seconds < seconds:
                    workers[folder] = Worker(group, seed, folder)
        target = 0.0
        while workers and target < seconds:
            target = min(target + turn, seconds)
            for folder, worker in workers.items():
                worker.train_until(target)
                last = points_of(folder)[-1]
                print(f"{folder}: {last.env_steps:,} steps, {last.cpu_seconds:.0f} s", flush=True)
    finally:
        for worker in workers.values():
            worker.close()


def episodes(policy: tuple[Callable[[int], None], Act], count: int) -> list[float]:
    """The returns of test episodes in the plain environment, of at most 1,000 steps each."""
    import gymnasium

    reset, act = policy
    returns = []
    with gymnasium.make(ENVIRONMENT) as env:
        for seed in range(FIRST_EPISODE, FIRST_EPISODE + count):
            observation, _ = env.reset(seed=seed)
            reset(seed)
            total, over = 0.0, False
            while not over:
                observation, reward, terminated, truncated, _ = env.step(act(observation))
                total += float(reward)
                over = terminated or truncated
            returns.append(total)
    return returns


def evaluated(group: Group, folder: Path, point: Point, count: int) -> float:
    """A center's mean return; kept in the run's folder, so that it is measured once."""
    file = folder / "evaluations.json"
    kept: dict[str, float] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    key = f"{point.generation}/{count}"
    if key not in kept:
        kept[key] = statistics.mean(episodes(group.policy(folder, point.generation), count))
        file.write_text(json.dumps(kept), "utf-8")
    return kept[key]


def last_within(points: list[Point], *, seconds: float = np.inf, steps: float = np.inf) -> Point:
    """The last center that took no more than this; the first if there is none."""
    within = [p for p in points if p.cpu_seconds <= seconds and p.env_steps <= steps]
    return within[-1] if within else points[0]


def measured(
    runs: Path, groups: list[Group], seeds: list[int], seconds: float, count: int
) -> dict[str, Any]:
    """What the runs' centers reach in test episodes, as it is kept."""
    folders = {(g.label, s): runs / f"{g.label}-s{s}" for g in groups for s in seeds}
    points = {key: points_of(folder) for key, folder in folders.items()}
    for key, folder in folders.items():
        if not points[key] or points[key][-1].cpu_seconds < seconds:
            raise SystemExit(
                f"{folder} has not trained for {seconds:g} s: run this without --evaluate"
            )
    ends = {key: last_within(own, seconds=seconds) for key, own in points.items()}
    steps = min(end.env_steps for end in ends.values())
    found: dict[str, Any] = {"seconds": seconds, "steps": steps, "episodes": count, "groups": {}}
    for group in groups:
        kept = []
        for seed in seeds:
            key = group.label, seed
            at_steps = last_within(points[key], steps=steps)
            spaced = [
                last_within(points[key], seconds=seconds * (n + 1) / CURVE_POINTS)
                for n in range(CURVE_POINTS)
            ]
            curve = list({p.generation: p for p in [points[key][0], *spaced]}.values())
            kept.append(
                {
                    "seed": seed,
                    "end": asdict(ends[key]),
                    "at_time": evaluated(group, folders[key], ends[key], count),
                    "at_steps": evaluated(group, folders[key], at_steps, count),
                    "curve": [
                        [
                            p.env_steps,
                            p.cpu_seconds,
                            evaluated(group, folders[key], p, CURVE_EPISODES),
                        ]
                        for p in curve
                    ],
                }
            )
        found["groups"][group.name] = {"population": group.population, "runs": kept}
    return {**found, "machine": machine()}


def _span(values: list[float]) -> str:
    """The mean, and the smallest and the largest."""
    return f"{statistics.mean(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def section(result: dict[str, Any]) -> str:
    """One line per group."""
    rows = []
    for name, own in result["groups"].items():
        runs = own["runs"]
        rate = statistics.mean(run["end"]["env_steps"] / run["end"]["cpu_seconds"] for run in runs)
        rows.append(
            [
                name,
                own["population"],
                ", ".join(str(run["seed"]) for run in runs),
                f"{rate:,.0f}",
                _span([run["end"]["generation"] for run in runs]),
                f"{statistics.mean(run['end']['env_steps'] for run in runs) / 1e6:.2f} M",
                _span([run["at_time"] for run in runs]),
                _span([run["at_steps"] for run in runs]),
            ]
        )
    heads = [
        "group",
        "population",
        "seeds",
        "steps per CPU second",
        "updates",
        "steps",
        f"return after {result['seconds']:.0f} CPU seconds",
        f"return after {result['steps'] / 1e6:.2f} M steps",
    ]
    note = (
        f"Mean (smallest to largest) over training runs; the center in {result['episodes']} test episodes of plain "
        f"{ENVIRONMENT}, alive bonus included."
    )
    return f"{table(heads, rows)}\n\n{note}"


def draw(result: dict[str, Any], file: Path) -> None:
    """The center's return over processor time, and over environment steps; a line per run."""
    as_svg()
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(8.5, 3.0), sharey=True, layout="constrained")
    names = [group.name for group in GROUPS.values()]
    for name, own in result["groups"].items():
        color = COLORS[names.index(name)] if name in names else "black"
        for number, run in enumerate(own["runs"]):
            steps, seconds, returns = zip(*run["curve"], strict=True)
            label = None if number else name
            panels[0].plot(seconds, returns, color=color, lw=1.2, label=label)
            panels[1].plot([n / 1e6 for n in steps], returns, color=color, lw=1.2)
    panels[0].set_xlabel("CPU seconds of one process")
    panels[1].set_xlabel("environment steps, millions")
    panels[0].set_ylabel("center's return in test episodes")
    panels[0].legend(fontsize=8)
    save(figure, file)


def main() -> None:
    """Train, evaluate and keep."""
    command_line = argparse.ArgumentParser(
        prog="python -m benchmarks.walker",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command_line.add_argument("runs", type=Path, help="the folder that the runs are in")
    command_line.add_argument(
        "--seconds", type=float, default=480.0, help="of processor time, per run [%(default)s]"
    )
    command_line.add_argument("--turn", type=float, default=30.0, help="in seconds [%(default)s]")
    command_line.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="[%(default)s]")
    command_line.add_argument("--only", nargs="+", choices=GROUPS, default=[*GROUPS])
    command_line.add_argument("--episodes", type=int, default=100, help="[%(default)s]")
    command_line.add_argument("--result", type=Path, default=FILE, help="[%(default)s]")
    command_line.add_argument("--evaluate", action="store_true", help="evaluate only")
    command_line.add_argument("--work", choices=GROUPS, help=argparse.SUPPRESS)
    arguments = command_line.parse_args()
    if arguments.work:
        work(GROUPS[arguments.work], arguments.seeds[0], arguments.runs)
        return
    groups = []
    for group in (GROUPS[label] for label in arguments.only):
        if installed(*group.needs):
            groups.append(group)
        else:
            print(f"{group.name}: not installed ({', '.join(group.needs)})", file=sys.stderr)
    if not arguments.evaluate:
        train(arguments.runs, groups, arguments.seeds, arguments.seconds, arguments.turn)
    found = measured(arguments.runs, groups, arguments.seeds, arguments.seconds, arguments.episodes)
    arguments.result.parent.mkdir(parents=True, exist_ok=True)
    arguments.result.write_text(f"{json.dumps(found, indent=1)}\n", "utf-8")
    print(section(found))


if __name__ == "__main__":
    main()
