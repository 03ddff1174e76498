"""Disks that fill up or fail, and folders that are moved, removed or made read-only while a run is trained.

    python -m tests.faults.disks --count 40 --seed 0 --ranks 0,2

Then the disk is mended, and the same command resumes to the same h and journal. Disks that really fill up are small
file systems in memory, which only root may mount; without root they are ignored.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.faults import runs
from tests.faults.broken_disk import FAULTS
from tests.faults.jobs import Ended, Job
from tests.faults.program import Options, Outcome, chosen, is_root, run

LONG = "--set=generations=100"
REFUSED = frozenset({1, 2, 75})
HARMLESS = ("short writes", "some writes of nothing")
MOVES = (
    "folder moved away", "folder removed", "folder replaced by a file", "checkpoints removed", "journal removed",
    "journal cut to nothing", "metrics removed", "config removed", "everything in the folder removed",
)  # fmt: skip
MOUNTS = ("small disk", "few inodes", "disk made read-only")
FILE_LIMIT = "no file larger than a limit (EFBIG)"
CASES = [*FAULTS, FILE_LIMIT, *MOVES, *MOUNTS]


def mount(folder: Path, options: str) -> bool:
    """Mount a file system in memory; False if that isn't possible here."""
    words = ["mount", "-t", "tmpfs", "-o", options, "esd-faults", str(folder)]
    return is_root() and subprocess.run(words, capture_output=True, check=False).returncode == 0


def start(folder: Path, ranks: int, dice: random.Random, *module: str) -> Job:
    """Train in ``folder/disk/run``, with patience or without."""
    patience = f"--set=run.unsaved_generations={dice.choice((0, 100))}"
    return Job(
        "train", *runs.EXPERIMENT, LONG, patience, "--run", folder / "disk" / "run", cwd=folder, ranks=ranks,
        module=module or ("esd",),
    )  # fmt: skip


def on_a_failing_disk(case: str, folder: Path, ranks: int, dice: random.Random) -> Ended:
    """A fault in the calls of the process that writes."""
    few = dice.random() < 0.3  # also at the very first ones
    after = dice.randrange(1, 8) if few else dice.randrange(1, 300)
    run_folder = folder / "disk" / "run"
    return start(
        folder, ranks, dice, "tests.faults.broken_disk", case, str(after), str(run_folder)
    ).ended()


def with_a_limit(folder: Path, ranks: int, dice: random.Random) -> Ended:
    """Files may not grow past a limit (RLIMIT_FSIZE)."""
    return start(
        folder, ranks, dice, "tests.faults.limited", "FSIZE", str(dice.randrange(200, 40_000))
    ).ended()


def moved(case: str, folder: Path, ranks: int, dice: random.Random) -> tuple[Ended, list[str]]:
    """Something is done to the folder while the run is trained; then it is undone, where it can be."""
    run_folder, away = folder / "disk" / "run", folder / "disk" / "away"
    job = start(folder, ranks, dice)
    wanted = dice.randrange(1, 60)
    job.wait_until(lambda: runs.lines_of(run_folder) >= wanted)
    if not job.running:
        return job.ended(), []
    since = time.monotonic()
    if case == "checkpoints removed":
        shutil.rmtree(run_folder / "checkpoints", ignore_errors=True)
    elif case == "journal cut to nothing":
        os.truncate(run_folder / "journal.bin", 0)
    elif case == "everything in the folder removed":
        shutil.copytree(run_folder, away, ignore_dangling_symlinks=True)
        for path in run_folder.iterdir():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
    elif case.startswith("folder"):
        run_folder.rename(away)
        if "removed" in case:
            shutil.rmtree(away, ignore_errors=True)
        elif "file" in case:
            run_folder.write_text("what is this?")
    else:
        name = {"journal": "journal.bin", "metrics": "metrics.jsonl", "config": "config.toml"}
        away.mkdir()
        (run_folder / name[case.split()[0]]).rename(away / name[case.split()[0]])
    ended = job.ended(since)
    wrong = []
    where = away if case == "folder moved away" else run_folder
    if ended.code == 0:  # whatever was done, a run that ends as if it were done is whole
        wrong += [
            f"exit code 0, but {what}" for what in runs.differences(where, runs.reference(LONG))
        ]
    mend(case, run_folder, away)
    return ended, wrong


def mend(case: str, run_folder: Path, away: Path) -> None:
    """Put back what can be put back, as a user would; what is damaged beyond that is begun anew."""
    if case in ("folder moved away", "folder replaced by a file"):
        if run_folder.is_file():
            run_folder.unlink()
        shutil.rmtree(run_folder, ignore_errors=True)
        away.rename(run_folder)
    elif case in ("journal removed", "config removed"):
        (name,) = (path.name for path in away.iterdir())
        if not (run_folder / name).exists():
            run_folder.mkdir(exist_ok=True)
            (away / name).rename(run_folder / name)
    elif case in ("journal cut to nothing", "everything in the folder removed"):
        shutil.rmtree(run_folder, ignore_errors=True)


def on_a_small_disk(case: str, folder: Path, ranks: int, dice: random.Random) -> Ended | None:
    """A file system with little room, with few files, or that turns read-only; None where none can be mounted."""
    disk, run_folder = folder / "disk", folder / "disk" / "run"
    room = {
        "small disk": f"size={4 * dice.randrange(2, 25)}k",
        "few inodes": f"nr_inodes={dice.randrange(3, 14)}",
    }
    if not mount(disk, room.get(case, "size=4m")):
        return None
    job = start(folder, ranks, dice)
    since = time.monotonic()
    if case == "disk made read-only":
        wanted = dice.randrange(1, 60)
        job.wait_until(lambda: runs.lines_of(run_folder) >= wanted)
        since = time.monotonic()
        # the journal is open for writing, so mount refuses until it is forced through a second mount
        words = ["mount", "-o", "remount,ro,bind", str(disk)]
        subprocess.run(["mount", "--bind", str(disk), str(disk)], check=False)
        subprocess.run(words, capture_output=True, check=False)
    return job.ended(since)


def unmounted(disk: Path) -> None:
    """Take what is on a mounted disk to the folder below it."""
    kept = disk.with_name("kept")
    shutil.copytree(disk, kept)
    while subprocess.run(["umount", str(disk)], capture_output=True, check=False).returncode == 0:
        pass
    shutil.copytree(kept, disk, dirs_exist_ok=True)


def trial(seed: int, folder: Path, options: Options) -> Outcome:
    """Break the disk at a random moment, mend it, and resume."""
    case, dice = chosen(seed, CASES, options)
    ranks = dice.choice(options.ranks)
    run_folder = folder / "disk" / "run"
    (folder / "disk").mkdir()
    wrong: list[str] = []
    if case in MOUNTS:
        tried = on_a_small_disk(case, folder, ranks, dice)
        if tried is None:
            return Outcome(case, "ignored: it can't be mounted here", 0.0)
        ended = tried
    elif case in MOVES:
        ended, wrong = moved(case, folder, ranks, dice)
    elif case == FILE_LIMIT:
        ended = with_a_limit(folder, ranks, dice)
    else:
        ended = on_a_failing_disk(case, folder, ranks, dice)
    try:
        done = ended.code == 0 and case in MOVES  # looked at already
        wrong += ended.wrong() if done else runs.not_excused(run_folder, ended)
        if ended.code not in (*REFUSED, 0):
            wrong.append(f"exit code {ended.code}: {ended.last_line}")
        if case in HARMLESS and ended.code != 0:
            wrong.append(f"exit code {ended.code}: {ended.last_line}")
        if ended.code and len(ended.last_line) > 1000:
            wrong.append(f"a message of {len(ended.last_line)} characters")
        if ended.code and case in FAULTS and not _names_the_reason(ended, case):
            wrong.append(f"the reason is not in: {ended.last_line}")
    finally:
        if case in MOUNTS:
            unmounted(folder / "disk")
    further, _ = runs.resumed(run_folder, folder, runs.reference(LONG), LONG, ranks=ranks)
    return Outcome(case, ended.how, ended.seconds + ended.gone_after, (*wrong, *further))


def _names_the_reason(ended: Ended, case: str) -> bool:
    number = FAULTS[case][1]
    return number is None or os.strerror(number) in ended.errors or errno.errorcode[number] in ended.errors  # fmt: skip


def main(words: list[str] | None = None) -> int:
    """The program."""
    return run("disks", (__doc__ or "").splitlines()[0], trial, CASES, "0,2", words)


if __name__ == "__main__":
    sys.exit(main())
