"""Signals to a process alone, to a rank and to mpirun; then the same command again until the run is done.

    python -m tests.faults.signals --count 60 --seed 0 --ranks 2,3

What asks to stop (SIGTERM, SIGINT, SIGUSR1, SIGUSR2) ends a process alone, or all ranks through any of them, with 75
and the command that resumes. mpirun passes on SIGUSR1 and SIGUSR2; with the others it ends the job by itself.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from pathlib import Path

from tests.faults import runs
from tests.faults.jobs import Job
from tests.faults.program import Options, Outcome, chosen, run

LONG = "--set=generations=120"
STOPPED = frozenset({75})
ENDED = frozenset(range(1, 256))  # in any way but as if it were done
GOES_ON = frozenset({0})
# what a user sends, by its name
SENT = {
    "TERM": (signal.SIGTERM,),
    "INT": (signal.SIGINT,),
    "INT twice": (signal.SIGINT, signal.SIGINT),
    "USR1": (signal.SIGUSR1,),
    "USR2": (signal.SIGUSR2,),
    "all four": (signal.SIGUSR2, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT),
    "HUP": (signal.SIGHUP,),
    "STOP and CONT": (signal.SIGSTOP, signal.SIGCONT),
}
EXPECTED = {
    ("alone", name): STOPPED for name in ("TERM", "INT", "USR1", "USR2", "all four")
} | {
    ("alone", "INT twice"): STOPPED | {1, 130},  # the second one interrupts at once, if it comes in time
    ("alone", "HUP"): STOPPED | {129},
    ("a rank", "TERM"): STOPPED,
    ("a rank", "INT"): STOPPED,
    ("a rank", "INT twice"): ENDED,
    ("a rank", "USR1"): STOPPED,
    ("a rank", "USR2"): STOPPED,
    ("a rank", "all four"): STOPPED,
    ("a rank", "HUP"): ENDED,
    ("mpirun", "TERM"): ENDED,
    ("mpirun", "INT"): ENDED,
    ("mpirun", "INT twice"): ENDED,
    ("mpirun", "USR1"): STOPPED,
    ("mpirun", "USR2"): STOPPED,
    ("mpirun", "all four"): ENDED,
    ("mpirun", "HUP"): ENDED,
} | {(whom, "STOP and CONT"): GOES_ON for whom in ("alone", "a rank", "mpirun")}  # fmt: skip
CASES = [f"{name} to {whom}" for whom, name in EXPECTED]
CASES += [
    f"{name} to {whom} at start-up"
    for name in ("TERM", "INT", "USR1", "USR2")
    for whom in ("alone", "mpirun")
]


def send(job: Job, whom: str, name: str, dice: random.Random) -> None:
    """Send what a case says."""
    pid = dice.choice(job.rank_processes() or [job.process.pid]) if whom == "a rank" else job.process.pid  # fmt: skip
    for number in SENT[name]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if number == signal.SIGSTOP:
            time.sleep(dice.uniform(0.5, 2.0))
        elif len(SENT[name]) > 1:
            time.sleep(dice.uniform(0.0, 0.02))


def trial(seed: int, folder: Path, options: Options) -> Outcome:
    """Send a signal at a random moment, and resume."""
    case, dice = chosen(seed, CASES, options)
    name, _, whom = case.partition(" to ")
    whom, _, early = whom.partition(" at ")
    expected_run = runs.reference(LONG)  # compiles what is needed
    ranks = 0 if whom == "alone" else dice.choice([n for n in options.ranks if n] or [2])
    job = Job("train", *runs.EXPERIMENT, LONG, "--run", folder / "run", cwd=folder, ranks=ranks)
    if early:
        time.sleep(dice.uniform(0.05, 1.5))
    else:
        wanted = dice.randrange(1, 50)
        job.wait_until(lambda: runs.lines_of(folder / "run") >= wanted)
    since = time.monotonic()
    send(job, whom, name, dice)
    ended = job.ended(since)
    wrong = runs.not_excused(folder / "run", ended)
    expected = ENDED | GOES_ON if early else EXPECTED[whom, name]
    # a signal may come after the last generation
    done = ended.code == 0 and runs.is_done(folder / "run")
    if ended.code not in expected and not done:
        wrong.append(f"exit code {ended.code}: {ended.last_line}")
    if ended.code == 75 and "esd train --run" not in ended.output + ended.errors:
        wrong.append("exit code 75 without the command that resumes")
    if ended.leftovers:
        wrong.append(f"left behind: {', '.join(ended.leftovers)}")
    further, _ = runs.resumed(folder / "run", folder, expected_run, LONG)
    return Outcome(case, ended.how, ended.seconds + ended.gone_after, (*wrong, *further))


def main(words: list[str] | None = None) -> int:
    """The program."""
    return run("signals", (__doc__ or "").splitlines()[0], trial, CASES, "2,3", words)


if __name__ == "__main__":
    sys.exit(main())
