"""A command ends what a user's code has started, and nothing else."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esd import cli
from esd.commands.leaving import (
    HEARD_SECONDS,
    LEAVE_SECONDS,
    OTHERS_SECONDS,
    descendants,
    end_children,
)
from tests.helpers.shell import command, environment

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_processes_that_were_there_before_a_command_are_left_alone() -> None:
    with subprocess.Popen(SLEEP) as before:
        others = frozenset(descendants(os.getpid()))
        assert before.pid in others
        with subprocess.Popen(SLEEP) as left:
            end_children(others)
            assert left.wait(10) == -9
        assert before.poll() is None
        before.kill()


POOLED = """
import multiprocessing
import numpy as np
pool = None
def square(x):
    return float(x) ** 2
def bowl(x):
    global pool
    if pool is None:
        pool = multiprocessing.Pool(2)
    return sum(pool.map(square, np.ravel(x)))
"""


def test_a_pool_of_processes_that_the_users_code_keeps_does_not_keep_esd(tmp_path: Path) -> None:
    """One whose workers are killed may wait for ever for a lock that a worker had."""
    (tmp_path / "pooled.py").write_text(POOLED)
    words = ["--set=generations=1", "--set=population=2", "--set=objective.function=pooled:bowl"]
    began = time.monotonic()
    done = subprocess.run(
        command("train", "rosenbrock", "--run", "run", *words),
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "DONE.json").exists()
    assert "left behind" not in done.stderr
    assert time.monotonic() - began < LEAVE_SECONDS


@pytest.mark.parametrize(
    ("rank", "words", "waits"),
    [
        ("0", ["train", "--bogus"], HEARD_SECONDS),
        ("1", ["train", "--bogus"], OTHERS_SECONDS),
        ("1", ["train", "--help"], None),
        (None, ["train", "--bogus"], None),
    ],
)
def test_under_mpirun_a_wrong_command_line_is_heard_before_a_rank_ends(
    rank: str | None, words: list[str], waits: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rank is not None:
        monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
        monkeypatch.setenv("OMPI_COMM_WORLD_RANK", rank)
    monkeypatch.setattr(sys, "argv", ["esd", *words])
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
    for name in ("leave", "die_with_parent", "guarded"):
        monkeypatch.setattr(cli, name, lambda *_: contextlib.nullcontext())
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with pytest.raises(SystemExit):
        cli.main()
    assert slept == ([] if waits is None else [waits])
