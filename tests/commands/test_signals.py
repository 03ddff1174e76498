"""Signals to the real ``esd``: before anything is written, twice, and to commands that keep nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers.shell import command, contents, environment, esd, has_signal


def _at_the_import_of(module: str, action: str, folder: Path) -> str:
    """PYTHONPATH for a process in which ``action`` happens when it first imports ``module``."""
    (folder / "sitecustomize.py").write_text(
        "import os, sys\n"
        "def hook(event, arguments):\n"
        f"    if event == 'import' and arguments[0] == {module!r}:\n"
        f"        {action}\n"
        "sys.addaudithook(hook)\n"
    )
    return f"{folder}{os.pathsep}{environment()['PYTHONPATH']}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP])
@pytest.mark.parametrize("exists", [False, True], ids=["a new run", "a run to go on with"])
def test_a_signal_during_the_start_changes_nothing_and_says_how_to_go_on(
    number: signal.Signals, exists: bool, run: Path, tmp_path: Path
) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:  # then esd leaves it so
        pytest.skip(f"{number.name} is ignored here, as under nohup; run the tests without it")
    folder = run if exists else tmp_path / "new"
    before = contents(folder) if exists else None
    path = _at_the_import_of(
        "esd.training.prepare", f"os.kill(os.getpid(), {int(number)})", tmp_path
    )
    words = ("train", "--run", folder, "--set", "generations=9")
    result = esd(*words, cwd=tmp_path, PYTHONPATH=path)
    assert result.returncode == 75, result.stderr
    assert result.stderr == ""
    *_, line = result.stdout.splitlines()
    assert "stopped by a signal before training, nothing changed" in line
    assert line.endswith(
        f"to continue: esd train --run {folder}" if exists else "run the same command again"
    )
    assert (contents(folder) if exists else None) == before
    assert folder.exists() == exists


@pytest.mark.parametrize(
    ("words", "module"),
    [
        (["eval", "RUN", "--episodes", "1000000"], "esd.evaluation.of_run"),
        (["doctor", "RUN"], "esd.doctor.run_folder"),
        (["bench"], "esd.doctor.bench"),
    ],
)
def test_ctrl_c_ends_other_commands_with_a_line_and_130(
    words: list[str], module: str, run: Path, tmp_path: Path
) -> None:
    path = _at_the_import_of(module, f"os.kill(os.getpid(), {int(signal.SIGINT)})", tmp_path)
    result = esd(*(run if word == "RUN" else word for word in words), cwd=tmp_path, PYTHONPATH=path)
    assert result.returncode == 130, result.stderr
    assert result.stderr.strip() in ("esd: interrupted", "Aborted.")


def test_ctrl_c_in_the_middle_of_an_evaluation_ends_it_with_a_line_and_130(
    run: Path, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    path = _at_the_import_of("esd.evaluation.of_run", f"open({str(begun)!r}, 'w')", tmp_path)
    process = subprocess.Popen(
        command("eval", run, "--episodes", "1000000"), cwd=tmp_path, env=environment(PYTHONPATH=path),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not begun.exists():
        time.sleep(0.05)
        assert process.poll() is None
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.strip() == "esd: interrupted"


def test_a_second_ctrl_c_ends_a_generation_at_once_with_130(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\n"
        "def slow(x):\n    pathlib.Path('called').touch()\n    time.sleep(300)\n    return 1.0\n"
    )
    (tmp_path / "slow.toml").write_text(
        "[objective]\nfunction = 'slow:slow'\ndirection = 'minimize'\ncheck_at_start = false\n"
        "[objective.parameters.x]\ninitial = 0.5\n"
    )
    process = subprocess.Popen(
        command("train", "slow.toml"), cwd=tmp_path, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (tmp_path / "called").exists():
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None  # it waits for the generation
    while has_signal(
        process.pid, signal.SIGINT, "SigPnd", "ShdPnd"
    ):  # a second would be lost in it
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "esd: interrupted; all completed generations are kept\n"
