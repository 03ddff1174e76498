"""A child that the user's code forks is not a second esd, however it goes on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.helpers.shell import command, environment

OBJECTIVE = """
import os, sys

def bowl(x, how=""):
    if how and os.fork() == 0:
        if how == "exit":
            sys.exit(0)
        if how == "raise":
            raise ValueError("in the child")
        return -1e9
    if how:
        os.wait()
    return float((x * x).sum())
"""
WORLD = """
import os, gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

class Forking(CartPoleEnv):
    def __init__(self, how=""):
        super().__init__()
        self.how = how

    def reset(self, *, seed=None, options=None):
        if self.how and os.fork() == 0:
            if self.how == "raise":
                raise ValueError("in the child")
        elif self.how:
            os.wait()
        return super().reset(seed=seed)
"""
EXPERIMENTS = {
    "objective": """
generations = 2
population = 4
[objective]
function = "mine:bowl"
direction = "minimize"
parameters.x = { shape = [2], initial = 0.5 }
""",
    "env": """
generations = 2
population = 4
[env]
id = "mine:Forking"
max_steps = 20
""",
}


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("objective", "exit"),
        ("objective", "raise"),
        ("objective", "return"),
        ("env", "raise"),
        ("env", "return"),
    ],
)
def test_a_run_whose_code_forks_is_that_of_one_that_does_not(
    kind: str, how: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(OBJECTIVE if kind == "objective" else WORLD)
    (tmp_path / "mine.toml").write_text(EXPERIMENTS[kind])
    h = []
    for run, changes in (("forks", [f"--set={kind}.kwargs.how={how}"]), ("plain", [])):
        done = subprocess.run(
            command("train", "mine.toml", "--run", run, *changes),
            cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.count("a child process that the environment") == (run == "forks")
        h.append(json.loads((tmp_path / run / "DONE.json").read_text())["h_sha256"])
        lines = (tmp_path / run / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["failed_members"] for line in lines[:2]] == [0, 0]
    assert h[0] == h[1]
