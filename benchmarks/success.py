"""How often does an experiment solve its task? Trains seeds 0 to 19 of each and counts, for docs/results.md.

    python -m benchmarks.success runs/success
    python -m benchmarks.success runs/success --only cartpole t-maze --jobs 4

A run has solved its task if the mean of 100 test episodes of its best checkpoint is at least the limit in the table, on
each variant that it was trained on; of color cubes on the one that gives time for all targets. Associative recall is
tested with the larger memory that its file names. Runs that are there already are used, and those that were interrupted
go on. What is found is kept in benchmarks/results/learning/success-rates.json; ``python -m benchmarks.learning`` fills
the page.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measuring import RESULTS, call_esd, generations_of, wilson
from benchmarks.memory import LARGER
from benchmarks.tables.markdown import table
from esd.config.experiment_files import read_experiment
from esd.run import metrics
from esd.run.folder import RunFolder

FILE = RESULTS / "learning" / "success-rates.json"
SEEDS = range(20)
# the mean return from which on a task counts as solved; of CartPole it is Gymnasium's own (reward_threshold)
LIMITS = {
    "cartpole": 475.0,
    "cartpole-hidden": 475.0,
    "repeat-previous-easy": 0.99,
    "repeat-previous-medium": 0.99,
    "repeat-previous-hard": 0.99,
    "associative-recall": 0.99,
    "t-maze": 0.99,
    "endless-t-maze": 0.99,
    "color-cubes": 0.99,
    "pendulum": -300.0,
}
EVALUATED_WITH = {"associative-recall": LARGER}
# where not on all that were trained on: the others give up targets that are too far away
EVALUATED_ON = {"color-cubes": ("5×5 cells, 3 cubes",)}


def trained(runs: Path, experiment: str, seed: int) -> dict[str, Any]:
    """A run to its end, and what 100 test episodes of its best checkpoint gave."""
    run = runs / f"{experiment}-s{seed}"
    call_esd(["train", experiment, f"--set=seed={seed}", f"--run={run}"])
    settings = [f"--set={setting}" for setting in EVALUATED_WITH.get(experiment, ())]
    variants = read_experiment(experiment)[1]["env"].get("variants", ())
    seen = [own["name"] for own in variants if not own.get("unseen")]
    named = [f"--variant={name}" for name in EVALUATED_ON.get(experiment, seen)]
    variants = json.loads(call_esd(["eval", str(run), *settings, *named, "--json"]))["variants"]
    last = metrics.read(RunFolder(run).metrics_file)[-1]
    returns = {own["name"]: own["mean"] for own in variants if own["seen"]}
    print(f"{run}: {returns}", file=sys.stderr, flush=True)
    return {
        "seed": seed,
        "returns": returns,
        "generations": generations_of(last),
        "env_steps": last["env_steps"],
        "core_seconds": last["core_seconds"],
    }


def is_solved(run: dict[str, Any], limit: float) -> bool:
    """Whether all variants that were trained on have at least so much; a return that isn't finite has not."""
    returns = run["returns"].values()
    return bool(returns) and all(mean is not None and mean >= limit for mean in returns)


def _least(run: dict[str, Any]) -> str:
    """The smallest mean return of its variants."""
    means = [*run["returns"].values()]
    if not means:
        return "not tested"
    return "not finite" if None in means else f"{min(means):.4g}"


def _span(values: list[float], digits: int = 0) -> str:
    """The median, and the smallest and the largest."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def section(result: dict[str, Any]) -> str:
    """One line per experiment."""
    rows = []
    for experiment, own in result["experiments"].items():
        runs, limit = own["runs"], own["limit"]
        solved = [run for run in runs if is_solved(run, limit)]
        low, high = wilson(len(solved), len(runs))
        others = ", ".join(f"{run['seed']}: {_least(run)}" for run in runs if run not in solved)
        rows.append(
            [
                f"`{experiment}`",
                f"{limit:g}",
                f"{len(solved)} of {len(runs)} ({low:.0%} to {high:.0%})",
                others,
                _span([run["generations"] for run in runs]),
                _span([run["env_steps"] / 1e6 for run in runs], 1),
                _span([run["core_seconds"] for run in runs], 1),
            ]
        )
    heads = [
        "experiment",
        "solved from a return of",
        "solved (95 % interval)",
        "the others (seed: return)",
        "generations",
        "M environment steps",
        "core seconds",
    ]
    return table(heads, rows)


def main() -> None:
    """Train, evaluate and keep."""
    command_line = argparse.ArgumentParser(
        prog="python -m benchmarks.success",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command_line.add_argument("runs", type=Path, help="the folder that the runs are in")
    command_line.add_argument("--only", nargs="+", choices=LIMITS, default=[*LIMITS])
    command_line.add_argument("--jobs", type=int, default=os.cpu_count(), help="[%(default)s]")
    command_line.add_argument("--result", type=Path, default=FILE, help="[%(default)s]")
    arguments = command_line.parse_args()
    result: dict[str, Any] = {"experiments": {}}
    if arguments.result.exists():
        result = json.loads(arguments.result.read_text("utf-8"))
    found = result["experiments"]
    for experiment in arguments.only:
        with ThreadPoolExecutor(arguments.jobs) as pool:
            runs = [*pool.map(partial(trained, arguments.runs, experiment), SEEDS)]
        found[experiment] = {"limit": LIMITS[experiment], "runs": runs}
        result["experiments"] = {name: found[name] for name in LIMITS if name in found}
        arguments.result.write_text(f"{json.dumps(result, indent=1)}\n", "utf-8")
    print(section(result))


if __name__ == "__main__":
    main()
