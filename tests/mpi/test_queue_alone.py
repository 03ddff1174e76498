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
TAKE_AND_PRINT = """
import os, sys
from esd.mpi.schedule import SharedQueue
queue = SharedQueue(os.open(sys.argv[1], os.O_RDWR))
queue.take(0)
print("ready", flush=True)
sys.stdin.readline()
print(*[queue.take(1) for _ in range(20000)])
"""


def opened(path: bytes) -> SharedQueue:
    """A queue of its own descriptor."""
    return SharedQueue(os.open(path, os.O_RDWR))


@pytest.fixture
def path(tmp_path: Path) -> bytes:
    """Under which other processes open a queue's memory."""
    (tmp_path / "queue").write_bytes(bytes(WORD_BYTES))
    return os.fsencode(tmp_path / "queue")


def started(program: str, path: bytes) -> subprocess.Popen[str]:
    """A process that draws from the queue, and has begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, path],
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


def test_every_ticket_is_given_once_to_processes_that_ask_at_once(path: bytes) -> None:
    processes = [started(TAKE_AND_PRINT, path) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    taken = [np.array(process.communicate()[0].split(), int) for process in processes]
    np.testing.assert_array_equal(np.sort(np.concatenate(taken)), np.arange(60000))


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
