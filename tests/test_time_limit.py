"""A time limit ends what can be interrupted, and the process of what can't, with or without a watch."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time

import pytest

from esd import time_limit as limits
from esd import watch
from esd.time_limit import TimeLimitError, ended_after, time_limit
from tests.helpers.shell import environment

PROGRAM = """
import collections, itertools, sys, time
from esd import time_limit, watch
time_limit.GRACE_SECONDS = 0.5
if "watch" in sys.argv:
    assert watch.start()
def stuck():
    collections.deque(itertools.repeat(None), maxlen=0)  # in C, with the interpreter's lock
if "sleep" in sys.argv:
    try:
        with time_limit.time_limit(0.3, "x"):
            time.sleep(60.0)
    except time_limit.TimeLimitError:
        sys.exit(7)
elif "compiled" in sys.argv:
    with time_limit.ended_after(0.3):
        stuck()
else:
    with time_limit.time_limit(0.3, "x") as again:
        again(0.2)
        stuck()
"""


@pytest.mark.parametrize("by", ["", "watch"])
@pytest.mark.parametrize(("how", "code"), [("sleep", 7), ("stuck", 1), ("compiled", 1)])
def test_what_takes_too_long_is_interrupted_or_ended_with_its_process(
    how: str, code: int, by: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, how, by],
        env=environment(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ended.returncode == code, ended.stderr
    if code == 1:
        assert "in stuck" in ended.stderr  # where it stood
    if code == 1 and by:
        assert "an evaluation took longer than 0." in ended.stderr


@pytest.mark.parametrize("by_watch", [False, True])
def test_what_swallows_the_interruption_and_goes_on_has_taken_too_long(by_watch: bool) -> None:
    if by_watch:
        assert watch.start()
    try:
        before = limits.interruptions
        limited = time_limit(0.2, "x")
        with pytest.raises(TimeLimitError), limited, contextlib.suppress(BaseException):
            time.sleep(60.0)
        assert limits.interruptions > before
        with time_limit(30.0, "x"):  # the next one begins anew
            pass
    finally:
        watch.stop()


def test_what_is_quick_enough_is_left_alone() -> None:
    with time_limit(30.0, "x") as again, ended_after(30.0):
        again()
    with time_limit(None, "x") as again:
        again()


def test_a_limit_that_is_shorter_than_any_timer_is_no_limit_of_none() -> None:
    with pytest.raises(TimeLimitError), time_limit(1e-9, "x"):
        time.sleep(5.0)


def test_the_time_begins_again() -> None:
    began = time.monotonic()

    def goes_on_for_a_while() -> None:
        with time_limit(2.0, "x") as again:
            for _ in range(4):
                time.sleep(0.7)
                again()
            time.sleep(60.0)

    with pytest.raises(TimeLimitError):
        goes_on_for_a_while()
    assert 2.8 < time.monotonic() - began < 30.0
