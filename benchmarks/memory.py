"""Tasks of memory: what LSH attention, full attention, a GRU and Hebbian networks reach, for docs/results.md.

    python -m benchmarks.memory runs

reads the runs of the presets, runs/TASK[-POLICY]-s*, and what ``esd eval`` found of them, times a step of each in test
episodes on one core, and keeps all of it in benchmarks/results/learning/memory-tasks.json. What that file has of seeds
that are not in the folder stays.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring import RESULTS, generations_of
from benchmarks.tables.markdown import table
from esd.evaluation import stored as evaluations
from esd.evaluation.test_episodes import choose, episode_seeds, make_rollout
from esd.run import metrics
from esd.run.folder import RunFolder

FILE = RESULTS / "learning" / "memory-tasks.json"
POLICIES = {"LSH": "", "full attention": "-full", "GRU": "-gru", "Hebbian": "-hebbian"}
TEN_THOUSAND_PAIRS = ("env.kwargs.pairs=10000", "env.kwargs.queries=1000")
TEN_MILLION_STEPS = ('env.variants=[{name="10,000,000 steps", kwargs={length=10000000}}]',)
# more memory than in training, as the preset's comment says
LARGER = ("policy.cap=64", "policy.hashes=16", "policy.buckets=1024", "policy.sharpness=4")
TIMED_SECONDS = 1.0


@dataclass(frozen=True)
class Test:
    """What trained runs are asked to do.

    Attributes:
        task: the preset, whose baselines have its name and the policy's behind it.
        variant: of the evaluation.
        says: the row's name.
        world: settings of another world than that of training.
    """

    task: str
    variant: str
    says: str
    world: tuple[str, ...] = ()

    def settings(self, policy: str) -> list[str]:
        """What the evaluation changes."""
        larger = self.task == "associative-recall" and policy == "LSH"
        return [*self.world, *(LARGER if larger else ())]


TESTS = (
    Test("repeat-previous-easy", "popgym", "popgym RepeatPreviousEasy"),
    Test("repeat-previous-medium", "popgym", "popgym RepeatPreviousMedium"),
    Test("repeat-previous-hard", "popgym", "popgym RepeatPreviousHard"),
    Test("associative-recall", "", "associative recall, 16 pairs"),
    Test("associative-recall", "", "associative recall, 10,000 pairs", TEN_THOUSAND_PAIRS),
    Test("t-maze", "5 to 40 steps", "T-maze, 5 to 40 steps"),
    Test("t-maze", "100,000 steps", "T-maze, 100,000 steps"),
    Test("t-maze", "10,000,000 steps", "T-maze, 10,000,000 steps", TEN_MILLION_STEPS),
    *(
        Test("endless-t-maze", variant, f"endless T-maze, {variant}")
        for variant in (
            "10 junctions, 5 to 40 steps",
            "10 junctions, 10 steps each",
            "10 junctions, 50 to 400 steps",
            "100,000 junctions, 5 to 40 steps",
        )
    ),
    *(
        Test("color-cubes", variant, f"color cubes, {variant}")
        for variant in (
            "5×5 cells, 1 cube, 1 target",
            "5×5 cells, 3 cubes",
            "5×5 cells, 3 cubes, 1,000 targets",
        )
    ),
)


def _evaluated(folder: RunFolder, wanted: dict[str, Any], variant: str) -> dict[str, Any] | None:
    """The newest evaluation of the best h with these settings, as it is on one variant; not of an h of before."""
    best = folder.generation_of_best()
    for found in reversed(evaluations.read(folder)):
        if found["settings"] == wanted and found["generation"] == best:
            for own in found["variants"]:
                if variant in ("", own["name"]):
                    return {"mean": own["mean"], "episodes": found["episodes"]}
    return None


def read_run(path: Path, test: Test, policy: str) -> dict[str, Any]:
    """What training took, and what the test found.

    Raises:
        SystemExit: naming the evaluation that is missing.
    """
    folder = RunFolder(path)
    last, config = metrics.read(folder.metrics_file)[-1], folder.config()
    settings = test.settings(policy)
    found = _evaluated(folder, choose(config, None, settings, []).settings, test.variant)
    if found is None:
        words = " ".join(f"--set {setting}" for setting in settings)
        raise SystemExit(f"not evaluated yet: esd eval {path} {words}")
    provenance = json.loads(folder.provenance_file.read_text("utf-8"))
    return {
        "seed": config.seed,
        "generations": generations_of(last),
        "env_steps": last["env_steps"],
        "seconds": last["seconds"],
        "ranks": sorted({call["ranks"] for call in provenance}),
        **found,
    }


def step_seconds(path: Path, test: Test, policy: str) -> float:
    """Seconds of a step, environment included, in test episodes with the trained h; the least of several episodes.

    popgym's own world takes far longer than any policy: its compiled twin is timed instead.
    """
    folder = RunFolder(path)
    variant = "compiled" if test.variant == "popgym" else test.variant
    config = folder.config()
    subject = choose(config, None, test.settings(policy), [variant] if variant else [])
    state = folder.load_checkpoint(folder.best_file, config).state
    rollout = make_rollout(subject, state)
    rollout.load([(0, state.h)])
    least, episode, until = float("inf"), 0, time.perf_counter() + TIMED_SECONDS
    while episode < 2 or time.perf_counter() < until:
        began = time.perf_counter()
        outcome = rollout.play([episode_seeds(1, episode, 0)])
        least = min(least, (time.perf_counter() - began) / outcome.steps)
        episode += 1
    rollout.close()
    return least


def read(runs: Path, kept: dict[str, Any]) -> dict[str, Any]:
    """All tests of all policies; seeds without a run as they are kept."""
    tests = []
    before = {test["says"]: test["arms"] for test in kept["tests"]}
    for test in TESTS:
        policies = {}
        for policy, ending in POLICIES.items():
            arm = before.get(test.says, {}).get(policy)
            found = sorted(runs.glob(f"{test.task}{ending}-s[0-9]*"))
            if paths := [path for path in found if path.is_dir()]:
                of_seed = {} if arm is None else {run["seed"]: run for run in arm["runs"]}
                of_seed |= {run["seed"]: run for run in (read_run(p, test, policy) for p in paths)}
                arm = {
                    "runs": [of_seed[seed] for seed in sorted(of_seed)],
                    "step_seconds": step_seconds(paths[0], test, policy),
                }
            if arm is not None:
                policies[policy] = arm
        tests.append({"says": test.says, "task": test.task, "arms": policies})
    return {"tests": tests}


def _return(runs: Sequence[dict[str, Any]]) -> str:
    """The mean over runs, and the lowest and the highest of them."""
    means = [run["mean"] for run in runs]
    if None in means:
        return "not finite"
    shown = f"{statistics.mean(means):.3f}"
    return f"{shown} ({min(means):.3f} to {max(means):.3f})" if len(means) > 1 else shown


def _training(task: str, policy: str, runs: Sequence[dict[str, Any]]) -> list[str]:
    """A row of what training took."""
    seconds = [run["seconds"] for run in runs]
    generations = sorted(run["generations"] for run in runs)
    return [
        task,
        policy,
        " to ".join(str(n) for n in dict.fromkeys((generations[0], generations[-1]))),
        f"{statistics.mean(run['env_steps'] for run in runs) / 1e6:.1f} M",
        f"{min(seconds):.0f} to {max(seconds):.0f}",
        ", ".join(str(n) for n in sorted({n for run in runs for n in run["ranks"]})),
    ]


def section(result: dict[str, Any]) -> str:
    """Two tables: returns and time per step of every test, and what training took."""
    rows: list[list[str]] = []
    of_training: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for test in result["tests"]:
        for policy, own in test["arms"].items():
            runs, episodes = own["runs"], {run["episodes"] for run in own["runs"]}
            step = f"{own['step_seconds'] * 1e6:.2f} µs"
            shown = ", ".join(map(str, sorted(episodes)))
            rows.append([test["says"], policy, _return(runs), str(len(runs)), shown, step])
            of_training.setdefault((test["task"], policy), {}).update(
                {run["seed"]: run for run in runs}
            )
    trained = [_training(*key, [*runs.values()]) for key, runs in of_training.items()]
    reached = table(["test", "policy", "return", "seeds", "test episodes", "time per step"], rows)
    heads = ["training", "policy", "generations", "environment steps", "seconds", "ranks"]
    return f"{reached}\n\n{table(heads, trained)}"


def main() -> None:
    """Read runs, keep what they say, and fill the page's tables."""
    command_line = argparse.ArgumentParser(
        prog="python -m benchmarks.memory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command_line.add_argument("runs", type=Path, help="the folder that they are in")
    command_line.add_argument("--result", type=Path, default=FILE, help="[%(default)s]")
    arguments = command_line.parse_args()
    kept: dict[str, Any] = {"tests": []}
    if arguments.result.exists():
        kept = json.loads(arguments.result.read_text("utf-8"))
    text = json.dumps(read(arguments.runs, kept), indent=1)
    arguments.result.write_text(f"{text}\n", "utf-8")
    print(f"kept in {arguments.result}; python -m benchmarks.learning fills docs/results.md")


if __name__ == "__main__":
    main()
