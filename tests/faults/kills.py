"""SIGKILL of ranks, of mpirun and of processes alone, at random moments; then the same command again until it is done.

    python -m tests.faults.kills --count 50 --seed 0 --ranks 0,2,3,4

Whatever was killed: the job ends by itself, no process and no temporary file is left, and the run is resumed to the
same h, journal and number of environment steps as without a kill.
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
from tests.faults.jobs import Ended, Job
from tests.faults.program import Options, Outcome, chosen, run

VICTIMS = ("a rank", "rank 0", "several ranks", "all ranks", "mpirun", "mpirun and a rank")
MOMENTS = ("start-up", "training", "checkpoint", "end")
CASES = [f"{victim} at {moment}" for moment in MOMENTS for victim in VICTIMS]


def wait_for(moment: str, job: Job, folder: Path, dice: random.Random) -> None:
    """Wait until a random moment of a kind; at once if it is over already."""
    run_folder = folder / "run"
    if moment == "start-up":
        if job.ranks:
            job.wait_until(lambda: len(job.rank_processes()) == job.ranks, 0.01)
        time.sleep(dice.uniform(0.0, 2.0))
    elif moment == "training":
        wanted = dice.randrange(1, runs.GENERATIONS)
        job.wait_until(lambda: runs.lines_of(run_folder) >= wanted)
    elif moment == "checkpoint":
        wanted = 4 * dice.randrange(1, runs.GENERATIONS // 4)
        job.wait_until(lambda: runs.lines_of(run_folder) >= wanted, 0.0002)
    else:
        job.wait_until(lambda: runs.lines_of(run_folder) >= runs.GENERATIONS)
        time.sleep(dice.uniform(0.0, 0.1))


def victims_of(victim: str, job: Job, dice: random.Random) -> list[int]:
    """The processes to kill."""
    if not job.ranks:
        return [job.process.pid]
    ranks = job.rank_processes()
    if not ranks or victim == "mpirun":
        return [job.process.pid]
    if victim == "all ranks":
        return ranks
    if victim == "several ranks":
        return dice.sample(ranks, min(2, len(ranks)))
    if victim == "rank 0":
        return ranks[:1]
    return [dice.choice(ranks), *([job.process.pid] if "mpirun" in victim else [])]


def killed(victim: str, moment: str, folder: Path, ranks: int, dice: random.Random) -> Ended:
    """Start the run, kill, and wait for the end."""
    job = Job("train", *runs.EXPERIMENT, "--run", folder / "run", cwd=folder, ranks=ranks)
    wait_for(moment, job, folder, dice)
    victims = victims_of(victim, job, dice) if job.running else []
    since = time.monotonic()
    for process in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return job.ended(since if victims else None)


def trial(seed: int, folder: Path, options: Options) -> Outcome:
    """Kill once or twice, and resume."""
    case, dice = chosen(seed, CASES, options)
    victim, _, moment = case.partition(" at ")
    ranks = dice.choice(options.ranks)
    name = case if ranks else f"alone at {moment}"
    wrong: list[str] = []
    for again in range(dice.choice((1, 1, 2))):
        ended = killed(victim, moment if not again else "start-up", folder, ranks, dice)
        if not again:
            first = ended
        wrong += runs.not_excused(folder / "run", ended)
        if ended.leftovers and not ("mpirun" in victim or "start-up" in moment):
            wrong.append(f"left behind: {', '.join(ended.leftovers)}")
    # h is the same on any number of ranks: sometimes it is resumed on another
    further, _ = runs.resumed(
        folder / "run", folder, runs.reference(), ranks=dice.choice((ranks, 0))
    )
    return Outcome(name, first.how, first.seconds + first.gone_after, (*wrong, *further))


def main(words: list[str] | None = None) -> int:
    """The program."""
    return run("kills", (__doc__ or "").splitlines()[0], trial, CASES, words=words)


if __name__ == "__main__":
    sys.exit(main())
