"""The watch over a process: it wakes what sleeps, ends what can't be woken, and lets go of what is done in time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numba
import pytest

from esd import watch
from esd.mpi.comm import Alone, JobFailedError, agreement
from esd.watch.kernels import words
from tests.helpers.shell import environment


@pytest.fixture(autouse=True)
def started() -> Iterator[None]:
    assert watch.start()
    yield
    watch.clear_deadline()
    watch.stop()


def beat() -> int:
    return watch.WATCH.beat()


def test_what_sleeps_is_woken_at_its_deadline() -> None:
    began = time.monotonic()
    error = pytest.raises(watch.DeadlineError, match=r"sleeping took longer than 0.1 s")
    with error, watch.within(0.1, "sleeping"):
        time.sleep(30)
    assert time.monotonic() - began < 5


def test_except_exception_does_not_swallow_a_deadline() -> None:
    def deaf() -> None:
        while True:
            try:
                time.sleep(30)
            except Exception:
                continue

    with pytest.raises(watch.DeadlineError), watch.within(0.1, "trying"):
        deaf()


def test_what_swallows_everything_is_woken_again() -> None:
    woken = 0
    with watch.within(0.1, "trying", grace=60.0):
        while woken < 2:
            try:
                time.sleep(30)
            except BaseException:
                woken += 1


def test_nothing_happens_to_what_is_done_in_time() -> None:
    with watch.within(2.0, "a short sleep"):
        time.sleep(0.01)
    time.sleep(2.5)


def test_a_deadline_around_another_rests_and_is_put_off() -> None:
    with watch.within(0.4, "outside"):
        with watch.within(30.0, "inside"):
            time.sleep(0.8)
        with pytest.raises(watch.DeadlineError, match="outside"):
            time.sleep(30)


def test_other_threads_set_no_deadline() -> None:
    thread = threading.Thread(target=lambda: watch.set_deadline(0.0, "a thread's"))
    thread.start()
    thread.join()
    time.sleep(0.3)


@numba.njit
def spin(rounds):  # with the interpreter's lock
    x = 0.0
    for i in range(rounds):
        x += i**0.5 / (1.0 + x)
    return x


def test_the_heart_beats_while_compiled_code_holds_the_interpreter_lock() -> None:
    spin(1)
    begun, rounds, taken = time.monotonic_ns(), 10_000_000, 0.0
    while taken < 0.7:
        begun = time.monotonic_ns()
        spin(rounds)
        last = beat()
        taken, rounds = (time.monotonic_ns() - begun) / 1e9, 2 * rounds
    assert last - begun > 0.5e9 * taken


def test_a_forked_child_has_no_watch_and_no_deadline() -> None:
    with watch.within(0.2, "the parent's", grace=60.0):
        child = os.fork()
        if child == 0:
            time.sleep(0.6)
            os._exit(7 if not watch.WATCH.runs else 8)
        with pytest.raises(watch.DeadlineError):
            time.sleep(30)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_it_stops_and_starts_again() -> None:
    watch.stop()
    before = beat()
    time.sleep(0.3)
    assert beat() == before
    assert watch.start()
    time.sleep(0.3)
    assert beat() > before


def test_a_lone_process_gives_up_what_hangs_outside_of_evaluations() -> None:
    alone = Alone()
    alone.deadline_seconds = 0.1
    failed = pytest.raises(JobFailedError)
    with failed as raised, agreement(alone, "opening the run's folder"):
        time.sleep(30)
    assert "opening the run's folder took longer than 0.1 s" in str(raised.value.__cause__)
    with agreement(alone, "evaluating", evaluates=True):
        time.sleep(0.4)


STUCK = """
import ctypes, sys
from esd import watch
watch.start()
watch.WATCH.name("rank 3")
watch.WATCH.exit_with(int(sys.argv[1]))
watch.at(12, 7)
lib = ctypes.PyDLL(None)  # which holds the interpreter's lock
with watch.within(0.1, "a call that never returns", grace=0.3):
    lib.pthread_sigmask(0, bytes([255]) * 128, None)  # it isn't interrupted, either
    lib.sleep(1000)
"""


@pytest.mark.parametrize(("code", "exit_code"), [(1, 1), (0, 0), (-1, -9)])
def test_what_can_not_be_woken_is_ended_with_a_line_and_its_stacks(
    code: int, exit_code: int
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", STUCK, str(code)],
        env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == exit_code
    line, _, stacks = ended.stderr.partition("\n")
    assert line == (
        "esd: rank 3: a call that never returns took longer than 0.1 s and could not be interrupted; this process is "
        "ended, in generation 12, row 7"
    )
    assert 'File "<string>", line 11 in <module>' in stacks


def test_texts_are_cut_to_their_room() -> None:
    with watch.within(30.0, "ä" * 5000):
        assert len(watch.WATCH._text(words.WHAT)) <= words.TEXT_BYTES
