"""SIGKILL of ranks of a job that survives it (``esd launch --fault-tolerant``), again and again until it is done.

    python -m tests.faults.losses --count 50 --seed 0 --ranks 3,4

Whoever is killed, rank 0 included, several at once or one after the other: the others finish the run in the same job,
to the same h, journal and number of environment steps, and nothing is left running or lying about. Until MPI is
initialized a loss is not survived, but the job is started again.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from tests.faults import runs
from tests.faults.jobs import Job
from tests.faults.program import Options, Outcome, chosen, run

VICTIMS = (
    "a rank", "rank 0", "two ranks at once", "one after the other", "all but one", "all but one, one after the other"
)  # fmt: skip
MOMENTS = ("training", "checkpoint", "recovery", "end", "start-up")
CASES = [f"{victim} at {moment}" for moment in MOMENTS for victim in VICTIMS]
# generations, and settings: about two seconds on a calm machine, with 24 coordinates of h and with a million
SMALL = (400, ("--set=generations=400",))
LARGE = (
    80,
    ("--set=generations=80", "--set=policy.hidden=[1000,990]", "--set=env.max_steps=3"),
)
SHARE_OF_LARGE = 0.25


def victims_of(victim: str, ranks: list[int], dice: random.Random) -> list[int]:
    """The processes to kill; at least one rank is left."""
    if victim == "rank 0":
        return ranks[:1]
    count = len(ranks) - 1 if "all but one" in victim else {"a rank": 1}.get(victim, 2)
    return dice.sample(ranks, min(count, len(ranks) - 1))


def ranks_in(line: bytes) -> int:
    """How many ranks took part in a generation."""
    with contextlib.suppress(ValueError):
        return int(json.loads(line).get("ranks") or 0)
    return 0


def recovered_after(folder: Path, job: Job, left: int, since: float) -> float | None:
    """Seconds until a generation of the ranks that are left is kept; None if the run ends before."""

    def there() -> bool:
        with contextlib.suppress(OSError, IndexError):
            return ranks_in((folder / "metrics.jsonl").read_bytes().splitlines()[-1]) == left
        return False

    return time.monotonic() - since if job.wait_until(there) else None


def trial(seed: int, folder: Path, options: Options) -> Outcome:
    """Kill some ranks of a job, and see it end as if nothing had been."""
    case, dice = chosen(seed, CASES, options)
    victim, _, moment = case.rpartition(" at ")
    count = dice.choice(options.ranks)
    generations, settings = LARGE if dice.random() < SHARE_OF_LARGE else SMALL
    run_folder = folder / "run"
    restarts = 3 if moment == "start-up" else 0
    job = Job(
        "launch", "--fault-tolerant", f"--max-restarts={restarts}", "--start-seconds=40", "-n", str(count),
        "train", *runs.EXPERIMENT, *settings, "--run", run_folder, cwd=folder,
    )  # fmt: skip
    if moment == "start-up":
        job.wait_until(lambda: len(job.rank_processes()) == count, 0.01)
        time.sleep(dice.uniform(0.0, 3.0))
    wanted = {
        "start-up": 0,
        "training": dice.randrange(1, generations - 50),
        "checkpoint": 4 * dice.randrange(1, generations // 4 - 12),
        "recovery": dice.randrange(1, generations - 50),
        "end": generations + 1 - dice.randrange(2),
    }[moment]
    job.wait_until(lambda: runs.lines_of(run_folder) >= wanted, 0.0002)
    if moment == "training":
        time.sleep(dice.uniform(0.0, 0.01))
    ranks = job.rank_processes()
    since, killed = time.monotonic(), 0
    for process in victims_of(victim, ranks, dice) if len(ranks) == count else []:
        if killed and "one after the other" in victim:
            time.sleep(dice.uniform(0.0, 0.2))
        elif killed and moment == "recovery":
            time.sleep(dice.uniform(0.0, 0.02))
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
            killed += 1
    timed = killed and moment not in ("end", "start-up")
    after = recovered_after(run_folder, job, count - killed, since) if timed else None
    ended = job.ended(since)
    wrong = [*runs.not_excused(run_folder, ended), *differences(run_folder, settings)]
    if ended.code != 0:
        wrong.append(f"ends with {ended.code}: {ended.errors.strip()[-600:]}")
    if ended.leftovers:
        wrong.append(f"left behind: {', '.join(ended.leftovers)}")
    seconds = after if after is not None else ended.seconds
    events = (run_folder / "launches.jsonl").read_text() if run_folder.is_dir() else ""
    how = f"{ended.how}, started again" if '"restarted"' in events else ended.how
    large = ", a million coordinates" if settings is LARGE[1] else ""
    name = f"{killed} killed: {case}{large}" if killed != 1 else f"{case}{large}"
    return Outcome(name, how, seconds, (*wrong,))


def differences(folder: Path, settings: tuple[str, ...], *may_be_left: str) -> list[str]:
    """What is wrong with the run, but for the events of esd launch and other files that may be left."""
    names = frozenset({"launches.jsonl", *may_be_left})
    return runs.differences(folder, runs.reference(*settings), names)


def main(words: list[str] | None = None) -> int:
    """The program."""
    return run("losses", (__doc__ or "").splitlines()[0], trial, CASES, "3,4", words)


if __name__ == "__main__":
    sys.exit(main())
