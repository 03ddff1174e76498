"""What a new user does wrong ends in one line with what to do, whichever command it is done with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from esd.commands import init
from esd.config.experiment_files import read_experiment
from esd.errors import UsageError
from esd.run.training_folder import check_writable
from tests.helpers.shell import MPIRUN, TINY, environment, esd


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A disk that is mounted read-only."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "none", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs root, to mount a disk read-only")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_read_only_disk_is_named_before_anything_is_started(read_only: Path) -> None:
    for words in (("train",), ("launch", "-n", "2", "train"), ("submit", "cartpole")):
        if words[0] == "launch" and MPIRUN is None:
            continue
        given = () if words[0] == "submit" else TINY
        done = esd(*words, *given, "--run", read_only / "run", cwd=read_only.parent)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert (
            f"{read_only}: is on a read-only file system; use another folder with --run"
            in done.stderr
        )


def test_a_folder_without_permission_is_told_from_a_read_only_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_writable(tmp_path / "a" / "b")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(
        UsageError, match="no permission to write in it; use another folder with --run"
    ):
        check_writable(tmp_path / "a")


def test_a_misspelled_file_is_answered_with_the_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("reach.toml").touch()
    Path("sub").mkdir()
    Path("sub/push.toml").touch()
    for word, meant in (
        ("reahc.toml", "reach.toml"),
        ("reahc", "reach.toml"),
        ("reach", "reach.toml"),
        ("sub/psh.toml", "sub/push.toml"),
        ("cartpol", "cartpole"),
        ("cartpole.toml", "cartpole"),
    ):
        with pytest.raises(UsageError, match=f"did you mean '{meant}'"):
            read_experiment(word)
    with pytest.raises(UsageError, match=r"zzzzz\.toml: no such file$"):
        read_experiment("zzzzz.toml")
    with pytest.raises(UsageError, match=r"expected environment, .* did you mean 'environment'"):
        init.kind_of("enviroment")


def test_a_working_directory_that_was_removed_is_named(tmp_path: Path) -> None:
    for words in ("train", "doctor cartpole", "init policy", "submit cartpole --dry-run", "list"):
        script = f'mkdir gone && cd gone && rmdir ../gone && exec "{sys.executable}" -m esd {words}'
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        if words == "list":  # which needs none
            assert done.returncode == 0
            continue
        said = "esd: the working directory no longer exists; change to another one (cd)"
        assert (done.returncode, done.stderr.strip()) == (2, said)
