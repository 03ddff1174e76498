"""The memory that a run is said to take, and what it takes: measured by Linux, and in a real control group."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from esd.config.settings import Config
from esd.evolution.state import make_strategy
from esd.problems.make import make_problem
from esd.training import room
from tests.helpers.configs import objective, small
from tests.helpers.shell import environment
from tests.helpers.training import trained

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for its memory")
SHORT = (
    "population=4", "generations=2", "run.center_every=1", "run.center_episodes=2", "run.checkpoint_every=1",
)  # fmt: skip
GROUPS = Path("/sys/fs/cgroup/memory")


def function(size: int, *settings: str) -> Config:
    return objective("sphere", *SHORT, *settings, x={"shape": [size], "initial": 0.5})


def policy(hidden: int, experiment: str, *settings: str) -> Config:
    hidden_layers = f"policy.hidden=[{hidden},{hidden}]"
    return small(experiment, *SHORT, "env.max_steps=5", hidden_layers, *settings)


# of each kind a small run, which loads what it needs, and one that is measured
CASES = {
    "a function": (function(1000), function(3_000_000)),
    "cr_fm_nes": tuple(function(n, 'es.algorithm="cr_fm_nes"') for n in (1000, 3_000_000)),
    "hebbian": (policy(70, "cartpole"), policy(700, "cartpole")),
    "static, pgpe": tuple(policy(n, "cartpole-static", "es.algorithm=pgpe") for n in (70, 1400)),
    "low rank": tuple(policy(n, "cartpole-static", "es.noise=low_rank") for n in (70, 1700)),
}


def megabytes(name: str) -> float:
    """Of this process, as Linux counts it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) / 1000


def measured(case: str, folder: Path) -> tuple[float, float]:
    """What a run is said to take, and what it takes [MB]; in a process of its own, whose memory nobody else uses."""
    first, config = CASES[case]
    trained(first, folder / "first")
    problem = make_problem(config)
    said = room.sizes_of(config, problem, make_strategy(config, problem.layout)).memory(1)[0] / 1e6
    del problem
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is measured anew
    trained(config, folder / "run")
    return said, megabytes("VmHWM") - before


@pytest.mark.parametrize("case", CASES)
def test_a_run_takes_what_it_is_said_to_take(case: str, tmp_path: Path) -> None:
    program = (
        "import pathlib, sys\nfrom tests.training.test_room import measured\n"
        "print(*measured(sys.argv[1], pathlib.Path(sys.argv[2])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, case, str(tmp_path)],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said, taken = map(float, done.stdout.splitlines()[-1].split())
    assert taken > 40
    # the measured one varies, as memory that was freed before is used again
    assert 0.75 < said / taken < 1.5, f"said {said:.0f} MB, taken {taken:.0f} MB"


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of this machine's own, for 300 MB."""
    own = GROUPS / f"esd-test-{os.getpid()}"
    try:
        own.mkdir()
        (own / "memory.limit_in_bytes").write_text("300000000")
    except OSError as error:
        pytest.skip(f"needs root and the memory controller of cgroup 1: {error}")
    yield own
    end = time.monotonic() + 5
    while own.exists() and time.monotonic() < end:
        with contextlib.suppress(OSError):
            own.rmdir()
        time.sleep(0.05)


@pytest.mark.parametrize(("hidden", "code"), [(1410, 2), (700, 0)])
def test_what_does_not_fit_into_a_container_is_refused_and_not_killed(
    hidden: int, code: int, group: Path, tmp_path: Path
) -> None:
    start = f'echo $$ > {group}/cgroup.procs; exec "$@"'
    settings = (
        "population=4",
        "generations=2",
        "env.max_steps=5",
        f"policy.hidden=[{hidden},{hidden}]",
    )
    words = [sys.executable, "-m", "esd", "train", "cartpole", "--run", "run"]
    done = subprocess.run(
        ["sh", "-c", start, "sh", *words, *(f"--set={setting}" for setting in settings)],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    if code:
        assert len(done.stderr.splitlines()) == 1
        assert "h has 9,982,800 coordinates" in done.stderr
        assert "limit of a control group: 0.3 GB" in done.stderr
        assert not (tmp_path / "run").exists()
