"""What saving a run costs: the share of a training that its journal, checkpoints, metrics and finished rows take.

    python -m benchmarks.saving
    python -m benchmarks.saving --experiment ant --generations 10

One process, in which all functions that write to the run's folder are timed while it trains, their syncs to the disk
included. Every row of a generation is kept as soon as it is evaluated, every generation goes into the journal, and a
checkpoint is written every few generations.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import esd
from benchmarks.measuring import parser, write
from esd.run import metrics
from esd.run.folder import RunFolder
from esd.run.in_progress import KeptRows
from esd.training.commit import Commit

# what writes, by what it is called in the table
WRITERS: dict[str, tuple[type[Any], tuple[str, ...]]] = {
    "journal, metrics, checkpoints": (Commit, ("generation",)),
    "finished rows": (KeptRows, ("begin", "add")),
}


class Timed:
    """A function that counts the seconds that its calls take.

    Attributes:
        seconds: so far.
    """

    def __init__(self, seconds: dict[str, float], name: str, function: Callable[..., Any]) -> None:
        """Count under a name."""
        self._seconds, self._name, self._function = seconds, name, function

    def __get__(self, instance: Any, owner: type[Any]) -> Callable[..., Any]:
        """As a method is found."""

        def call(*words: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return self._function(instance, *words, **named)
            finally:
                self._seconds[self._name] += time.perf_counter() - began

        return call


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, and time what writes."""
    seconds = dict.fromkeys(WRITERS, 0.0)
    for name, (owner, methods) in WRITERS.items():
        for method in methods:
            setattr(owner, method, Timed(seconds, name, getattr(owner, method)))
    generations = 2 if arguments.quick else arguments.generations
    settings = {"population": 4, "env.max_steps": 5} if arguments.quick else {}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        esd.train(
            arguments.experiment, run=run, generations=generations, settings=settings, verbose=False
        )
        trained = metrics.read(RunFolder(run).metrics_file)[-1]["seconds"]
        size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    return {
        "experiment": arguments.experiment,
        "generations": generations,
        "training_seconds": trained,
        "saving_seconds": seconds,
        "share": sum(seconds.values()) / trained,
        "bytes": size,
    }


def main() -> None:
    """Measure and write."""
    command_line = parser("saving", __doc__)
    command_line.add_argument("--experiment", default="ant", help="[%(default)s]")
    command_line.add_argument("--generations", type=int, default=10, help="[%(default)s]")
    arguments = command_line.parse_args()
    write(arguments, "saving", measured(arguments))


if __name__ == "__main__":
    main()
