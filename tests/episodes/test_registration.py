"""Environments of one's own, as docs/worlds.md adds them: from a file, and from an installed package."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path

import pytest

from tests.helpers.installed_package import install
from tests.helpers.shell import REPOSITORY, environment, esd, every_line_works

PAGE = (REPOSITORY / "docs/worlds.md").read_text("utf-8")
SECTION = PAGE[PAGE.index("## Add an environment of your own") : PAGE.index("## Is an environment")]
FILES = dict(re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)```", SECTION, re.DOTALL))
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)
    for line in block.splitlines()
]
TINY = ("--set", "generations=2", "--set", "population=8")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the page."""
    folder = tmp_path_factory.mktemp("page")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment variables with which the page's package is installed, and a broken one."""
    folder = tmp_path_factory.mktemp("site")
    _, entry_points = re.findall(r"```toml\n(.*?)```", SECTION, re.DOTALL)
    points = tomllib.loads(entry_points)["project"]["entry-points"]
    modules = {"my_worlds.py": FILES["my_worlds.py"], "broken_worlds.py": "1 / 0\n"}
    install(folder, "mine", modules, points)
    install(folder, "broken", {}, {"esd.environments": {"broken": "broken_worlds"}})
    return {"PYTHONPATH": f"{folder}{os.pathsep}{environment()['PYTHONPATH']}"}


def test_the_section_has_its_examples() -> None:
    assert {*FILES} == {"my_worlds.py", "point_mass.toml"}
    assert len(COMMANDS) == 3


def test_every_command_of_the_section_works(place: Path) -> None:
    every_line_works(COMMANDS, place)


def test_the_example_learns(place: Path) -> None:
    assert esd("train", "point_mass.toml", "--run", "found", cwd=place).returncode == 0
    mean = json.loads(esd("eval", "found", "--json", cwd=place).stdout)["mean"]
    nothing = json.loads(
        esd(
            "eval", "found", "--json", "--set", 'env.wrappers=["esd_envs:ZeroAction"]', cwd=place
        ).stdout
    )["mean"]
    assert mean > 0.6 * nothing  # both are negative


def test_an_installed_package_offers_environments_and_a_broken_one_is_no_trouble(
    place: Path, site: dict[str, str], tmp_path: Path
) -> None:
    listed = esd("list", "environments", cwd=tmp_path, **site)
    assert listed.returncode == 0, listed.stderr
    assert "mine/PointMass-v0" in listed.stdout
    words = " ".join(listed.stdout.split())
    assert "broken_worlds can't be imported (ZeroDivisionError: division by zero)" in words
    hashes = []
    for folder, id, path in (
        (tmp_path, "mine/PointMass-v0", site),
        (place, "my_worlds:mine/PointMass-v0", {}),
    ):
        words = ("train", place / "point_mass.toml", *TINY, "--run", "short", "--json")
        trained = esd(*words, "--set", f"env.id={id}", cwd=folder, **path)
        assert trained.returncode == 0, trained.stderr
        hashes.append(json.loads(trained.stdout)["h_sha256"])
    assert hashes[0] == hashes[1]


def test_an_id_that_is_nowhere_names_what_could_not_be_imported(
    site: dict[str, str], tmp_path: Path
) -> None:
    words = ("train", "pendulum", *TINY, "--set", "env.id=mine/PointMas-v0")
    result = esd(*words, cwd=tmp_path, **site)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "did you mean 'mine/PointMass-v0'?" in result.stderr
    assert "broken_worlds can't be imported" in result.stderr
    known = esd("train", "pendulum", *TINY, "--set", "generations=1", cwd=tmp_path, **site)
    assert (known.returncode, known.stderr.count("broken")) == (0, 0)
