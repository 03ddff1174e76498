"""Experiments that have a name: esd's, and those of installed packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from esd.config.experiment_files import experiment_names, first_comment, read_experiment, read_own
from esd.config.kinds import EXPERIMENTS
from esd.errors import UsageError
from tests.helpers.installed_package import install
from tests.helpers.shell import esd

FILES = {
    "mazes/__init__.py": "raise RuntimeError('imported')",
    "mazes/experiments/maze.toml": "# A maze\n\nextends = 'cartpole'\npopulation = 6\n",
    "mazes/experiments/maze-hard.toml": "extends = 'maze.toml'\nseed = 3\n",
    "mazes/experiments/maze-harder.toml": "extends = 'maze-hard'\nseed = 4\n",
    "mazes/experiments/cartpole.toml": "population = 2\n",
    "mazes/experiments/broken.toml": "population = \n",
}
POINTS = {"esd.experiments": {"mazes": "mazes.experiments", "nothing": "mazes.no_folder"}}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with experiments, on the path."""
    install(tmp_path / "site", "mazes", FILES, POINTS)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(vars(EXPERIMENTS), "installed", raising=False)
    yield tmp_path / "site"
    vars(EXPERIMENTS).pop("installed", None)


def test_a_package_offers_experiments_without_being_imported(package: Path) -> None:
    assert {"maze", "maze-hard", "maze-harder", "cartpole"} <= {*experiment_names()}
    assert (first_comment("maze"), first_comment("maze-hard")) == ("A maze", "")
    _, cartpole = read_experiment("cartpole")
    assert read_experiment("maze") == ("maze", {**cartpole, "population": 6})
    assert read_experiment("maze-harder")[1] == {**cartpole, "population": 6, "seed": 4}
    assert read_own("maze-hard") == {}, "nothing of it is the user's"
    with pytest.raises(UsageError, match=r"^broken: "):
        read_experiment("broken")


def test_an_experiment_of_a_package_trains(package: Path, tmp_path: Path) -> None:
    words = ("--set", "generations=1", "--set", "env.max_steps=5", "--quiet")
    result = esd("train", "maze-hard", *words, cwd=tmp_path, PYTHONPATH=str(package))
    assert result.returncode == 0, result.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name == "maze-hard-env.max_steps=5-s3"
    listed = esd("list", "experiments", cwd=tmp_path, PYTHONPATH=str(package))
    assert "A maze" in listed.stdout
