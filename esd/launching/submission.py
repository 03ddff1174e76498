"""A submission on disk: ``submissions/NAME/`` beside the folders of its runs.

It holds ``job.sh``, ``submission.json``, a copy of the experiment's file, the logs, and ``starts/``, in which the
script notes how far each task was when it was started last.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esd.errors import RunError, UsageError
from esd.reading import MB, read_json
from esd.run.files import json_text, write_atomically

FOLDER = "submissions"
FILE, SCRIPT, EXPERIMENT = "submission.json", "job.sh", "experiment.toml"
MOST_BYTES = 64 * MB
MOST_NUMBERS = 1_000_000


@dataclass(frozen=True)
class SubmittedTask:
    """One task of a submission.

    Attributes:
        submission: the name of its folder.
        job: its id as SLURM writes it, with the task's number if it is one of an array.
        array: the id without that number.
        run: the name of the run's folder, beside ``submissions``.
        settings: its own ``key=value`` texts.
    """

    submission: str
    job: str
    array: str
    run: str
    settings: tuple[str, ...]


def free_name(parent: Path, name: str) -> str:
    """A name that no submission has yet: ``name-1``, ``name-2`` and so on."""
    return next(
        free
        for number in range(1, MOST_NUMBERS)
        if not os.path.lexists(parent / FOLDER / (free := f"{name}-{number}"))
    )


def make_folder(parent: Path, name: str) -> str:
    """Make the folder of a new submission; its name.

    Raises:
        RunError: if it can't be made.
    """
    while True:
        free = free_name(parent, name)
        try:
            (parent / FOLDER / free).mkdir(parents=True)
        except FileExistsError:  # somebody else was faster
            if not (parent / FOLDER).is_dir():
                raise RunError(f"{parent / FOLDER}: is not a folder; remove it") from None
            continue
        except OSError as error:
            raise RunError(
                f"{parent / FOLDER / free}: can't be created ({error.strerror}); use another folder with --run"
            ) from None
        return free


def write(folder: Path, name: str, content: str) -> Path:
    """Write a file of a submission, whatever bytes paths in it are made of; its path."""
    path = folder / name
    write_atomically(path, content.encode("utf-8", "surrogateescape"))
    return path


def missing_folders(folder: Path) -> list[Path]:
    """A folder and those above it that are not there yet, the deepest first."""
    found = []
    while not os.path.lexists(folder) and folder != folder.parent:
        found.append(folder)
        folder = folder.parent
    return found


def remove(folder: Path, above: Sequence[Path] = ()) -> None:
    """Remove the folder of a submission that was not queued, and what is in it; that it can't be is no news.

    Args:
        folder: it.
        above: folders that were made for it, the deepest first; those that are empty go, too.
    """
    with contextlib.suppress(OSError):
        for name in (FILE, SCRIPT, EXPERIMENT):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
        for made in above:
            made.rmdir()  # unless there is something else in it


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write ``submission.json``."""
    data = json_text(record, indent=1).encode("utf-8", "surrogateescape")
    write_atomically(folder / FILE, data + b"\n")


def submitted_tasks(parent: Path, warn: Any = lambda text: None) -> Iterator[SubmittedTask]:
    """The tasks of all submissions in a folder of runs, the oldest first.

    Args:
        parent: the folder.
        warn: is called with a line on each file that can't be read.
    """
    places = (parent / FOLDER).glob(f"*/{FILE}")
    found = []
    for path in places:
        try:
            found.append((path.lstat().st_mtime_ns, path))
        except OSError:
            continue
    for _, path in sorted(found):
        try:
            yield from _tasks_of(path)
        except FileNotFoundError:
            continue
        except UsageError as error:
            warn(str(error))


def _tasks_of(path: Path) -> Iterator[SubmittedTask]:
    """The tasks of one; anyone may have written the file."""
    record = read_json(path, MOST_BYTES)
    tasks = record.get("tasks") if isinstance(record, dict) else None
    if not isinstance(tasks, list):
        raise UsageError(f"{path}: not a file that esd submit has written; remove its folder")
    array = record.get("job")
    array = array if isinstance(array, str) and re.fullmatch(r"\d{1,18}", array) else ""
    for task in tasks:
        if not isinstance(task, dict):
            continue
        run, settings, number = task.get("run"), task.get("settings"), task.get("task")
        if not isinstance(run, str) or not run or "/" in run or "\0" in run or run in (".", ".."):
            continue
        texts = tuple(map(str, settings)) if isinstance(settings, list) else ()
        in_array = record.get("array") is True and isinstance(number, int)
        job = f"{array}_{number}" if array and in_array else array
        yield SubmittedTask(path.parent.name, job, array, run, texts)
