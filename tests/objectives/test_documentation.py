"""The page about objectives: its files and commands work as they stand."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.helpers.shell import REPOSITORY, environment, esd, every_line_works

PAGE = (REPOSITORY / "docs/objectives.md").read_text("utf-8")
FILES = dict(re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the page."""
    folder = tmp_path_factory.mktemp("page")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def test_the_page_has_its_examples() -> None:
    assert {*FILES} == {
        f"{name}.{kind}" for name in ("wing", "truss", "solver") for kind in ("py", "toml")
    }
    assert len(COMMANDS) == 5


def test_every_command_of_the_page_works(place: Path) -> None:
    every_line_works(COMMANDS, place)


def test_the_first_run_finds_the_minimum(place: Path) -> None:
    assert esd("train", "wing.toml", "--run", "found", cwd=place).returncode == 0
    shown = esd("eval", "found", cwd=place).stdout.splitlines()
    assert 0.0 <= float(shown[2].split()[1]) < 0.01  # 0.37 at the start
    assert shown[3].startswith("x = [")


def test_an_objective_of_an_installed_package_has_a_name(tmp_path: Path) -> None:
    (entry,) = re.findall(r'```toml\n\[project.entry-points."(.*?)"\]\n(.*?)```', PAGE, re.DOTALL)
    group, text = entry
    name, reference = (part.strip() for part in text.split("="))
    module = reference.strip('"').partition(":")[0]
    package = tmp_path / "site" / module.partition(".")[0]
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / f"{module.rpartition('.')[2]}.py").write_text(FILES["wing.py"])
    metadata = tmp_path / "site" / "my_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    unquoted = reference.strip('"')
    (metadata / "entry_points.txt").write_text(
        f"[{group}]\n{name} = {unquoted}\nbroken = nowhere:f\n"
    )
    (tmp_path / "mine.toml").write_text(FILES["wing.toml"].replace("wing:drag", name))
    path = f"{tmp_path / 'site'}{os.pathsep}{environment()['PYTHONPATH']}"
    listed = esd("list", "objectives", cwd=tmp_path, PYTHONPATH=path)
    assert listed.returncode == 0, listed.stderr
    assert "Drag of a wing with five control points." in listed.stdout
    assert "nowhere:f can't be imported" in listed.stdout
    words = ("--set", "generations=2")
    trained = esd("train", "mine.toml", *words, cwd=tmp_path, PYTHONPATH=path)
    assert trained.returncode == 0, trained.stderr
