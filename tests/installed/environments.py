"""Virtual environments with the project's wheel in them, outside of the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.shell import REPOSITORY

ASKED = "ESD_TEST_INSTALLED"
# bytecode of all that is installed takes longer to make than the tests take, which use a part of it
QUICK = ("--no-compile", "--disable-pip-version-check")


def require_asked() -> None:
    """Skip unless these tests are asked for: they install packages, which takes minutes."""
    if os.environ.get(ASKED) != "1":
        pytest.skip(f"installs packages, which takes minutes: {ASKED}=1 launch/test.sh")


def find_python(version: str) -> str | None:
    """A Python of a version, such as 3.12; None if there is none that makes environments."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    managed = sorted(pyenv.glob(f"versions/{version}.*/bin/python"))
    for candidate in (sys.executable, shutil.which(f"python{version}"), *map(str, managed)):
        if candidate is None:
            continue
        ask = f"import ensurepip, sys; sys.exit('%d.%d' % sys.version_info[:2] != '{version}')"
        # run it: a version manager leaves names on PATH that start nothing
        if subprocess.run([candidate, "-c", ask], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


def make_wheel(folder: Path) -> Path:
    """Build the project's wheel."""
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder]
    subprocess.run([*words, REPOSITORY], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Attributes:
        folder: where it is.
    """

    folder: Path

    @staticmethod
    def made(folder: Path, python: str, requirements: Sequence[str]) -> Environment:
        """Make it and install into it."""
        made = Environment(folder)
        subprocess.run([python, "-m", "venv", folder], check=True, capture_output=True)
        words = [
            str(made.program("python")),
            "-m",
            "pip",
            "install",
            "--quiet",
            *QUICK,
            *requirements,
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return made

    def program(self, name: str) -> Path:
        """One of its programs."""
        return self.folder / "bin" / name

    def run(self, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a command with its programs on the PATH, and without anything of the repository."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OMPI_", "PMIX_", "PRTE_", "PYTHON", "VIRTUAL_ENV"))
        }
        root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        path = f"{self.program('')}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            [*map(str, words)],
            cwd=cwd, env={**inherited, **root, "PATH": path},
            capture_output=True, text=True, timeout=500, check=False,
        )  # fmt: skip

    def versions(self, cwd: Path) -> dict[str, str]:
        """What is installed in it."""
        listed = self.run(self.program("python"), "-m", "pip", "list", "--format=json", cwd=cwd)
        return {part["name"]: part["version"] for part in json.loads(listed.stdout)}
