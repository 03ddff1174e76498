"""The commands, and a run whose policy, wrapper and optimizer are somebody's own code."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import esd as api
from esd.cli import app
from esd.config.settings import EnvironmentConfig, Wrapper
from esd.episodes.making import make_environment
from esd.errors import UntrustedError, UsageError
from tests.helpers.shell import esd as call

MODULE = """
import pathlib
pathlib.Path("marker").write_text("imported")  # in the working directory

import dataclasses
import gymnasium
import numpy as np
from esd.evolution.layout import Layout


class Policy:
    squashed = False

    def __init__(self, interface):
        self.layout = Layout({"w": (interface.observation_size, interface.action_size)})

    def initial_parameters(self, seed):
        return np.random.default_rng(seed).standard_normal(self.layout.size).astype(np.float32)

    def load(self, parameters):
        self.w = self.layout.unpack(parameters)["w"].copy()

    def reset(self, seed):
        pass

    def act(self, observation):
        return observation @ self.w


class Wrapper(gymnasium.Wrapper):
    pass


@dataclasses.dataclass(frozen=True)
class Optimizer:
    moment_names = ()

    def initial_scalars(self):
        return {}

    def step(self, ascent):
        ascent.gradient[:] = ascent.gradient * np.float32(ascent.learning_rate)
        return {}
"""
EXPERIMENT = """
generations = 2
population = 4
env.max_steps = 20
env.wrappers = ["somebodys_own:Wrapper"]
policy.kind = "somebodys_own:Policy"
es.optimizer = "somebodys_own:Optimizer"
run.center_episodes = 2
"""
Command = Callable[..., tuple[int, str, str]]
NAMED = ("somebodys_own:", "somebodys_own.py", "add --trust")


def forget() -> None:
    """Let the module be imported anew."""
    sys.modules.pop("somebodys_own", None)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the code, and a run that was created there."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "somebodys_own.py").write_text(MODULE)
    (folder / "own.toml").write_text(EXPERIMENT)
    result = call("train", "own.toml", "--run", "run", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert (folder / "marker").exists()
    yield folder
    forget()


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a copy of the run, and nothing imported yet."""
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "path", [*sys.path])
    forget()
    for name in ("copy", "new"):
        shutil.rmtree(home / name, ignore_errors=True)
    (home / "marker").unlink(missing_ok=True)
    shutil.copytree("run", "copy")
    return home


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Call a command in this process: its exit code, and what it prints."""

    def called(*words: str) -> tuple[int, str, str]:
        for stream in ("stdout", "stderr"):  # a command takes the process's own
            monkeypatch.setattr(sys, stream, getattr(sys, stream))
        code = app([*words], standalone_mode=False)
        return int(code or 0), *capfd.readouterr()

    return called


COMMANDS = [
    "eval copy --episodes 2",
    "train --run copy",
    "train --run copy --set generations=3",
    "train --from copy --run new",
    "train cartpole --from copy --run new",
    "doctor copy --steps 20",
]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_copy_is_refused_before_anything_is_imported(
    words: str, here: Path, command: Command
) -> None:
    code, out, err = command(*words.split())
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert all(name in err for name in NAMED)
    assert not (here / "marker").exists()
    assert not (here / "new").exists()


@pytest.mark.parametrize("words", [COMMANDS[0], COMMANDS[2], COMMANDS[3]])
def test_with_trust_it_goes_on(words: str, here: Path, command: Command) -> None:
    assert command(*words.split(), "--trust")[0] == 0
    assert (here / "marker").exists()


def test_a_training_with_trust_is_remembered(here: Path, command: Command) -> None:
    assert command("train", "--run", "copy", "--set", "generations=3", "--trust")[0] == 0
    assert command("eval", "copy", "--episodes", "1")[0] == 0


@pytest.mark.parametrize("words", ["run --episodes 2", "moved --episodes 2"])
def test_the_run_that_was_created_here_needs_no_trust(
    words: str, here: Path, command: Command
) -> None:
    name = words.split()[0]
    Path("run").rename(name)
    try:
        assert command("eval", *words.split())[0] == 0
    finally:
        Path(name).rename("run")
    assert (here / "marker").exists()


def test_the_same_command_resumes_a_copy(here: Path, command: Command) -> None:
    words = ("train", "own.toml", "--run", "copy", "--set", "generations=3")
    assert command(*words)[0] == 0  # the user's own experiment names the code


@pytest.mark.parametrize("words", ["copy", "run", "copy --json", "copy --csv", "copy --follow"])
def test_show_imports_nothing(words: str, here: Path, command: Command) -> None:
    code, out, err = command("show", *words.split())
    assert (code, err) == (0, "")
    assert out
    assert not (here / "marker").exists()


def test_show_says_what_it_can_not_rebuild(here: Path, command: Command) -> None:
    code, out, err = command("show", "run", "--generation", "1")
    assert (code, out) == (2, "")
    assert "never imports" in err
    shutil.rmtree("copy/checkpoints")
    code, out, err = command("show", "copy", "--json")
    shown = json.loads(out)
    assert (code, shown["generation"], shown["h_sha256"]) == (0, 2, None)
    assert shown["best_center_return"] is not None
    assert err.count("\n") == 1
    assert "never imports" in err
    assert not (here / "marker").exists()


def test_all_ranks_agree_and_one_says_so(here: Path) -> None:
    result = call("eval", "copy", "--episodes", "2", cwd=here, ranks=2)
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("add --trust") == 1
    assert not (here / "marker").exists()


def test_python_asks_for_trust_as_well(here: Path) -> None:
    run = api.Run("copy")
    assert run.config.population == 4
    assert len(run.metrics()) == 3
    assert run.finished
    refused: list[Callable[[], object]] = [
        run.h,
        run.policy,
        run.parameters,
        lambda: run.evaluate(episodes=1),
        lambda: api.resume("copy", settings={"generations": 3}, verbose=False),
        lambda: api.train(run="new", start_from="copy", verbose=False),
        lambda: next(api.generations(run="copy", settings={"generations": 3})),
    ]
    for do in refused:
        with pytest.raises(UntrustedError, match=r"trust=True"):
            do()
    assert not (here / "marker").exists()
    trusted = api.Run("copy", trust=True)
    assert trusted.h(1).size == 8
    assert trusted.evaluate(episodes=1)["episodes"] == 1
    assert trusted.policy().act(trusted.policy().observation_space.sample()) in (0, 1)
    resumed = api.resume("copy", settings={"generations": 3}, trust=True, verbose=False)
    assert resumed.h().size == 8
    assert (here / "marker").exists()


def test_python_m_esd_takes_no_package_from_the_working_directory(tmp_path: Path) -> None:
    for name in ("typer", "numpy", "rich"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from here')\n")
    result = call("list", "experiments", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


def test_an_environment_of_a_package_leaves_the_working_directory_off_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a package that is missing shall not be found there
    monkeypatch.setattr(sys, "path", [*sys.path])
    wrappers = (Wrapper("gymnasium.wrappers:FlattenObservation"), Wrapper("esd_envs:ZeroAction"))
    make_environment(EnvironmentConfig("CartPole-v1", wrappers=wrappers)).close()
    assert str(tmp_path) not in sys.path
    with pytest.raises(UsageError):
        make_environment(EnvironmentConfig("somebodys_missing:Env-v0"))
    assert str(tmp_path) in sys.path


def test_another_experiment_in_the_folder_of_a_copy_is_told_what_differs(
    here: Path, command: Command
) -> None:
    code, out, err = command("train", "cartpole", "--run", "copy")
    assert (code, out) == (2, "")
    assert "with other settings: " in err
    assert not (here / "marker").exists()
