"""A run that was trained once, for all tests that look at one or damage a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers.shell import TINY, esd


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a tiny run was trained."""
    folder = tmp_path_factory.mktemp("finished")
    result = esd(
        "train", *TINY, "--set", "run.checkpoint_every=1", "--run", "runs/cartpole-s4", cwd=folder
    )
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be damaged."""
    return Path(shutil.copytree(finished / "runs" / "cartpole-s4", tmp_path / "run"))
