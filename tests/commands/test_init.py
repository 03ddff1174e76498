"""``esd init`` writes experiments that run at once, and never over a file."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from esd.commands.init import Kind
from esd.commands.starting_files import write
from esd.config.experiment_files import read_experiment
from esd.config.tables import parse
from esd.errors import UsageError
from tests.helpers.shell import contents, esd

SMALL = ("--set", "generations=1", "--set", "population=4", "--set", "run.center_episodes=2")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", list(Kind))
def test_what_is_written_trains_at_once(kind: Kind, tmp_path: Path) -> None:
    written = esd("init", kind, "mine", "--json", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    assert json.loads(written.stdout) == {
        "kind": kind,
        "files": ["mine.py", "mine.toml"],
        "command": "esd train mine.toml",
    }
    trained = esd("train", "mine.toml", *SMALL, "--quiet", "--json", cwd=tmp_path)
    assert (trained.returncode, trained.stderr) == (0, "")
    assert json.loads(trained.stdout)["generation"] == 1


@pytest.mark.parametrize("kind", list(Kind))
def test_the_files_name_each_other_and_say_how_to_go_on(kind: Kind, here: Path) -> None:
    assert write(kind, None, None) == [f"my_{kind}.py", f"my_{kind}.toml"]
    text = Path(f"my_{kind}.toml").read_text("utf-8")
    assert f"esd train my_{kind}.toml" in text
    assert f'"my_{kind}:' in text
    assert write(kind, "other.toml", None) == ["other.py", "other.toml"]
    for file in ("other.py", "other.toml"):
        assert f"my_{kind}" not in Path(file).read_text("utf-8")
        assert all(len(line) <= 120 for line in Path(file).read_text("utf-8").splitlines())


def test_a_registered_environment_needs_no_python_file(here: Path) -> None:
    assert write("environment", "pole", "Pendulum-v1") == ["pole.toml"]
    config = parse(read_experiment("pole.toml")[1], "pole")
    assert (config.env.id, config.env.kwargs, config.env.max_steps) == ("Pendulum-v1", {}, 0)
    assert "variants" not in Path("pole.toml").read_text("utf-8")
    assert write("policy", "own", 'mine:a"b') == ["own.py", "own.toml"]
    config = parse(read_experiment("own.toml")[1], "own")
    assert (config.env.id, config.policy.kind) == ('mine:a"b', "own:Own")


@pytest.mark.parametrize("kind", ["environment", "policy"])
def test_a_class_is_named_after_its_file(kind: str, here: Path) -> None:
    names = {
        "reach": "Reach",
        "my_robot": "MyRobot",
        "myRobot": "MyRobot",
        "value_error": f"ValueError{kind.capitalize()}",  # not Python's own
        "none": f"None{kind.capitalize()}",
        "layout": "LayoutPolicy" if kind == "policy" else "Layout",  # which it imports
    }
    for module, name in names.items():
        write(kind, module, None)
        assert f"\nclass {name}" in Path(f"{module}.py").read_text("utf-8")
        assert f'"{module}:{name}"' in Path(f"{module}.toml").read_text("utf-8")


def test_leaving_the_line_does_not_end_an_episode_of_the_template_and_so_does_not_pay(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("environment", "line_world", None)
    monkeypatch.syspath_prepend(here)
    env = importlib.import_module("line_world").LineWorld()
    env.reset(seed=0)
    steps = [env.step(np.ones(1, np.float32)) for _ in range(300)]
    assert not any(terminated for _, _, terminated, _, _ in steps)
    assert steps[-1][0].tolist() == [3.0, 0.0]
    assert min(reward for _, reward, _, _, _ in steps) == -3.0


@pytest.mark.parametrize("in_the_way", ["mine.py", "mine.toml"])
@pytest.mark.parametrize("dangling", [False, True])
def test_nothing_is_overwritten(in_the_way: str, dangling: bool, here: Path) -> None:
    path = here / in_the_way
    path.symlink_to("nowhere") if dangling else path.write_text("keep me")
    with pytest.raises(UsageError, match=f"{in_the_way}: exists already"):
        write("objective", "mine", None)
    assert [entry.name for entry in here.iterdir()] == [in_the_way]
    assert contents(here).keys() == ({in_the_way} if not dangling else set())


def test_half_of_the_files_is_not_left_behind(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def failing(path: Path, *arguments: str, **keywords: str) -> object:
        if path.name == "mine.toml" and "x" in arguments:
            raise OSError(28, "No space left on device")
        return opened(path, *arguments, **keywords)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(UsageError, match=r"mine.toml: could not be written \(No space left"):
        write("policy", "mine", None)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "name", "env", "words"),
    [
        ("environment", "../up", None, "without a folder"),
        ("environment", "sub/mine", None, "without a folder"),
        ("environment", "my-robot", None, "expected the name of a Python module"),
        ("environment", "class", None, "expected the name of a Python module"),
        ("environment", "", None, "expected the name of a Python module"),
        ("environment", "x" * 500, None, "expected the name of a Python module"),
        ("environment", "robot\nx", None, "expected the name of a Python module"),
        ("environment", "random", None, "is the name of an installed module"),
        ("environment", "numpy", None, "is the name of an installed module"),
        ("environment", "folder", None, "is a folder here"),
        ("objective", None, "CartPole-v1", "an objective has no environment"),
        ("policy", None, "", "expected the id of an environment"),
        ("policy", None, "a\nb", "expected the id of an environment"),
        (
            "environment",
            None,
            "Pendulum-v2",
            "no such environment is installed, did you mean 'Pendulum-v1'",
        ),
        ("environment", None, "Pendulum", "did you mean 'Pendulum-v1'"),
        ("policy", None, "Zzz-v0", "esd list environments shows all"),
    ],
)
def test_names_that_cannot_be_imported_are_refused(
    kind: str, name: str | None, env: str | None, words: str, here: Path
) -> None:
    (here / "folder").mkdir()
    with pytest.raises(UsageError, match=words) as error:
        write(kind, name, env)
    assert len(str(error.value)) <= 400
    assert "\n" not in str(error.value)
    assert [entry.name for entry in here.iterdir()] == ["folder"]
