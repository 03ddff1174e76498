"""Measure everything anew, then fill the tables of docs/performance.md, worlds.md and attention.md and draw figures.

Takes roughly half an hour on two otherwise idle cores. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measuring import RESULTS, ROOT

BENCHMARKS = (
    "noise",
    "hebbian",
    "compiled_steps",
    "pictures",
    "scaling",
    "schedule",
    "jobs",
    "lockstep",
    "torch_modules",
    "attention",
    "reversible",
    "cartpole",
    "bodies",
    "algorithms",
)


def run(module: str, *words: str) -> None:
    """Run one of this package's programs and say how long it took."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *words], check=True, cwd=ROOT)
    print(f"{module}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def main() -> None:
    """Measure, report, draw."""
    command_line = argparse.ArgumentParser(
        prog="python -m benchmarks.run_all",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command_line.add_argument(
        "--only", choices=BENCHMARKS, nargs="+", default=BENCHMARKS, help="the others stay"
    )
    command_line.add_argument("--results", type=Path, default=RESULTS, help="[%(default)s]")
    arguments = command_line.parse_args()
    results = str(arguments.results.resolve())
    for name in arguments.only:
        run(name, "--json", f"{results}/{name}.json")
    run("report", "--results", results)
    run("plots", "--results", results)


if __name__ == "__main__":
    main()
