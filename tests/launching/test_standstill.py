"""A job whose processes are stopped or do not join is found by its supervisor, and one that is suspended is let be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from esd.launching.standstill import STOPPED_SECONDS, Standstill, is_stopped
from esd.mpi.launch import SUPERVISED, word_for_supervisor
from esd.mpi.team import Team
from tests.helpers.thread_ranks import ThreadRanks, World

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
BEGAN = 1000.0


class Job:
    """What is looked at of a job: an mpirun and three ranks, which sleep."""

    def __init__(self) -> None:
        self.process, *self.ranks = (subprocess.Popen(["sleep", "600"]) for _ in range(4))
        self.began, self.started, self.watched = BEGAN, False, False

    def ranks_here(self) -> list[int]:
        return [rank.pid for rank in self.ranks]

    def stop(self, *processes: subprocess.Popen[bytes]) -> None:
        for process in processes:
            process.send_signal(signal.SIGSTOP)
            while not is_stopped(process.pid):
                time.sleep(0.001)


@pytest.fixture
def job() -> Iterator[Any]:
    job = Job()
    yield job
    for process in (job.process, *job.ranks):
        process.kill()
        process.wait()


def looked(standstill: Standstill, seconds: int, since: float = BEGAN) -> str:
    """Look once a second for so long; the first reason."""
    reasons = (standstill.reason(since + second) for second in range(1, seconds + 1))
    return next((reason for reason in reasons if reason), "")


def test_a_rank_that_is_stopped_before_the_ranks_watch_each_other_is_named_after_a_minute(
    job: Any,
) -> None:
    job.stop(job.ranks[1])
    job.started = True  # MPI is initialized
    standstill = Standstill(job, start_seconds=300.0, local=True)
    assert looked(standstill, int(STOPPED_SECONDS)) == ""
    text = f"process {job.ranks[1].pid} of the job has been stopped for 60 s"
    assert looked(standstill, 2, BEGAN + STOPPED_SECONDS) == text
    job.ranks[1].send_signal(signal.SIGCONT)  # what is continued counts no longer
    while is_stopped(job.ranks[1].pid):
        time.sleep(0.001)
    assert looked(standstill, 100, BEGAN + 70.0) == ""


def test_ranks_that_watch_each_other_find_a_stopped_one_themselves_but_not_mpirun(job: Any) -> None:
    job.watched = True
    job.stop(job.ranks[1])
    standstill = Standstill(job, start_seconds=300.0, local=True)
    assert looked(standstill, 1000) == ""
    job.stop(job.process)
    assert f"mpirun (process {job.process.pid}) has been stopped" in looked(standstill, 100, 2000.0)


def test_a_job_that_is_suspended_as_a_whole_is_let_be(job: Any) -> None:
    job.watched = True
    job.stop(*job.ranks, job.process)
    assert looked(Standstill(job, start_seconds=300.0, local=True), 1000) == ""


def test_the_time_in_which_the_supervisor_was_stopped_does_not_count(job: Any) -> None:
    job.stop(job.ranks[0])
    job.started = True
    standstill = Standstill(job, start_seconds=1e6, local=True)
    assert [standstill.reason(BEGAN + 10_000.0 * look) for look in range(1, 60)] == [""] * 59


def test_the_deadline_of_the_start_lasts_until_the_ranks_watch_each_other(job: Any) -> None:
    standstill = Standstill(job, start_seconds=5.0, local=True)
    job.started = True
    assert looked(standstill, 5) == ""
    assert standstill.reason(BEGAN + 6.0) == "not all ranks had connected after 6 s"
    job.stop(job.ranks[2])
    of_it = f": process {job.ranks[2].pid} of the job has been stopped"
    assert standstill.reason(BEGAN + 6.0) == f"not all ranks had connected after 6 s{of_it}"
    job.watched = True
    assert standstill.reason(BEGAN + 7.0) == ""


def test_a_rank_that_is_lost_in_the_start_is_noticed_on_this_machine(job: Any) -> None:
    standstill = Standstill(job, start_seconds=300.0, local=True)
    elsewhere = Standstill(job, start_seconds=300.0, local=False)
    assert looked(standstill, 10) == looked(elsewhere, 10) == ""
    lost = job.ranks.pop()
    try:
        text = "a rank was lost before all ranks had connected"
        assert looked(standstill, 4, BEGAN + 10.0) == text
        assert looked(elsewhere, 4, BEGAN + 10.0) == ""
        job.started = True  # from here on the others may go on without it
        assert looked(standstill, 4, BEGAN + 20.0) == ""
    finally:
        lost.kill()
        lost.wait()


def test_a_process_that_runs_has_ended_or_is_not_there_is_not_stopped() -> None:
    assert not is_stopped(os.getpid())
    assert not is_stopped(2**22 + 1)


def test_ranks_say_that_they_watch_each_other_once_all_of_them_do(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A rank may be stopped after MPI was initialized, too, on a machine of its own."""
    monkeypatch.setenv(SUPERVISED, "token")
    word = word_for_supervisor("watched", "token")
    said = []

    def body(comm: ThreadRanks) -> None:
        if comm.rank == 2:
            time.sleep(0.3)
            said.append(capfd.readouterr().err)
        with Team(comm):
            comm.agree(True)

    assert World(3, 2, {}).run(body) == [None, None, None]
    assert word not in said[0]
    assert capfd.readouterr().err.count(word) == 1
