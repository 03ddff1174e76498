"""A node's queue among processes that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from esd.mpi import schedule as schedules
from esd.mpi.schedule import SharedQueue, _create_file, _open_file

HOLD_THE_LOCK = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(descriptor, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A queue's file."""
    monkeypatch.setattr(schedules, "SHARED_MEMORY", tmp_path)
    return _create_file()


def test_two_processes_share_one_count(path: bytes) -> None:
    one, other = SharedQueue(_open_file(path)), SharedQueue(_open_file(path))
    assert [one.take(0), other.take(0), one.take(0)] == [0, 1, 2]
    assert [other.take(1), one.take(1)] == [0, 1]
    one.close()
    other.close()


def test_a_process_killed_with_the_lock_in_its_hands_stops_nobody(path: bytes) -> None:
    queue = SharedQueue(_open_file(path))
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


def test_a_full_memory_gives_no_file_and_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(schedules, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(os, "write", full)
    assert _create_file() == b""
    assert list(tmp_path.iterdir()) == []
    assert _open_file(b"") == -1
