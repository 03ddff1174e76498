"""Record how long real episodes are: trains with ``esd train`` and reads the steps per row from the journal.

What comes out, ``benchmarks/data/episode_lengths.npz``, is what ``benchmarks.schedule`` replays: per world an array
[generations, rows] of steps, and ``about``, a JSON text that says what each is. A row is what a rank takes at a time:
all episodes of a member, or (after the members) one episode of the center. About ten minutes on two cores, most of
them for the Ant.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measuring import ROOT, child_environment, mpirun
from esd.evolution.records import STEPS
from esd.run.folder import RunFolder

FILE = ROOT / "benchmarks" / "data" / "episode_lengths.npz"
POPULATION = 1024
# the world's name → what follows ``esd train``
WORLDS = {
    "CartPole-v1": ["cartpole"],
    "Hopper-v5": ["halfcheetah", "--set", "env.id=Hopper-v5", "--set", "generations=20"],
    "Ant-v5": ["ant", "--set", "generations=6"],
}
FIXED = "HalfCheetah-v5"  # its episodes all have 1,000 steps: nothing to record


@dataclass(frozen=True)
class World:
    """Recorded lengths.

    Attributes:
        name: the environment.
        command: that was recorded.
        members: rows that are members.
        steps: uint16 [generations, rows].
    """

    name: str
    command: str
    members: int
    steps: npt.NDArray[np.uint16]


def recorded(name: str, words: list[str], ranks: int) -> World:
    """Train and return the steps of all rows of all generations."""
    arguments = [*words, "--set", f"population={POPULATION}", "--set", "run.center_every=1"]
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        subprocess.run(
            [*mpirun(ranks), sys.executable, "-m", "esd", "train", *arguments, "--run", run.path],
            check=True,
            env=child_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        entries = [records for _, records in run.journal(run.config()).entries() if records.members]
    steps = np.array([records.table[:, STEPS] for records in entries])
    return World(name, f"esd train {' '.join(arguments)}", POPULATION, steps.astype(np.uint16))


def load(file: Path = FILE) -> list[World]:
    """What was recorded, and the world in which nothing varies."""
    with np.load(file) as data:
        about: dict[str, Any] = json.loads(str(data["about"]))
        worlds = [World(name, **about[name], steps=data[name]) for name in about]
    fixed = np.full((1, POPULATION), 1000, np.uint16)
    return [*worlds, World(FIXED, "(1,000 steps, always)", POPULATION, fixed)]


def main() -> None:
    """Record all worlds anew."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lengths",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--file", type=Path, default=FILE, help="where to write")
    parser.add_argument("--ranks", type=int, default=2, help="ranks to train on [%(default)s]")
    arguments = parser.parse_args()
    worlds = []
    for name, words in WORLDS.items():
        worlds.append(recorded(name, words, arguments.ranks))
        print(f"{name}: {worlds[-1].steps.shape[0]} generations", file=sys.stderr)
    about = {w.name: {"command": w.command, "members": w.members} for w in worlds}
    arrays: dict[str, Any] = {w.name: w.steps for w in worlds}
    arguments.file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(arguments.file, about=np.array(json.dumps(about)), **arrays)


if __name__ == "__main__":
    main()
