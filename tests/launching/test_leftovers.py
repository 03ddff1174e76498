"""Processes that the user's code has started are killed once their rank is dead, and not before."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from esd.mpi import leftovers
from esd.mpi.comm import Alone
from esd.mpi.team import Team

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for its processes")

# a rank: executes a program, forks a copy of itself, and both leave its process group
RANK = """
import os, subprocess, sys, time
from esd.mpi import leftovers
before = subprocess.Popen(["sleep", "60"]).pid
leftovers.mark()
executed = subprocess.Popen(["sleep", "60"], start_new_session=True).pid
forked = os.fork()
if not forked:
    os.setsid()
    time.sleep(60)
    os._exit(0)
print(before, executed, forked, flush=True)
time.sleep(60)
"""


@pytest.fixture(params=["alone", "started by another rank"])
def rank(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A rank, and three processes that it has started: before it marked what it starts, and two afterwards."""
    variables = {**os.environ}
    variables.pop(leftovers.VARIABLE, None)
    if request.param != "alone":
        own = os.getpid()
        variables[leftovers.VARIABLE] = f"{own}-{leftovers._born(own)}-{leftovers._here()}"
    process = subprocess.Popen(
        [sys.executable, "-c", RANK], env=variables, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    started = [int(word) for word in process.stdout.readline().split()]
    yield process, started
    for each in (process.pid, *started):
        with contextlib.suppress(OSError):
            os.kill(each, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def gone(process: int) -> bool:
    end = time.monotonic() + 5.0
    while leftovers._born(process) is not None and time.monotonic() < end:
        time.sleep(0.01)
    return leftovers._born(process) is None


def test_what_a_killed_rank_has_started_is_killed_by_the_next_team(
    rank: tuple[subprocess.Popen[str], list[int]],
) -> None:
    process, (before, executed, forked) = rank
    with Team(Alone()):
        pass
    assert not {before, executed, forked} & {*leftovers.left_behind()}
    assert all(leftovers._born(each) is not None for each in (before, executed, forked))
    process.kill()  # nobody has waited for it: it is a zombie
    assert gone(process.pid)
    with Team(Alone()):  # or one that another test has made meanwhile
        assert gone(executed)
        assert gone(forked)
    assert leftovers._born(before) is not None


def test_marks_of_other_machines_and_containers_say_nothing() -> None:
    here = leftovers._here()
    assert here is not None
    dead = b"999999999-1-"
    assert leftovers._is_dead(dead + here.encode(), here.encode())
    assert not leftovers._is_dead(dead + b"another-" + here.encode(), here.encode())
    assert not leftovers._is_dead(b"nonsense", here.encode())
    alive = f"{os.getpid()}-{leftovers._born(os.getpid())}-{here}"
    assert not leftovers._is_dead(alive.encode(), here.encode())


def test_this_process_and_those_that_started_it_are_spared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = leftovers._here()
    monkeypatch.setattr(leftovers, "_marks", lambda process: [f"999999999-1-{here}".encode()])
    monkeypatch.setattr(leftovers, "_own_processes", lambda: [os.getpid(), os.getppid(), 999999998])
    assert leftovers.left_behind() == [999999998]
