"""The run that is broken, and what it has to be in the end: the same h and journal as without any fault."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.faults.jobs import Ended, Job
from tests.helpers.shell import esd

GENERATIONS = 60
EXPERIMENT = (
    "cartpole-static", "--set=seed=4", f"--set=generations={GENERATIONS}", "--set=population=8",
    "--set=env.max_steps=60", "--set=policy.hidden=[4]", "--set=run.center_episodes=2", "--set=run.checkpoint_every=4",
    "--set=run.deadline_minutes=1.0",
)  # fmt: skip
CHECKPOINT = re.compile(r"checkpoints/generation-\d{8}\.safetensors")
ATTEMPTS = 4  # to resume


@dataclass(frozen=True)
class Reference:
    """A run that nothing happened to.

    Attributes:
        h_sha256: of its last h.
        journal: the bytes of its journal.
        env_steps: of all its generations.
        names: of the files in its folder.
    """

    h_sha256: str
    journal: bytes
    env_steps: int
    names: frozenset[str]


def names_in(run: Path) -> frozenset[str]:
    """The files below a folder."""
    return frozenset(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())


@cache
def reference(*settings: str) -> Reference:
    """The run without a fault, in one process."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        result = esd("train", *EXPERIMENT, *settings, "--run", run, cwd=Path(folder))
        assert result.returncode == 0, result.stderr
        return of_folder(run)


def of_folder(run: Path) -> Reference:
    """What is compared of a finished run."""
    done = json.loads((run / "DONE.json").read_text())
    journal = (run / "journal.bin").read_bytes()
    return Reference(done["h_sha256"], journal, done["env_steps"], names_in(run))


def lines_of(run: Path) -> int:
    """How many generations a run's metrics have."""
    with contextlib.suppress(OSError):
        return (run / "metrics.jsonl").read_bytes().count(b"\n")
    return 0


def is_done(run: Path) -> bool:
    """Whether a run says that it is finished."""
    return (run / "DONE.json").exists()


def not_excused(run: Path, ended: Ended) -> list[str]:
    """What is wrong with a broken call, whatever broke it."""
    found = ended.wrong()
    if ended.code == 0 and not is_done(run):
        found.append("exit code 0, but the run is not done")
    return found


def differences(
    run: Path, expected: Reference, may_be_left: frozenset[str] = frozenset()
) -> list[str]:
    """What is wrong with a run that has been taken up again until it was done, but for files that may be left."""
    try:
        done = json.loads((run / "DONE.json").read_text())
        journal = (run / "journal.bin").read_bytes()
    except OSError as error:
        return [f"no {error.filename}"]
    found = []
    if done["h_sha256"] != expected.h_sha256:
        found.append("ANOTHER h")
    if journal != expected.journal:
        found.append("another journal")
    if done["env_steps"] != expected.env_steps:
        found.append(f"env_steps = {done['env_steps']}, not {expected.env_steps}")
    # which of the older checkpoints are kept depends on where a run was stopped
    names = frozenset(
        name for name in names_in(run) if name in expected.names or not CHECKPOINT.fullmatch(name)
    )
    for what, which in (
        ("left in the folder", names - expected.names - may_be_left),
        ("missing in the folder", _newest(expected.names) - names),
    ):
        if which:
            found.append(f"{what}: {', '.join(sorted(which))}")
    return found


def _newest(names: frozenset[str]) -> frozenset[str]:
    """All names but those of older checkpoints."""
    checkpoints = sorted(name for name in names if CHECKPOINT.fullmatch(name))
    return names - {*checkpoints[:-1]}


def resumed(
    run: Path, cwd: Path, expected: Reference, *settings: str, ranks: int = 0
) -> tuple[list[str], int]:
    """Give the same command again until it ends with 0; what is wrong then, and how many calls it took."""
    ended = None
    for attempt in range(1, ATTEMPTS + 1):
        ended = Job("train", *EXPERIMENT, *settings, "--run", run, cwd=cwd, ranks=ranks).ended()
        wrong = not_excused(run, ended)
        if ended.code == 0 or wrong:
            return [*wrong, *differences(run, expected)], attempt
    assert ended is not None
    return [f"the resume ends with {ended.code}: {ended.last_line}"], ATTEMPTS


def emptied(folder: Path) -> Path:
    """A folder with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)  # noqa: PTH103
    return folder
