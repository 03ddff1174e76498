"""A config that was changed by hand is refused by whatever reads a run, before a wrong number is printed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import esd
from esd.cli import app
from esd.errors import UsageError
from esd.run.folder import RunFolder
from esd.training.plan import TrainRequest, make_plan
from tests.helpers.configs import small
from tests.helpers.training import trained


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    trained(small("cartpole", "es.optimizer=sgd"), folder)
    return folder


@pytest.fixture
def changed(whole: Path, tmp_path: Path) -> Path:
    """A run whose optimizer was changed in config.toml."""
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    change(run, 'optimizer = "sgd"', 'optimizer = "adam"')
    return run


def change(run: Path, before: str, after: str) -> None:
    file = run / "config.toml"
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after))


NAMED = "config.toml: is not the config of this run: es.optimizer = 'adam' was 'sgd'"

READERS: dict[str, Callable[[Path], Any]] = {
    "config": lambda run: esd.Run(run).config,
    "generation": lambda run: esd.Run(run).generation,
    "h": lambda run: esd.Run(run).h(),
    "a past h": lambda run: esd.Run(run).h(1),
    "parameters": lambda run: esd.Run(run).parameters(),
    "metrics": lambda run: esd.Run(run).metrics(),
    "findings": lambda run: esd.Run(run).findings(),
    "policy": lambda run: esd.Run(run).policy(),
    "evaluate": lambda run: esd.Run(run).evaluate(episodes=1),
    "resume": lambda run: esd.resume(run, verbose=False),
    "train": lambda run: esd.train("cartpole", run=run, verbose=False),
    "start_from": lambda run: esd.train(run=run.parent / "b", start_from=run, verbose=False),
}


@pytest.mark.parametrize("reader", READERS)
def test_python_refuses_it(reader: str, changed: Path) -> None:
    with pytest.raises(UsageError) as caught:
        READERS[reader](changed)
    assert NAMED in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ["show", "RUN"],
        ["show", "RUN", "--json"],
        ["show", "RUN", "--csv"],
        ["show", "RUN", "--follow"],
        ["show", "RUN", "--generation", "1"],
        ["eval", "RUN"],
        ["eval", "RUN", "--trace", "x.safetensors"],
        ["compare", "a=RUN", "b=RUN"],
        ["doctor", "RUN"],
        ["train", "--run", "RUN"],
        ["train", "cartpole", "--run", "RUN"],
        ["train", "--from", "RUN", "--run", "RUN-child"],
    ],
)
def test_every_command_refuses_it_in_one_line(
    words: list[str],
    changed: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = [word.replace("RUN", str(changed)) for word in words]
    for stream in ("stdout", "stderr"):  # a command takes the process's own
        monkeypatch.setattr(sys, stream, getattr(sys, stream))
    assert app(arguments, standalone_mode=False) == 2
    printed = "".join(capfd.readouterr())
    assert NAMED in printed
    assert printed.count("\n") == 1
    assert not changed.with_name("run-child").exists()


def test_what_h_does_not_depend_on_may_be_changed_by_hand(whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    change(run, "checkpoint_every = 2", "checkpoint_every = 3")
    change(run, "generations = 5", "generations = 6")
    assert esd.Run(run).config.run.checkpoint_every == 3


@pytest.mark.parametrize(
    "provenance", [None, "", "[]", "[{}]", "{}", '[{"settings_of_h": {}}]', "\xff"]
)
def test_without_the_settings_in_the_provenance_it_is_refused_all_the_same(
    provenance: str | None, changed: Path
) -> None:
    file = changed / "provenance.json"
    file.unlink()
    if provenance is not None:
        file.write_text(provenance, "latin-1")
    with pytest.raises(UsageError, match=r"its hash in journal\.bin is another one"):
        esd.Run(changed).h()


def test_a_pipe_in_place_of_the_provenance_does_not_block(changed: Path) -> None:
    (changed / "provenance.json").unlink()
    os.mkfifo(changed / "provenance.json")
    with pytest.raises(UsageError, match=r"its hash in journal\.bin is another one"):
        esd.Run(changed).h()


def test_many_long_differences_stay_one_line_of_bounded_length(whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    long = "x" * 5000
    change(run, "seed = 0", "seed = 1")
    change(run, "population = 14", "population = 16")
    change(run, 'id = "CartPole-v1"', f'id = "{long}"')
    change(run, 'shaping = "', 'shaping = "sign"\n# "')
    change(run, "sigma = 0.2", "sigma = 0.3")
    with pytest.raises(UsageError) as caught:
        RunFolder(run).config()
    assert len(str(caught.value)) - len(str(run)) < 600
    assert "and 2 more" in str(caught.value)


def test_a_changed_format_is_named(whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    change(run, "format = 3", "format = 1")
    with pytest.raises(UsageError, match="format = 1 was 3"):
        make_plan(TrainRequest(run=run), lambda text: None)


def test_the_first_call_in_the_provenance_has_the_settings_that_h_depends_on(whole: Path) -> None:
    calls = json.loads((whole / "provenance.json").read_text())
    assert calls[0]["settings_of_h"]["es.optimizer"] == "sgd"
    assert "generations" not in calls[0]["settings_of_h"]
