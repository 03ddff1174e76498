"""What the programs have in common: their command line, and a table of faults and outcomes with counts."""

from __future__ import annotations

import argparse
import collections
import os
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults.jobs import kill_unfinished


@dataclass(frozen=True)
class Options:
    """Of a call.

    Attributes:
        ranks: numbers of ranks to choose from; 0 is a process without mpirun.
        only: a part of the names of the faults that are tried; empty for all.
    """

    ranks: tuple[int, ...]
    only: str = ""


@dataclass(frozen=True)
class Outcome:
    """Of one trial.

    Attributes:
        fault: what was done.
        outcome: how the job ended.
        seconds: from the fault to the end of the job.
        wrong: what was not as it should be.
    """

    fault: str
    outcome: str
    seconds: float
    wrong: tuple[str, ...] = ()


Trial = Callable[[int, Path, Options], Outcome]


def chosen(seed: int, cases: list[str], options: Options) -> tuple[str, random.Random]:
    """The case of a seed, so that as many seeds in a row as there are cases try each once; and its dice."""
    cases = [case for case in cases if options.only in case]
    if not cases:
        raise SystemExit(f"--only {options.only}: no fault has this in its name")
    return cases[seed % len(cases)], random.Random(seed)


def run(
    module: str,
    about: str,
    trial: Trial,
    cases: list[str],
    ranks: str = "0,2,3,4",
    words: list[str] | None = None,
) -> int:
    """Try faults, print the table, and return the exit code.

    Args:
        module: the program's name, in the command that repeats a trial.
        about: what it does.
        trial: one fault, by its seed, in an empty folder.
        cases: the names of its faults; by default each is tried once.
        ranks: the default of ``--ranks``.
        words: the command line; None for that of the process.
    """
    parser = argparse.ArgumentParser(f"python -m tests.faults.{module}", description=about)
    parser.add_argument("--count", type=int, help="trials; by default one of each fault")
    parser.add_argument("--seed", type=int, default=0, help="of the first; the next has the next")
    parser.add_argument("--ranks", default=ranks, help=f"0 is without mpirun (default: {ranks})")
    parser.add_argument("--only", default="", help="faults that have this in their names")
    parser.add_argument("--list", action="store_true", help="the names of the faults")
    arguments = parser.parse_args(words)
    options = Options(tuple(int(word) for word in arguments.ranks.split(",")), arguments.only)
    cases = [case for case in cases if options.only in case]
    if arguments.list:
        print("\n".join(cases))
        return 0
    count = len(cases) if arguments.count is None else arguments.count
    outcomes: list[Outcome] = []
    began = time.monotonic()
    interrupted = False
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C does
    try:
        for seed in range(arguments.seed, arguments.seed + count):
            outcomes.append(_tried(trial, seed, options))
            _report(outcomes[-1], _again(module, seed, arguments))
    except KeyboardInterrupt:
        interrupted = True
    finally:
        signal.signal(signal.SIGTERM, before)
    print(table(outcomes))
    failed = sum(bool(outcome.wrong) for outcome in outcomes)
    of = f" of {count}, then interrupted," if interrupted else ""
    seconds = time.monotonic() - began
    print(f"{len(outcomes)}{of} trials in {seconds:.0f} s, {failed} not as they should be")
    return 1 if failed or interrupted else 0


def _tried(trial: Trial, seed: int, options: Options) -> Outcome:
    """One trial in a folder of its own, of which nothing is left, also if it is interrupted."""
    folder = Path(tempfile.mkdtemp(prefix="esd-faults-"))
    try:
        return trial(seed, folder, options)
    finally:
        kill_unfinished()
        shutil.rmtree(folder, ignore_errors=True)


def _again(module: str, seed: int, arguments: argparse.Namespace) -> str:
    """The command that repeats a trial."""
    only = f" --only '{arguments.only}'" if arguments.only else ""
    words = f"--seed {seed} --count 1 --ranks {arguments.ranks}{only}"
    return f"python -m tests.faults.{module} {words}"


def _report(outcome: Outcome, again: str) -> None:
    """Say at once what is wrong."""
    for what in outcome.wrong:
        print(f"WRONG, {outcome.fault}: {what}\n    again: {again}", flush=True)


def table(outcomes: list[Outcome]) -> str:
    """Faults and outcomes, with how often, and the seconds from the fault to the end."""
    groups: dict[tuple[str, str], list[Outcome]] = collections.defaultdict(list)
    for outcome in outcomes:
        groups[outcome.fault, outcome.outcome].append(outcome)
    rows = [("fault", "outcome", "count", "wrong", "median s", "most s")]
    for (fault, how), members in sorted(groups.items()):
        seconds = [member.seconds for member in members]
        wrong = sum(bool(member.wrong) for member in members)
        numbers = (f"{statistics.median(seconds):.1f}", f"{max(seconds):.1f}")
        rows.append((fault, how, str(len(members)), str(wrong), *numbers))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(row[:2], widths[:2], strict=True)]
        cells += [f"{cell:>{width}}" for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def is_root() -> bool:
    """Whether this user may mount a file system."""
    return os.geteuid() == 0
