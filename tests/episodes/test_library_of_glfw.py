"""MuJoCo environments import glfw, which would run a library, or a module, that lies in the working directory."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

from esd.config.another_python import with_esd
from tests.helpers.shell import environment


@pytest.mark.skipif(
    importlib.util.find_spec("glfw") is None, reason="needs glfw: pip install 'esd-mpi[mujoco]'"
)
@pytest.mark.parametrize("first", ["import esd.episodes.registration", "import sys"])
def test_glfw_runs_nothing_of_the_working_directory_once_environments_are_known(
    first: str, tmp_path: Path
) -> None:
    (tmp_path / "ctypes.py").write_text('open("marker", "w").write("it ran")\n')
    subprocess.run(
        with_esd(f"{first}\nimport glfw"), cwd=tmp_path, env=environment(), capture_output=True, check=False
    )  # fmt: skip
    ran = (tmp_path / "marker").exists()
    assert ran == (first == "import sys")  # as glfw does by itself
