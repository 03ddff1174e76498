"""The words that start a job, the hosts that it is started on, and what is read of its end."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

import pytest

from esd.commands.launch import _train_command
from esd.errors import UsageError
from esd.launching import hosts, mpirun, scratch
from esd.launching.job import Job
from esd.launching.mpirun import HYDRA, OPEN_MPI, Mpirun, kind_of
from esd.launching.train_command import Standing, TrainCommand
from esd.mpi.launch import SUPERVISED, belongs_to_a_job
from esd.run.folder import RunFolder


def test_the_words_of_both_kinds_of_launcher(tmp_path: Path) -> None:
    several = hosts.listed("a:4,b:2")
    assert Mpirun("/bin/mpirun", OPEN_MPI).words(["esd"], 3, None, ["--x"], [], False, tmp_path) == [
        "/bin/mpirun", "-n", "3", "--oversubscribe", "--x", "esd"
    ]  # fmt: skip
    assert Mpirun("m", OPEN_MPI).words(["esd"], None, several, [], ["V"], True, tmp_path) == [
        "m", "--host", "a:4,b:2", "-x", "V", "--with-ft", "ulfm", "--mca", "coll", "^han,adapt,hcoll,portals4", "esd"
    ]  # fmt: skip
    assert Mpirun("m", HYDRA).words(["esd"], 2, several, [], ["V"], False, tmp_path) == [
        "m", "-n", "2", "-hosts", "a:4,b:2", "esd"
    ]  # fmt: skip


def test_kinds_are_told_apart_by_what_they_say() -> None:
    assert kind_of("Open MPI v5.0.11, package: …") == kind_of("mpirun (Open MPI) 4.1.4") == OPEN_MPI
    assert kind_of("HYDRA build details:") == kind_of("Intel(R) MPI Library 2021") == HYDRA


def test_the_mpirun_beside_the_library_is_found_and_another_kind_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def program(folder: str, says: str) -> Path:
        path = tmp_path / folder / "mpirun"
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\necho '{says}'\n")
        path.chmod(0o755)
        return path

    (tmp_path / "lib").mkdir()
    library = tmp_path / "lib/libmpi.so.40"
    beside = program("bin", "mpirun (Open MPI) 5.0")
    other = program("other", "HYDRA build details")
    monkeypatch.setattr(mpirun, "_library", lambda: (library, "Open MPI v5.0"))
    assert mpirun.find({"PATH": str(other.parent)}).path == str(beside)
    with pytest.raises(UsageError, match="is a launcher of MPICH, but mpi4py uses 'Open MPI"):
        mpirun.find({"ESD_MPIRUN": str(other)})
    monkeypatch.setattr(mpirun, "_library", lambda: (None, "Open MPI v5.0"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere/python"))
    with pytest.raises(UsageError, match="no mpirun was found"):
        mpirun.find({"PATH": str(tmp_path)})


def test_hosts_are_read_and_those_that_do_not_answer_left_out(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("# two\na slots=4\n\nb:3 # MPICH's way\nc\n")
    read = hosts.of_file(file)
    assert [(host.name, host.slots) for host in read.hosts] == [("a", 4), ("b", 3), ("c", None)]
    fewer = read.only({"a", "c"})
    assert fewer.words("--host", "--hostfile", tmp_path) == ["--hostfile", str(tmp_path / "hosts")]
    assert file.read_text() == "a slots=4\nc\n"
    assert fewer.share_of(8, read) == 5
    assert fewer.only({"c"}).share_of(2, read) == 1
    assert fewer.share_of(None, read) is None
    listed = hosts.listed("fe80::1:2, b")
    assert [(host.name, host.slots) for host in listed.hosts] == [("fe80::1", 2), ("b", None)]


@pytest.mark.parametrize("text", ["", "a,,b", "a b", "--x:2"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--hosts"):
        hosts.listed(text)


def test_this_machine_answers_and_others_are_asked_by_the_agent(tmp_path: Path) -> None:
    agent = tmp_path / "agent"
    agent.write_text('#!/bin/sh\n[ "$1" = up ]\n')
    agent.chmod(0o755)
    asked = hosts.listed(f"{socket.gethostname()},127.0.0.1,up,down")
    found = hosts.answering(asked, [str(agent)])
    assert found == {socket.gethostname(), "127.0.0.1", "up"}
    assert hosts.agent(["--mca", "plm_ssh_agent", "ssh -F x"], {}) == ["ssh", "-F", "x"]
    assert hosts.agent([], {"PRTE_MCA_plm_ssh_agent": "rsh"}) == ["rsh"]
    assert hosts.agent([], {}) == ["ssh"]


SIGNAL = """--------------------
prterun noticed that process rank 2 with PID 19094 on node vm exited on
signal 9 (Killed).
"""


@pytest.mark.parametrize(
    ("says", "code", "rank", "name", "why"),
    [
        (SIGNAL, 137, 2, "SIGKILL", "rank 2 on vm was killed by SIGKILL"),
        ("esd: the disk is full\n", 1, None, "", "exit code 1: the disk is full"),
        ("", 139, None, "SIGSEGV", "mpirun ended by SIGSEGV (exit code 139)"),
        ("", 213, None, "", "exit code 213"),  # of mpirun itself, as for a wrong option
        ("", 255, None, "", "exit code 255"),
        ("   Process name: [prterun-vm-1@1,3]\n   Exit code:    7\n", 7, 3, "", "exit code 7"),
    ],
)
def test_the_end_of_a_job_is_put_in_words(
    says: str, code: int, rank: int | None, name: str, why: str,
) -> None:  # fmt: skip
    job = Job(["sh", "-c", f"printf '%s' '{says}' >&2; exit {code}"], dict(os.environ))
    while (ended := job.wait()) is None:
        pass
    job.close()
    death = job.death(ended)
    assert (death.code, death.rank, death.signal, death.why) == (code, rank, name, why)
    assert [line for line in death.lines if line] == [line.rstrip() for line in says.splitlines()]


def test_words_for_the_supervisor_are_heard_and_not_passed_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Also behind what mpirun puts before each line with --tag-output."""
    says = 'printf "[1,0]<stderr>: <esd launch $ESD_LAUNCH started>\\nseen\\n" >&2; sleep 60 & sleep 0.2'
    job = Job(["sh", "-c", says], dict(os.environ))
    while job.wait() is None:
        pass
    job.close()
    assert job.started
    assert not job.done
    assert capfd.readouterr().err == "seen\n"
    deadline = time.monotonic() + 10
    while job._left_running() and time.monotonic() < deadline:  # the sleep was left behind
        time.sleep(0.01)
    assert job._left_running() == []


def test_fresh_and_from_are_said_only_until_they_have_happened(tmp_path: Path) -> None:
    train = TrainCommand(("cartpole",), tmp_path / "run", ("--fresh", "--yes"), ("--from", "x"))
    assert train.call(fresh=True, start_from=True)[-4:] == ["--yes", "--from", "x", "cartpole"]
    words = [f"--run={tmp_path}/run", "cartpole"]
    assert train.call(fresh=False, start_from=False)[-2:] == words


def test_a_new_run_that_starts_from_another_gets_the_folder_that_esd_train_chooses() -> None:
    train = _train_command(["cartpole", "--from", "x", "--set", "seed=5"])
    assert train.run == Path("runs/cartpole-s5")
    assert train.start_from == ("--from", "x")
    with pytest.raises(UsageError, match="--from x: set the new run's folder with --run"):
        _train_command(["--from", "x"])


def test_where_a_run_stands_is_read_from_its_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert Standing.of(folder) == Standing(-1, None, None)
    folder.journal_file.write_bytes(b"no journal")
    standing = Standing.of(folder)
    assert standing.generations == -1
    assert standing.journal is not None
    folder.journal_file.write_bytes(b"another")
    assert Standing.of(folder).journal != standing.journal


def test_what_killed_supervisors_left_is_swept_and_that_of_living_ones_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(scratch, "SHARED_MEMORY", tmp_path / "none")
    dead, alive = (
        tmp_path / f"esd-launch-{os.getuid()}-{pid}-x" for pid in (2**22 + 1, os.getpid())
    )
    for path in (dead, alive, tmp_path / "esd-launch-mine"):
        path.mkdir()
    with scratch.folders() as (files, in_memory):
        assert in_memory is None
        assert {path.name for path in tmp_path.iterdir()} == {
            alive.name,
            files.name,
            "esd-launch-mine",
        }
    assert not files.exists()


def test_a_shell_in_a_job_of_slurm_is_no_job() -> None:
    assert not belongs_to_a_job({"SLURM_STEP_NUM_TASKS": "1"})
    assert belongs_to_a_job({"OMPI_COMM_WORLD_SIZE": "2"})
    assert belongs_to_a_job({SUPERVISED: "x"})
