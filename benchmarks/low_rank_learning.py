"""Does low-rank noise learn as well as Gaussian noise? The same experiments and seeds, at most so many generations.

    python -m benchmarks.low_rank_learning cartpole-hidden
    python -m benchmarks.low_rank_learning halfcheetah --ranks 2
    python -m benchmarks.low_rank_learning car-racing-quick --ranks 2

Trains and evaluates run after run, seeds in turn. Prints the generation at which each one ended, its environment steps
and its mean return over 100 test episodes (over the variants that it was trained on), then the comparison of ``esd
compare``. A run of cartpole-hidden ends when the center holds the pole in both directions, or after 1,000
generations; a run of the others after 60. What was interrupted goes on with the same command. Nothing was tuned for
low-rank noise: it has the settings of the experiment. ``python -m benchmarks.learning low-rank-NAME NOISE=RUNS…`` reads
the runs for a page.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import call_esd, generations_of, parser
from esd.run import metrics
from esd.run.folder import RunFolder

# each with the most generations of a run
EXPERIMENTS = {"cartpole-hidden": 1000, "halfcheetah": 60, "car-racing-quick": 60}
NOISES: dict[str, tuple[str, ...]] = {
    "gaussian": (),
    "rank 1": ("es.noise=low_rank",),
    "rank 4": ("es.noise=low_rank", "es.rank=4"),
}
TINY = ("generations=2", "population=4", "run.center_episodes=2")


def evaluated(experiment: str, settings: tuple[str, ...], run: Path, ranks: int) -> str:
    """Train a run to its end and evaluate its best h; what is printed of it."""
    words = [f"--set={setting}" for setting in settings]
    call_esd(["train", experiment, *words, f"--run={run}"], ranks)
    found: dict[str, Any] = json.loads(call_esd(["eval", str(run), "--json"], ranks))
    last = metrics.read(RunFolder(run).metrics_file)[-1]
    return f"{generations_of(last):11}  {last['env_steps'] / 1e6:9.1f} M  {_seen(found):8.1f}"


def _seen(found: dict[str, Any]) -> float:
    """The mean over the variants that were trained on."""
    return float(np.mean([variant["mean"] for variant in found["variants"] if variant["seen"]]))


def main() -> None:
    """Train, evaluate, compare."""
    command_line = parser("low_rank_learning", __doc__)
    command_line.add_argument("experiment", choices=EXPERIMENTS)
    command_line.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13, 14])
    command_line.add_argument(
        "--noise", nargs="+", choices=[*NOISES], default=["gaussian", "rank 1"]
    )
    command_line.add_argument("--ranks", type=int, default=1, help="[%(default)s]")
    command_line.add_argument("--runs", type=Path, default=Path("runs"), help="[%(default)s]")
    arguments = command_line.parse_args()
    experiment = arguments.experiment
    shared = TINY if arguments.quick else (f"generations={EXPERIMENTS[experiment]}",)
    print("seed  noise      generations        steps  mean return of 100 test episodes", flush=True)
    for seed in arguments.seeds:
        for noise in arguments.noise:
            run = _folder(arguments.runs, experiment, noise, seed)
            settings = (*shared, f"seed={seed}", *NOISES[noise])
            print(
                f"{seed:4}  {noise:9}  {evaluated(experiment, settings, run, arguments.ranks)}",
                flush=True,
            )
    if len(arguments.seeds) > 1 and len(arguments.noise) > 1:
        groups = [
            f"{noise}={_folder(arguments.runs, experiment, noise, 0).parent}/*"
            for noise in arguments.noise
        ]
        print(call_esd(["compare", *groups], 1))


def _folder(runs: Path, experiment: str, noise: str, seed: int) -> Path:
    return runs / "low-rank" / f"{experiment}-{noise.replace(' ', '-')}" / f"s{seed}"


if __name__ == "__main__":
    main()
