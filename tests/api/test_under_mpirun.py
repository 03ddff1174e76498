"""A script of one's own under mpirun."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.shell import MPIRUN, environment

SCRIPT = """
import sys
import numpy as np
import esd

evolution = esd.Evolution(np.full(5000, 1.0), direction="minimize", population=10, sigma=0.1)
for _ in range(3):
    evolution.tell([float(np.sum(x.astype(float) ** 2)) for x in evolution.ask()])
run = esd.train("cartpole", run="run", seed=4, generations=2, verbose=False,
                settings={"population": 6, "env.max_steps": 60})
seen = []
for report in esd.generations(run="run", generations=4):
    seen.append(report.center_return)
    break
found = run.evaluate(episodes=4)
print(evolution.center.tobytes().hex()[-64:], run.h().tobytes().hex()[-64:], seen, found["mean"], flush=True)
"""
FAILING = """
import esd
from esd.api.ranks import ranks
for report in esd.generations("cartpole", run="run", settings={"env.max_steps": 60}):
    if ranks().rank == 1:
        raise ValueError("only on rank 1")
"""


UNEQUAL = {
    "esd.Evolution(np.ones(3 + rank), direction='minimize')": "the arguments on rank 1 differ from those on rank 0",
    "esd.Evolution(np.ones(3), direction='minimize', seed=rank)": "the arguments on rank 1 differ",
    "esd.train('cartpole', run='run', seed=rank)": "were called with different arguments",
}


def run(script: str, count: int, cwd: Path) -> subprocess.CompletedProcess[str]:
    cwd.mkdir()
    (cwd / "my_script.py").write_text(script)
    words = [sys.executable, "my_script.py"]
    if count:
        assert MPIRUN is not None
        words = [MPIRUN, "--oversubscribe", "-n", str(count), *words]
    return subprocess.run(
        words, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=240
    )


def test_a_script_gives_the_same_bits_on_any_number_of_ranks(tmp_path: Path) -> None:
    alone = run(SCRIPT, 0, tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    on_ranks = run(SCRIPT, 3, tmp_path / "ranks")
    assert on_ranks.returncode == 0, on_ranks.stderr
    lines = on_ranks.stdout.splitlines()
    assert len(lines) == 3
    assert set(lines) == set(alone.stdout.splitlines())


@pytest.mark.parametrize("call", UNEQUAL)
def test_ranks_that_call_it_with_other_arguments_are_told(call: str, tmp_path: Path) -> None:
    script = f"""
import esd
import numpy as np
from mpi4py import MPI
rank = MPI.COMM_WORLD.rank
try:
    {call}
except esd.UsageError as error:
    print(error, flush=True)
"""
    result = run(script, 2, tmp_path / "unequal")
    assert result.returncode == 0, result.stderr
    assert UNEQUAL[call] in result.stdout
    assert len(result.stdout.splitlines()) == 2
    assert not (tmp_path / "unequal" / "run").exists()


def test_what_one_rank_did_wrong_is_an_error_of_esd_on_the_others(tmp_path: Path) -> None:
    script = """
import esd
import numpy as np
evolution = esd.Evolution(np.ones(3), direction="minimize", population=4)
try:
    evolution.tell([1.0, 2.0] if 0 in evolution.members else [1.0])
except esd.UsageError as error:
    print(error, flush=True)
"""
    result = run(script, 2, tmp_path / "wrong")
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.splitlines()) == [
        "rank 1 failed: its own message says why",
        "tell: values have shape (1,), expected (2,): one number for each of this rank's members",
    ]


@pytest.mark.timeout(200)
def test_an_exception_on_one_rank_ends_the_job(tmp_path: Path) -> None:
    result = run(FAILING, 3, tmp_path / "failing")
    assert result.returncode != 0
    assert "ValueError: only on rank 1" in result.stderr
