"""Importing esd has no side effects, and imports nothing that takes long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
HEAVY = ("numpy", "numba", "torch", "gymnasium", "mpi4py", "mujoco", "Box2D")
PLAIN = "NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING"  # or numba writes to stdout when Python ends
# every module of the three packages, but for the one that runs the command line, and what needs an extra
MODULES = sorted(
    ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
    for folder, package in (("", "esd"), ("envs", "esd_envs"), ("envs", "esd_kernels"))
    for folder in (REPOSITORY / folder,)
    for path in (folder / package).rglob("*.py")
    if path.name != "__main__.py"
)
KERNELS = [name for name in MODULES if ".kernels" in name or name.startswith("esd_kernels")]


def imported(statements: str, folder: Path, **variables: str) -> dict[str, list[str]]:
    """Run statements in a fresh process; the modules that it has loaded, and what it changed.

    Args:
        statements: to run.
        folder: the working directory, the home, and where everything temporary goes.
        variables: of the environment.
    """
    program = (
        "import json, os, sys\n"
        "before = dict(os.environ)\n"
        f"{statements}\n"
        "changed = sorted(k for k in {**before, **os.environ} if before.get(k) != os.environ.get(k))\n"
        "print(json.dumps({'modules': sorted(sys.modules), 'environment': changed}))\n"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "XDG_", "OMP_"))}
    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        env={**kept, "HOME": str(folder), "TMPDIR": str(folder), **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("module", ["esd", "esd.cli"])
def test_nothing_heavy_is_imported_by(module: str, tmp_path: Path) -> None:
    found = imported(f"import {module}", tmp_path)
    assert module in found["modules"]
    assert not set(HEAVY) & set(found["modules"])


def test_esd_alone_imports_few_modules(tmp_path: Path) -> None:
    """A budget in modules, which the machine's load doesn't change: beside what Python itself starts with."""
    bare = imported("", tmp_path)["modules"]
    assert len(set(imported("import esd", tmp_path)["modules"]) - set(bare)) <= 40


def test_the_command_line_sets_threads_when_a_command_starts_not_on_import(tmp_path: Path) -> None:
    assert set(imported("import esd.cli", tmp_path)["environment"]) <= {PLAIN}
    run = "import esd.cli\ntry: esd.cli.app(['list', 'rules'])\nexcept SystemExit as end: assert not end.code"
    assert "OMP_NUM_THREADS" in imported(run, tmp_path)["environment"]


def test_importing_kernels_makes_no_folder_and_leaves_numbas_settings(tmp_path: Path) -> None:
    assert {"esd.kernels.episode", "esd_envs.kernels.memory", "esd_kernels.cache"} <= set(KERNELS)
    statements = (
        "from numba.core import config\n"
        "settings = {k: repr(v) for k, v in vars(config).items() if k.isupper()}\n"
        f"import {', '.join(KERNELS)}\n"
        "assert settings == {k: repr(v) for k, v in vars(config).items() if k.isupper()}\n"
    )
    places = {"HOME": tmp_path / "home", "NUMBA_CACHE_DIR": tmp_path / "cache", "TMPDIR": tmp_path}
    found = imported(statements, tmp_path, **{name: str(path) for name, path in places.items()})
    assert set(found["environment"]) <= {"PYGAME_HIDE_SUPPORT_PROMPT", PLAIN}  # Gymnasium sets one
    assert list(tmp_path.rglob("*")) == []


def test_a_kernels_first_call_leaves_numbas_settings(tmp_path: Path) -> None:
    """The folder is made then, but code of others goes on to be kept where numba keeps it."""
    statements = (
        "from numba.core import config\n"
        "chosen = config.CACHE_DIR\n"
        "from esd_envs.kernels import classic_control\n"
        "assert classic_control.reset_pendulum.address\n"
        "assert config.CACHE_DIR == chosen\n"
    )
    imported(statements, tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert list((tmp_path / "cache").rglob("*.kernel"))
