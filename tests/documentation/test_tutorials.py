"""Tutorials and concepts can be followed from top to bottom: their files, commands and examples work together."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.documentation.pages import REPOSITORY, blocks, commands, of_esd
from tests.helpers.shell import environment

# the pages, and how many generations are enough to see that a training of theirs works; 0 for all
FOLLOWED = {
    "docs/concepts/evolution.md": 0,
    "docs/concepts/hebbian.md": 3,
    "docs/concepts/laws.md": 0,
    "docs/concepts/lsh.md": 1,
    "docs/tutorials/algorithm.md": 2,
    "docs/tutorials/environment.md": 2,
    "docs/tutorials/first-run.md": 0,
    "docs/tutorials/objective.md": 0,
    "docs/tutorials/policy.md": 1,
}
# files of other pages that a page asks for
BORROWED = {"docs/tutorials/algorithm.md": ("docs/algorithms.md", "my_algorithm.py")}
# they examine this machine or ask its SLURM; test_blocks.py reads them
LEFT_OUT = ("doctor", "submit")
pytestmark = pytest.mark.xdist_group("tutorials")


def steps(page: str, generations: int, folder: Path) -> Iterator[dict[str, Any]]:
    """What a reader of a page does, one thing after the other."""
    if page in BORROWED:
        other, name = BORROWED[page]
        (text,) = (b.text for b in blocks(other) if b.text.startswith(f'"""{name}'))
        yield {"file": name, "text": text}
    for block in blocks(page):
        if block.name:
            yield {"file": block.name, "text": block.text}
        elif block.language == "python":
            yield {"python": block.text, "where": str(block)}
        elif block.language == "sh":
            for words in map(of_esd, commands(block.text, folder)):
                if words and words[0] not in LEFT_OUT:
                    few = ["--set", f"generations={generations}"]
                    yield {"esd": [*words, *(few if words[0] == "train" and generations else [])]}


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What became of every step of every page."""
    folder = tmp_path_factory.mktemp("followed")
    scratch = tmp_path_factory.mktemp("scratch")
    pages = {page: [*steps(page, few, scratch)] for page, few in FOLLOWED.items()}
    if importlib.util.find_spec("torch") is None:
        pages.pop("docs/tutorials/policy.md")
    done = subprocess.run(
        [sys.executable, "-m", "tests.documentation.follow", str(folder)],
        input=json.dumps(pages),
        env=environment(XDG_CONFIG_HOME=str(scratch), HOME=str(scratch)),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("page", FOLLOWED)
def test_every_step_of_a_page_works(page: str, followed: dict[str, list[dict[str, Any]]]) -> None:
    if page not in followed:
        pytest.skip("needs torch: pip install 'esd-mpi[torch]'")
    for step in followed[page]:
        assert step["code"] == 0, f"{page}: {step}"
    assert sum("file" not in step for step in followed[page])


def test_the_first_run_ends_as_its_page_says(followed: dict[str, list[dict[str, Any]]]) -> None:
    page = "docs/tutorials/first-run.md"
    output = "".join(step["output"] for step in followed[page])
    (quoted,) = (b.text for b in blocks(page) if b.language == "text" and "generation 0" in b.text)
    for line in quoted.splitlines():
        said = line.partition(" steps/s")[0].rpartition("  ")[0] or line  # speed differs
        assert said in output
    (table,) = (b.text for b in blocks(page) if b.language == "text" and "variant" in b.text)
    assert all(line in output for line in table.splitlines())


def test_the_page_of_the_laws_prints_one_hash(followed: dict[str, list[dict[str, Any]]]) -> None:
    shown = [
        s["output"] for s in followed["docs/concepts/laws.md"] if s.get("esd", [""])[0] == "show"
    ]
    hashes = {next(line for line in text.splitlines() if "h sha256" in line) for text in shown}
    assert len(shown) == 2
    assert len(hashes) == 1


def test_the_sweep_with_optuna_finds_something(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="needs optuna: pip install 'esd-mpi[docs]'")
    (sweep,) = (b for b in blocks("docs/tutorials/optuna.md") if b.name == "sweep.py")
    text = sweep.text.replace("n_trials=10", "n_trials=2").replace(
        '"generations": 8', '"generations": 2'
    )
    (tmp_path / "sweep.py").write_text(text.replace("(100, 101, 102)", "(100,)"))
    paths = [
        environment()["PYTHONPATH"],
        *filter(None, sys.path),
    ]  # also what is installed elsewhere
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "sweep.py"],
        cwd=tmp_path,
        env=environment(PYTHONPATH=os.pathsep.join(paths)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "'sigma'" in done.stdout
    assert (tmp_path / "sweep/1-s100/DONE.json").exists()
