"""Compiled kernels are kept between starts, but never beyond a change of any kernel's source."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
PRINT_NOISE = "from esd.noise import Noise; print(Noise('gaussian', 0).epsilon(0, 0, 0, 3))"


def noise_of(tree: Path) -> str:
    """What a tree's code gives, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{tree / 'envs'}"}
    environment.pop("NUMBA_CACHE_DIR", None)
    words = [sys.executable, "-c", PRINT_NOISE]
    result = subprocess.run(
        words, env=environment, cwd=tree, capture_output=True, text=True, check=True
    )
    return result.stdout


def test_a_change_in_an_inlined_file_is_not_hidden_by_the_cache(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("esd", "envs"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=ignored)
    before = noise_of(tmp_path)
    kept = list((tmp_path / "esd" / "kernels" / "__pycache__").glob("kernels-*/**/*.nbc"))
    assert kept, "nothing was cached: nothing is tested"
    assert noise_of(tmp_path) == before
    elementary = tmp_path / "esd" / "kernels" / "elementary.py"
    text = elementary.read_text("utf-8")
    elementary.write_text(text.replace("f32(-0.16666655)", "f32(-0.2)"), "utf-8")
    assert noise_of(tmp_path) != before
