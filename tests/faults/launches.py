"""What else happens to a job of ``esd launch``: stopped processes, full disks and damaged files, also beside kills.

    python -m tests.faults.launches --seed 0 --ranks 3,4

The job ends as if nothing had been, by its other ranks or by a restart. Where a file was damaged it may also end with 1
or 2 and one line; with the file as it was, the same command finishes the run then. Full disks need root, who may mount
a small file system.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faults import disks, losses, mutations, runs
from tests.faults.jobs import Ended, Job
from tests.faults.program import Options, Outcome, chosen, run
from tests.helpers.shell import messages

GENERATIONS = 400
SETTINGS = (f"--set=generations={GENERATIONS}",)
OWN = ("--set=run.silence_seconds=3", "--set=run.unsaved_generations=100")
LIMIT_SECONDS = 240.0  # a process that is stopped in the start, or mpirun, is given a minute
START_SECONDS = 60
FULL_SECONDS = 0.4

STOPPED = (
    "a rank",
    "rank 0",
    "two ranks",
    "a rank, and another killed",
    "mpirun",
    "esd launch, and continued",
)
STOPS = [f"stopped: {who} at training" for who in STOPPED]
STOPS += [
    f"stopped: {who} at {when}" for when in ("start-up", "end") for who in ("a rank", "rank 0")
]
STOPS += ["stopped: a rank at training, not fault-tolerant"]
KILLS = [
    "killed: esd launch",
    "killed: mpirun, and again in the restart",
    "interrupted twice",
    "moved: the folder",
]
FULL = [f"full disk: {who} killed" for who in ("nobody", "a rank", "rank 0", "all ranks", "mpirun")]
DAMAGES: dict[str, tuple[str, mutations.Mutation]] = {
    f"damaged: {name} {what}": (name, mutation)
    for name in ("newest checkpoint", "journal.bin", "config.toml", "metrics.jsonl", "provenance.json", "losses.bin")
    for what, mutation in (("cut", mutations.cut), ("flipped", mutations.flip), ("removed", mutations.remove))
}  # fmt: skip
CASES = [*STOPS, *KILLS, *FULL, *DAMAGES]


def start(folder: Path, ranks: int, case: str, place: Path) -> Job:
    """Launch the run in a place."""
    tolerant = () if "not fault-tolerant" in case else ("--fault-tolerant",)
    return Job(
        "launch", *tolerant, f"--start-seconds={START_SECONDS}", "-n", str(ranks),
        "train", *runs.EXPERIMENT, *SETTINGS, *OWN, "--run", place, cwd=folder,
    )  # fmt: skip


def send(number: int, *processes: int) -> None:
    """Send a signal to processes that are there."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def mpirun_of(job: Job) -> list[int]:
    """The process of its mpirun, if it runs."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{job.process.pid}/task/{job.process.pid}/children")
        return [int(word) for word in children.read_text().split()[:1]]
    return []


def wait_for(case: str, job: Job, place: Path, count: int, dice: random.Random) -> None:
    """Wait for the moment that a case names."""
    if "start-up" in case:
        job.wait_until(lambda: len(job.rank_processes()) == count, 0.01)
        time.sleep(dice.uniform(0.0, 2.0))
        return
    wanted = GENERATIONS if "at end" in case else dice.randrange(1, GENERATIONS - 150)
    job.wait_until(lambda: runs.lines_of(place) >= wanted, 0.0005)


def stop(case: str, job: Job, dice: random.Random) -> None:
    """Stop what a case names."""
    ranks = job.rank_processes()
    if "mpirun" in case:
        send(signal.SIGSTOP, *mpirun_of(job))
    elif "esd launch" in case:
        send(signal.SIGSTOP, job.process.pid)
        time.sleep(dice.uniform(0.5, 2.0))
        send(signal.SIGCONT, job.process.pid)
    elif "rank 0" in case:
        send(signal.SIGSTOP, *ranks[:1])
    else:
        several = "two ranks" in case or "another" in case
        victims = dice.sample(ranks, min(1 + several, len(ranks)))
        send(signal.SIGSTOP, *victims[: 1 if "another" in case else 2])
        send(signal.SIGKILL, *(victims[1:] if "another" in case else ()))


def killed(case: str, job: Job, place: Path, dice: random.Random) -> None:
    """Kill, interrupt or move what a case names."""
    if "esd launch" in case:
        send(signal.SIGKILL, job.process.pid)
    elif "twice" in case:
        send(signal.SIGINT, job.process.pid)
        time.sleep(dice.uniform(0.0, 0.3))
        send(signal.SIGINT, job.process.pid)
    elif "moved" in case:
        place.rename(place.with_name("away"))
        time.sleep(dice.uniform(0.05, 0.5))
        shutil.rmtree(place, ignore_errors=True)  # what was made again meanwhile
        place.with_name("away").rename(place)
    else:
        first = mpirun_of(job)
        send(signal.SIGKILL, *first)
        job.wait_until(lambda: bool(mpirun_of(job)) and mpirun_of(job) != first, 0.01)
        time.sleep(dice.uniform(0.0, 3.0))
        send(signal.SIGKILL, *mpirun_of(job))


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A small file system in a folder, for as long as the block lasts; False where none can be mounted."""
    mounted = disks.mount(folder, "size=1m")
    try:
        yield mounted
    finally:
        if mounted:
            disks.unmounted(folder)


def fill(case: str, job: Job, disk: Path, dice: random.Random) -> None:
    """Fill the disk up, kill meanwhile, and make room again."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(512))
    time.sleep(dice.uniform(0.0, FULL_SECONDS))
    ranks = job.rank_processes()
    victims = {"nobody": [], "rank 0": ranks[:1], "all ranks": ranks, "mpirun": mpirun_of(job)}
    who = case.removeprefix("full disk: ").removesuffix(" killed")
    send(signal.SIGKILL, *victims.get(who, ranks and [dice.choice(ranks)]))
    time.sleep(dice.uniform(0.0, FULL_SECONDS))
    filler.unlink()


def damage(case: str, job: Job, place: Path, dice: random.Random) -> Callable[[], None]:
    """Kill all ranks and damage a file before the restart; gives what undoes the damage."""
    name, mutation = DAMAGES[case]
    send(signal.SIGKILL, *job.rank_processes())
    time.sleep(0.1)
    checkpoints = sorted((place / "checkpoints").glob("*.safetensors"))
    path = checkpoints[-1] if "checkpoint" in name and checkpoints else place / name
    if name == "losses.bin":
        path = place / "in_progress" / name
    if not path.is_file():
        return lambda: None
    whole = path.read_bytes()
    mutation(dice, path, None)  # type: ignore[arg-type]  # these three need no originals

    def undo() -> None:
        if name not in ("newest checkpoint", "metrics.jsonl", "losses.bin"):
            path.write_bytes(whole)

    return undo


def trial(seed: int, folder: Path, options: Options) -> Outcome:
    """Break the job in the way of a case, and see it end as if nothing had been."""
    case, dice = chosen(seed, CASES, options)
    count = dice.choice(options.ranks)
    place, wrong = folder / "disk" / "run", list[str]()
    place.parent.mkdir()
    runs.reference(*SETTINGS)  # compiles what is needed
    undo: Callable[[], None] = lambda: None  # noqa: E731
    with small_disk(place.parent) if case in FULL else contextlib.nullcontext(True) as possible:
        if not possible:
            return Outcome(case, "ignored: no disk can be mounted here", 0.0)
        job = start(folder, count, case, place)
        wait_for(case, job, place, count, dice)
        since = time.monotonic()
        if case in STOPS:
            stop(case, job, dice)
        elif case in KILLS:
            killed(case, job, place, dice)
        elif case in FULL:
            fill(case, job, place.parent, dice)
        else:
            undo = damage(case, job, place, dice)
        ended = job.ended(since, LIMIT_SECONDS)
    wrong += runs.not_excused(place, ended)
    asked = case in ("killed: esd launch", "interrupted twice")
    if ended.code and not asked:
        wrong += refused_well(case, ended)
    # Open MPI's segments are in a folder of the job's here, in place of the one that esd launch makes and removes; and
    # what a killed esd launch has left is removed by the next one
    left = [name for name in ended.leftovers if "mpirun" not in case or "sm_segment" not in name]
    if left and case != "killed: esd launch":
        wrong.append(f"left behind: {', '.join(left)}")
    if ended.code:
        undo()
        again = start(folder, count, case, place).ended(limit=LIMIT_SECONDS)
        wrong += runs.not_excused(place, again)
        if again.code:
            wrong.append(f"then it ends with {again.code}: {again.last_line}")
    # a provenance that can't be read is kept beside the new one
    kept = [f"{name}.damaged" for name in DAMAGES.get(case, ())[:1] if name == "provenance.json"]
    wrong += losses.differences(place, SETTINGS, *kept)
    restarted = ended.errors.count("esd launch: restart ")
    how = f"{ended.how}, started again" if restarted else ended.how
    return Outcome(case, how, ended.seconds, tuple(wrong))


def refused_well(case: str, ended: Ended) -> list[str]:
    """What is wrong with a job that has given up: only a damaged file excuses it, and one line says so."""
    lines = list(messages(ended.errors.splitlines()))
    if case not in DAMAGES or ended.code not in (1, 2):
        return [f"ends with {ended.code}: {ended.errors.strip()[-800:]}"]
    long = [line for line in lines if len(line) > 1000]
    return [] if lines and not long else [f"no line, or a long one: {ended.errors.strip()[-800:]}"]


def main(words: list[str] | None = None) -> int:
    """The program."""
    return run("launches", (__doc__ or "").splitlines()[0], trial, CASES, "3,4", words)


if __name__ == "__main__":
    sys.exit(main())
