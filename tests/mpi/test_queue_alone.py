"""A node's queue among processes that ask at once, stop and die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from esd.mpi.schedule import WORD_BYTES, SharedQueue

TAKE_WITHOUT_END = """
import os, sys
from esd.mpi.schedule import SharedQueue
queue = SharedQueue(os.open(sys.argv[1], os.O_RDWR))
queue.take(0)
print("taking", flush=True)
while True:
    queue.take(0)
"""
TAKE_MANY = """
import mmap, os, sys
import numba, numpy as np
from esd.kernels.tickets import take

@numba.njit
def take_many(word, tickets):
    for i in range(len(tickets)):
        tickets[i] = take(word, 0)

word = np.frombuffer(mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 8), np.uint64)
own = np.zeros(1, np.uint64)
take_many(own, np.zeros(1, np.int64))
print("ready", flush=True)
sys.stdin.readline()
tickets = np.zeros(2_000_000, np.int64)
take_many(word, tickets)
tickets.tofile(sys.argv[2])
"""


def opened(path: bytes) -> SharedQueue:
    """A queue of its own descriptor."""
    return SharedQueue(os.open(path, os.O_RDWR))


@pytest.fixture
def path(tmp_path: Path) -> bytes:
    """Under which other processes open a queue's memory."""
    (tmp_path / "queue").write_bytes(bytes(WORD_BYTES))
    return os.fsencode(tmp_path / "queue")


def started(program: str, path: bytes, *arguments: str) -> subprocess.Popen[str]:
    """A process that draws from the queue, and has begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, path, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def test_two_processes_share_one_count(path: bytes) -> None:
    one, other = opened(path), opened(path)
    assert [one.take(0), other.take(0), one.take(0)] == [0, 1, 2]
    assert [other.take(1), one.take(1)] == [0, 1]
    one.close()
    other.close()


def test_the_count_starts_over_in_any_later_generation(path: bytes) -> None:
    queue = opened(path)
    for generation in (0, 1, 5, 2**31, 2**32 - 2, 2**32, 2**32 + 1):
        assert [queue.take(generation) for _ in range(3)] == [0, 1, 2]
    queue.close()


def test_every_ticket_is_given_once_to_processes_that_ask_at_once(
    path: bytes, tmp_path: Path
) -> None:
    """Millions, in compiled loops: a step that isn't atomic is cut in two many times, even on a single core."""
    files = [str(tmp_path / f"tickets-{number}") for number in range(3)]
    processes = [started(TAKE_MANY, path, file) for file in files]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    taken = np.concatenate([np.fromfile(file, np.int64) for file in files])
    np.testing.assert_array_equal(np.bincount(taken, minlength=6_000_000), 1)


def test_a_process_that_is_stopped_or_killed_at_any_moment_holds_up_nobody(path: bytes) -> None:
    """Once it was stopped with a lock in its hands, and the others waited without end."""
    queue = opened(path)
    process = started(TAKE_WITHOUT_END, path)
    with process:
        for _ in range(100):
            os.kill(process.pid, signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)
            first = queue.take(0)
            assert queue.take(0) == first + 1
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(0.001)
        process.kill()
    first = queue.take(0)
    assert queue.take(0) == first + 1
    queue.close()
