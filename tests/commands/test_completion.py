"""Shell completion: what follows on the command line, in a real bash and, where they are installed, fish and zsh."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esd.commands import completion
from esd.config.descriptions import described_settings
from tests.helpers.shell import environment


def values(candidates: list[completion.Candidate]) -> list[str]:
    """Candidates without what is said of them."""
    return [c if isinstance(c, str) else c[0] for c in candidates]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with runs, an experiment of one's own and other things."""
    for run in ("runs/cartpole-es.sigma=0.05-s0", "runs/cartpole-s1", "alone"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "config.toml").touch()
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "mine.toml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_experiments_are_the_shipped_ones_and_toml_files(here: Path) -> None:
    assert values(completion.experiments("cartpole-hidden")) == [
        "cartpole-hidden",
        "cartpole-hidden-static",
    ]
    assert values(completion.experiments("mi")) == ["mine.toml"]
    assert values(completion.experiments(f"{here}/mi")) == [f"{here}/mine.toml"]
    assert values(completion.experiments("nowhere/")) == []


def test_runs_are_found_below_the_folder_that_is_typed(here: Path) -> None:
    both = ["runs/cartpole-es.sigma=0.05-s0", "runs/cartpole-s1"]
    assert values(completion.runs("ru")) == both
    assert values(completion.runs("runs/")) == both
    assert values(completion.runs("runs/cartpole-s")) == ["runs/cartpole-s1"]
    assert values(completion.runs("./runs/cartpole-s")) == ["./runs/cartpole-s1"]
    assert values(completion.runs("")) == ["alone", *both]
    assert values(completion.runs("runs/notes")) == []


def test_settings_are_completed_by_key_and_then_by_value() -> None:
    assert "es.sigma_min=" in values(completion.settings("es.sigma"))
    assert values(completion.settings("es.learning_rate_m")) == [
        "es.learning_rate_min=",
        "es.learning_rate_min=0.0",
    ]
    assert values(completion.settings("es.optimizer=")) == [
        f"es.optimizer={name}" for name in ("sgd", "momentum", "adam", "clipup")
    ]
    assert values(completion.settings("es.optimizer=c")) == ["es.optimizer=clipup"]
    assert values(completion.settings("policy.kind=g")) == ["policy.kind=gru"]
    assert values(completion.settings("run.allow_drift=")) == [
        "run.allow_drift=true",
        "run.allow_drift=false",
    ]
    assert values(completion.settings("env.id=CartPole-v")) == [
        "env.id=CartPole-v0",
        "env.id=CartPole-v1",
    ]
    assert values(completion.settings("no.such=")) == []
    assert all(
        name.startswith(("env.", "policy.")) for name in values(completion.settings_of_episodes(""))
    )


def test_every_setting_that_can_be_written_is_completed() -> None:
    offered = set(values(completion.settings("")))
    for name in described_settings():
        key = f"{name.partition('<')[0]}{name.rpartition('>.')[2]}" if ">." in name else name
        if "objective.parameters.<" not in name:
            assert f"{key}=" in offered, name


def test_what_is_said_of_a_candidate_fits_on_a_line() -> None:
    for candidate in (*completion.settings(""), *completion.experiments("")):
        assert isinstance(candidate, tuple) or candidate.endswith(".toml")
        assert len(candidate[1]) <= 60
        assert "[" not in candidate[1]


@pytest.mark.parametrize(
    ("words", "repaired", "kept"),
    [
        (["esd", "train", "--set", "es.opt"], ["esd", "train", "--set", "es.opt"], ""),
        (
            ["esd", "train", "--set", "es.optimizer", "=", "a"],
            ["esd", "train", "--set", "es.optimizer=a"],
            "es.optimizer=",
        ),
        (
            ["esd", "train", "--set", "es.optimizer", "="],
            ["esd", "train", "--set", "es.optimizer="],
            "es.optimizer=",
        ),
        (
            ["esd", "train", "--set", "a", "=", "1", "--set", ""],
            ["esd", "train", "--set", "a=1", "--set", ""],
            "",
        ),
        (
            ["esd", "show", "runs/x-a", "=", "0.5-s"],
            ["esd", "show", "runs/x-a=0.5-s"],
            "runs/x-a=",
        ),
        (["esd", "launch", "-n", "4", "train", "cart"], ["esd", "train", "cart"], ""),
        (["esd", "launch", "tra"], ["esd", "launch", "tra"], ""),
    ],
)
def test_words_that_bash_cut_are_put_together(
    words: list[str], repaired: list[str], kept: str
) -> None:
    seen = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    assert completion.prepare(seen) == kept
    assert seen == {"COMP_WORDS": "\n".join(repaired), "COMP_CWORD": str(len(repaired) - 1)}


def test_the_line_of_zsh_and_fish_is_changed_only_for_launch() -> None:
    for line, expected in (
        ("esd train cart", "esd train cart"),
        ("esd launch -n 4 train --set es.", "esd train --set es."),
        ("esd launch -n 4 train ", "esd train "),
        ("esd show 'half a", "esd show 'half a"),
    ):
        seen = {"_TYPER_COMPLETE_ARGS": line}
        completion.prepare(seen)
        assert seen["_TYPER_COMPLETE_ARGS"] == expected


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a shell that finds esd, and esd's scripts in ``SCRIPTS``."""
    folder = tmp_path_factory.mktemp("shells")
    program = "import sys; sys.argv[0] = 'esd'; from esd.__main__ import main; main()"
    esd = folder / "esd"
    esd.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{program}" "$@"\n')
    esd.chmod(0o755)
    variables = environment(
        PATH=f"{folder}:{os.environ['PATH']}",
        HOME=str(folder),
        SCRIPTS=str(folder),
        _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",
    )
    for name in ("bash", "zsh", "fish"):
        script = subprocess.run(
            ["esd"], env={**variables, "_ESD_COMPLETE": f"source_{name}"}, capture_output=True, text=True, check=True
        )  # fmt: skip
        (folder / f"esd.{name}").write_text(script.stdout)
    return variables


def test_a_real_bash_completes(shell: dict[str, str], here: Path) -> None:
    program = """
        source "$SCRIPTS/esd.bash"
        complete -p esd
        ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _esd_completion esd; printf '<%s>' "${COMPREPLY[@]}"; }
        ask esd tr; echo; ask esd train --set es.optimizer = a; echo; ask esd show ru
    """
    found = subprocess.run(
        ["bash", "--norc", "-c", program], env=shell, capture_output=True, text=True, check=True
    )
    lines = found.stdout.splitlines()
    assert lines[0].endswith("_esd_completion esd")
    assert lines[1:] == ["<train>", "<adam>", "<runs/cartpole-es.sigma=0.05-s0><runs/cartpole-s1>"]
    assert found.stderr == ""


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is missing: apt-get install fish")
def test_a_real_fish_completes(shell: dict[str, str], here: Path) -> None:
    program = 'source "$SCRIPTS/esd.fish"; complete -C "esd train --set es.optimizer=a"; complete -C "esd show alo"'
    found = subprocess.run(
        ["fish", "--no-config", "-c", program], env=shell, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert [line.split("\t")[0] for line in found.stdout.splitlines()] == [
        "es.optimizer=adam",
        "alone",
    ]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is missing: apt-get install zsh")
def test_a_real_zsh_completes(shell: dict[str, str], here: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], {**shell, "TERM": "dumb", "PS1": "> "})
    try:
        ready = 'autoload -Uz compinit; compinit -u -D; source "$SCRIPTS/esd.zsh"; echo re""ady\n'
        os.write(terminal, ready.encode())
        assert "ready" in until(terminal, "ready")
        os.write(terminal, b"esd train --set es.optimizer=a\t")
        assert "es.optimizer=adam" in until(terminal, "adam")
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def until(terminal: int, word: str, seconds: float = 60.0) -> str:
    """What a terminal shows until a word is there."""
    shown, end = "", time.monotonic() + seconds
    while word not in shown and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")
    return shown
