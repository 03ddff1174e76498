"""A node's queue among processes that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from esd.mpi.schedule import SharedQueue

HOLD_THE_LOCK = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(descriptor, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def opened(path: bytes) -> SharedQueue:
    """A queue of its own descriptor."""
    return SharedQueue(os.open(path, os.O_RDWR))


@pytest.fixture
def path(tmp_path: Path) -> bytes:
    """Under which other processes open a queue's memory."""
    (tmp_path / "queue").write_bytes(bytes(16))
    return os.fsencode(tmp_path / "queue")


def test_two_processes_share_one_count(path: bytes) -> None:
    one, other = opened(path), opened(path)
    assert [one.take(0), other.take(0), one.take(0)] == [0, 1, 2]
    assert [other.take(1), one.take(1)] == [0, 1]
    one.close()
    other.close()


def test_a_process_killed_with_the_lock_in_its_hands_stops_nobody(path: bytes) -> None:
    queue = opened(path)
    assert queue.take(0) == 0
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        os.kill(holder.pid, signal.SIGKILL)
        assert queue.take(0) == 1
    queue.close()
