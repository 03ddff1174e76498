"""A folder of runs as a table: what was submitted, where SLURM has it, and how far it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esd.errors import UsageError

if TYPE_CHECKING:
    from esd.launching.slurm import State
    from esd.launching.submission import SubmittedTask

Warn = Callable[[str], None]
LONGEST_SETTINGS = 40  # characters in a column


def is_folder_of_runs(path: Path) -> bool:
    """Whether there are submissions or runs in a folder that is no run itself."""
    from esd.launching.submission import FOLDER
    from esd.run.folder import RunFolder
    from esd.run.trust import Trust

    folder = RunFolder(path, Trust.NEVER)  # first: it refuses what can't be a path
    if not folder.place.is_dir() or folder.is_run:
        return False
    return (path / FOLDER).is_dir() or next(_run_names(path), None) is not None


def rows_of(path: Path, warn: Warn) -> list[dict[str, Any]]:
    """The runs of a folder, those that were submitted first, in the order of their submission.

    Args:
        path: the folder.
        warn: is called with a line about what can't be read.

    Returns:
        For each ``run``, ``settings``, ``job``, ``state``, ``reason``, ``generation``, ``generations`` and
        ``best_center_return``; None for what nobody knows.
    """
    from esd.launching import slurm
    from esd.launching.submission import submitted_tasks

    newest: dict[str, SubmittedTask] = {}
    for task in submitted_tasks(path, warn):
        newest.pop(task.run, None)  # its place is that of the newest submission
        newest[task.run] = task
    states = slurm.states({task.array for task in newest.values()}) if newest else {}
    names = [*newest, *(name for name in _run_names(path) if name not in newest)]
    return [_row(path / name, newest.get(name), states, warn) for name in names]


def print_rows(rows: list[dict[str, Any]]) -> None:
    """The same for people."""
    from esd.commands.console import print_table
    from esd.errors import shortened

    table = [("run", "settings", "job", "state", "generation", "best")]
    for row in rows:
        reason = f" ({row['reason']})" if row["reason"] else ""
        of = "" if row["generations"] is None else f"/{row['generations']}"
        generation = "–" if row["generation"] is None else f"{row['generation']}{of}"
        best = row["best_center_return"]
        table.append((
            shortened(row["run"]), shortened(" ".join(row["settings"]), LONGEST_SETTINGS) or "–", row["job"] or "–",
            f"{row['state']}{reason}", generation, "–" if best is None else f"{best:,.6g}",
        ))  # fmt: skip
    print_table(table, right=(4, 5))


def _run_names(path: Path) -> Iterator[str]:
    """The names of the runs right below a folder, sorted."""
    from esd.run.folder import RunFolder
    from esd.run.trust import Trust

    try:
        names = sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror})") from None
    return (name for name in names if RunFolder(path / name, Trust.NEVER).is_run)


def _row(
    path: Path, task: SubmittedTask | None, states: dict[str, State], warn: Warn
) -> dict[str, Any]:
    """A line of the table."""
    found = _progress(path, warn)
    finished, damaged = found.pop("finished"), found.pop("damaged")
    state = states.get(task.job) if task is not None else None
    if damaged:
        name, reason = "damaged", ""
    elif finished and (state is None or state.name not in ("RUNNING", "PENDING")):
        name, reason = "done", ""
    elif state is not None:
        name, reason = state.name.lower(), state.reason
    else:
        name, reason = "not started" if found["generation"] is None else "stopped", ""
    return {
        "run": path.name,
        "settings": list(task.settings) if task is not None else [],
        "job": task.job or None if task is not None else None,
        "state": name,
        "reason": reason or None,
        **found,
    }


def _progress(path: Path, warn: Warn) -> dict[str, Any]:
    """How far a run is; one that can't be read is a line of its own, not the end."""
    from esd.run import metrics
    from esd.run.folder import RunFolder
    from esd.run.trust import Trust

    nothing: dict[str, Any] = {
        "generation": None, "generations": None, "best_center_return": None, "finished": False, "damaged": False,
    }  # fmt: skip
    folder = RunFolder(path, Trust.NEVER)
    if not folder.is_run:
        return nothing
    try:
        config = folder.config()
        done = folder.done(warn) or {}  # before the journal: the run may end in between
        generation = folder.journal(config, verify=False).next_generation
        lines = metrics.read(folder.metrics_file)
        if not lines or lines[-1]["generation"] < generation - 1:
            lines = folder.metrics_lines(config, warn)
        if done and generation < done["generation"]:
            raise UsageError(
                f"{folder.journal_file}: ends at generation {generation}, but the run was done at generation "
                f"{done['generation']}; restore it from a copy"
            )
    except (UsageError, OSError) as error:
        warn(str(error))
        return {**nothing, "damaged": True}
    return {
        "generation": generation,
        "generations": config.generations,
        "best_center_return": folder.best_center_return(config, lines),
        "finished": bool(done),
        "damaged": False,
    }
