"""Processes that esd starts run no module that lies in the working directory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from esd.config.another_python import SOURCES, esd_command, with_esd, with_library
from esd.launching import mpirun
from tests.helpers.shell import REPOSITORY, environment

TRAP = 'open("marker", "a").write(__name__)\n'


@pytest.fixture
def traps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with namesakes of modules that esd imports, of Python's, and of one that isn't installed."""
    for name in ("esd", "mpi4py", "json", "typer", "numpy", "sitecustomize", "not_installed"):
        (tmp_path / f"{name}.py").write_text(TRAP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_another_python_takes_no_module_from_the_working_directory(traps: Path) -> None:
    calls = (
        with_library("import json; json.dumps(1)"),
        with_esd("from esd.errors import shortened; import json; json.dumps(1)"),
        [*esd_command(sys.executable, traps), "--version"],
    )
    for words in calls:
        done = subprocess.run(
            words, env=environment(), capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
    absent = subprocess.run(
        with_esd("import not_installed"), env=environment(), capture_output=True, text=True, check=False
    )  # fmt: skip
    assert "No module named 'not_installed'" in absent.stderr
    assert not (traps / "marker").exists()


def test_what_looks_for_the_mpi_library_runs_nothing_of_the_working_directory(traps: Path) -> None:
    pytest.importorskip("mpi4py")
    mpirun._library()
    assert not (traps / "marker").exists()


def test_in_the_folder_of_its_sources_esd_is_found_there() -> None:
    """Whoever calls ``python -m esd`` in a checkout need not have installed it."""
    assert esd_command("python", SOURCES) == ["python", "-m", "esd"]
    assert esd_command("python", SOURCES.parent) == ["python", "-P", "-m", "esd"]


def test_every_other_python_is_started_by_these_words() -> None:
    found = [
        path.name
        for path in (REPOSITORY / "esd").rglob("*.py")
        if re.search(r'executable,\s*"-[cm]"', path.read_text())
    ]
    assert found == []
