"""Does the default experiment learn every time? Each seed is trained and evaluated; one row of a table for each.

Every seed is a whole ``esd train`` and a whole ``esd eval`` in processes of their own. Seconds are those of the
training process from its start to its end, on the clock and of processor time, which other work on the machine
changes less.
With ``--beside`` the same seeds are also trained with other settings, in turns.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measuring import call_esd, parser, write

GOAL = 475.0  # CartPole-v1's own threshold
TINY = ("generations=2", "population=4", "run.center_episodes=2")


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        seed: of the run.
        generations: until it ended.
        seconds: of ``esd train``.
        processor_seconds: the same, of all ranks together.
        mean: return over 100 new episodes.
    """

    seed: int
    generations: int
    seconds: float
    processor_seconds: float
    mean: float


def _processor_seconds() -> float:
    """Of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _json(*words: str, ranks: int = 1) -> dict[str, float]:
    """What a call of esd prints."""
    found: dict[str, float] = json.loads(call_esd([*words, "--json"], ranks))
    return found


def trained(seed: int, settings: tuple[str, ...], ranks: int) -> Run:
    """Train the default experiment with a seed and evaluate it."""
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder) / "run")
        words = [f"--set={setting}" for setting in (f"seed={seed}", *settings)]
        began, used = time.perf_counter(), _processor_seconds()
        ending = _json("train", *words, f"--run={run}", ranks=ranks)
        seconds, processor_seconds = time.perf_counter() - began, _processor_seconds() - used
        mean = _json("eval", run)["mean"]
    return Run(seed, int(ending["generation"]), seconds, processor_seconds, mean)


def main() -> None:
    """Train, evaluate, tell."""
    command_line = parser("default_experiment", __doc__)
    command_line.add_argument("--seeds", type=int, default=20, help="0 to this - 1 [%(default)s]")
    command_line.add_argument("--ranks", type=int, default=1, help="[%(default)s]")
    command_line.add_argument(
        "--beside", nargs="+", metavar="KEY=VALUE", help="also with these settings, in turns"
    )
    arguments = command_line.parse_args()
    tiny = TINY if arguments.quick else ()
    arms = {"as shipped": tiny}
    if arguments.beside:
        arms[" ".join(arguments.beside)] = (*tiny, *arguments.beside)
    runs: dict[str, list[Run]] = {name: [] for name in arms}
    print("seed  generations  training [s]  processor [s]  mean of 100 new episodes")
    for seed in range(2 if arguments.quick else arguments.seeds):
        for name, settings in arms.items():
            run = trained(seed, settings, arguments.ranks)
            runs[name].append(run)
            row = f"{seed:4}  {run.generations:11}  {run.seconds:12.1f}  {run.processor_seconds:13.1f}  {run.mean:.2f}"
            print(f"{row}  {name if arguments.beside else ''}".rstrip(), flush=True)
    for name, made in runs.items():
        means = np.array([run.mean for run in made])
        seconds = np.array([(run.seconds, run.processor_seconds) for run in made])
        clock, processor = seconds.sum(axis=0)
        print(
            f"{name}: least mean {means.min():.2f}, {(means >= GOAL).sum()} of {means.size} at {GOAL:g} or more; "
            f"training {clock:.0f} s in all, at most {seconds[:, 0].max():.0f} s; {processor:.0f} s of processor time"
        )
    if arguments.json is not None:
        write(arguments, "default_experiment", {"ranks": arguments.ranks, "arms": runs})


if __name__ == "__main__":
    main()
