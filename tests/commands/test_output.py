"""What stdout can't take ends no training, and beside ``--json`` stdout holds one object, whoever prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.shell import TINY, command, environment, esd

# prints in every way that there is, also when it is imported and when Python ends
LOUD = """
import atexit, ctypes, os, subprocess, sys
C = ctypes.CDLL(None)
def shout(where):
    print("python", where)
    sys.__stdout__.write("dunder " + where + "\\n")
    C.puts(("C " + where).encode())
    C.fflush(None)
    os.write(1, ("descriptor " + where + "\\n").encode())
    subprocess.run(["echo", "child", where], check=True)
shout("import")
atexit.register(shout, "exit")
def sphere(x):
    shout("call")
    return float((x ** 2).sum())
"""
TABLE = """
generations = 1
population = 2
[objective]
function = "loud:sphere"
direction = "minimize"
[objective.parameters.x]
shape = [2]
initial = 1.0
"""


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loud")
    (folder / "loud.py").write_text(LOUD)
    (folder / "loud.toml").write_text(TABLE)
    result = esd("train", "loud.toml", "--run", "run", "--json", cwd=folder)
    (folder / "trained.txt").write_text(result.stdout)
    assert result.returncode == 0, result.stderr
    for way in ("python", "dunder", "C", "descriptor", "child"):
        for where in ("import", "call", "exit"):
            assert f"{way} {where}" in result.stderr
    return folder


def test_json_is_alone_on_stdout_whoever_prints_and_whenever(loud: Path) -> None:
    assert json.loads((loud / "trained.txt").read_text())["generation"] == 1
    for words in (("eval", "run"), ("show", "run"), ("doctor", "run"), ("list", "objectives")):
        result = esd(*words, "--json", cwd=loud)
        assert isinstance(json.loads(result.stdout), dict), words


def test_json_is_alone_on_stdout_under_mpirun(loud: Path) -> None:
    result = esd("train", "loud.toml", "--run", "ranks", "--json", cwd=loud, ranks=2)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["finished"]


def run_into(
    stdout: int, *words: str | Path, cwd: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words),
        cwd=cwd,
        env=environment(**variables),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=120,
    )


def closed_pipe() -> int:
    """A pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("where", ["full disk", "closed pipe"])
def test_a_training_goes_on_when_stdout_fails(where: str, tmp_path: Path) -> None:
    stdout = os.open("/dev/full", os.O_WRONLY) if where == "full disk" else closed_pipe()
    result = run_into(stdout, "train", *TINY, "--run", "run", cwd=tmp_path)
    os.close(stdout)
    assert result.returncode == 0, result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "stdout can no longer be written" in result.stderr
    assert json.loads((tmp_path / "run" / "DONE.json").read_text())["generation"] == 3


def test_a_training_whose_streams_are_closed_writes_no_text_into_its_files(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "esd", "train", *TINY, "--run", "run"]
    script = 'exec "$@" <&- >&- 2>&-'
    ended = subprocess.run(
        ["sh", "-c", script, "sh", *words], cwd=tmp_path, env=environment(), check=False
    )
    assert ended.returncode == 0
    shown = json.loads(esd("show", "run", "--json", cwd=tmp_path).stdout)
    assert (shown["finished"], shown["generation"]) == (True, 3)


def test_a_result_that_is_lost_has_exit_code_1(run: Path) -> None:
    for words in (("show", run), ("show", run, "--json"), ("eval", run, "--episodes", "2")):
        stdout = os.open("/dev/full", os.O_WRONLY)
        result = run_into(stdout, *words, cwd=run.parent)
        os.close(stdout)
        assert result.returncode == 1, words
        assert len(result.stderr.splitlines()) == 1
        assert "No space left on device" in result.stderr
    assert len(list((run / "evaluations").iterdir())) == 1


def test_an_ascii_terminal_shows_everything_in_its_own_letters(run: Path) -> None:
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    result = esd("eval", run, "--episodes", "2", cwd=run.parent, **ascii_only)
    assert result.returncode == 0, result.stderr
    assert result.stdout.isascii()
    described = run.rename(run.parent / "höhe")
    shown = esd("show", described, "--json", cwd=run.parent, **ascii_only)
    assert shown.stdout.isascii()
    assert json.loads(shown.stdout)["run"] == str(described)
    listed = esd("list", "settings", cwd=run.parent, **ascii_only)
    assert listed.returncode == 0, listed.stderr
    assert " - 1)" in listed.stdout  # 2^64 - 1, whose sign is no ASCII


def test_help_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    stdout = os.open("/dev/full", os.O_WRONLY)
    result = run_into(stdout, "--help", cwd=tmp_path)
    os.close(stdout)
    assert result.returncode == 1
    assert result.stderr == "esd: stdout: can't be written (No space left on device)\n"
