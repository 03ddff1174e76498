"""Does low-rank noise learn as well as Gaussian noise? The same experiments, seeds and numbers of generations.

    python -m benchmarks.low_rank_learning cartpole-hidden
    python -m benchmarks.low_rank_learning halfcheetah --ranks 2
    python -m benchmarks.low_rank_learning car-racing-quick --ranks 2

Trains and evaluates run after run, seeds in turn, and prints each one's mean return over 100 test episodes (of the
variants that an experiment trains on, the mean), then the comparison of ``esd report compare``. No run ends early at
a target. What was interrupted goes on with the same command. Nothing was tuned for low-rank noise: it has
the settings of the experiment. ``python -m benchmarks.learning low-rank-NAME ARM=RUNS…`` reads the runs for a page.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import child_environment, mpirun, parser

SETTINGS = {
    "cartpole-hidden": ("generations=300", "run.target_return=501"),
    "halfcheetah": (),
    "car-racing-quick": (),
}
ARMS: dict[str, tuple[str, ...]] = {
    "gaussian": (),
    "rank 1": ("es.noise=low_rank",),
    "rank 4": ("es.noise=low_rank", "es.rank=4"),
}
TINY = ("generations=2", "population=4", "run.center_episodes=2")


def _called(words: list[str], ranks: int) -> str:
    """What a call of esd prints; its failure ends this one."""
    command = [*mpirun(ranks), sys.executable, "-m", "esd", *words]
    done = subprocess.run(
        command, env=child_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def evaluated(experiment: str, settings: tuple[str, ...], run: Path, ranks: int) -> dict[str, Any]:
    """Train a run to its end and evaluate its best h."""
    words = [f"--set={setting}" for setting in settings]
    _called(["train", experiment, *words, f"--run={run}"], ranks)
    found: dict[str, Any] = json.loads(_called(["eval", str(run), "--json"], ranks))
    return found


def _seen(found: dict[str, Any]) -> float:
    """The mean over the variants that were trained on."""
    return float(np.mean([variant["mean"] for variant in found["variants"] if variant["seen"]]))


def main() -> None:
    """Train, evaluate, compare."""
    command_line = parser("low_rank_learning", __doc__)
    command_line.add_argument("experiment", choices=[*SETTINGS])
    command_line.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13, 14])
    command_line.add_argument("--arms", nargs="+", choices=[*ARMS], default=["gaussian", "rank 1"])
    command_line.add_argument("--ranks", type=int, default=1, help="[%(default)s]")
    command_line.add_argument("--runs", type=Path, default=Path("runs"), help="[%(default)s]")
    arguments = command_line.parse_args()
    experiment = arguments.experiment
    shared = (*SETTINGS[experiment], *(TINY if arguments.quick else ()))
    print("seed  arm        mean return of 100 test episodes", flush=True)
    for seed in arguments.seeds:
        for arm in arguments.arms:
            run = _folder(arguments.runs, experiment, arm, seed)
            settings = (*shared, f"seed={seed}", *ARMS[arm])
            mean = _seen(evaluated(experiment, settings, run, arguments.ranks))
            print(f"{seed:4}  {arm:9}  {mean:10.1f}", flush=True)
    if len(arguments.seeds) > 1 and len(arguments.arms) > 1:
        groups = [
            f"{arm}={_folder(arguments.runs, experiment, arm, 0).parent}/*"
            for arm in arguments.arms
        ]
        print(_called(["report", "compare", *groups], 1))


def _folder(runs: Path, experiment: str, arm: str, seed: int) -> Path:
    return runs / "low-rank" / f"{experiment}-{arm.replace(' ', '-')}" / f"s{seed}"


if __name__ == "__main__":
    main()
