"""A limit of wall time around a call of the user's code, which runs in this process: nothing is pickled.

First a signal lets Python raise at the next instruction of its own; what waits in a system call (a subprocess, a
socket, sleep) is woken by it. Compiled code that never returns to Python can't be interrupted, only ended with its
process: GRACE_SECONDS later a thread that needs no interpreter lock prints where every thread stands and ends the
process. It is the watch's; where there is none, as in a Python program that calls ``esd.train``, it is faulthandler's.
Whoever finds the row that was under way then knows by the last signal that the time was over.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from esd import watch
from esd.errors import UsageError

GRACE_SECONDS = 5.0  # from the signal to the end of a process that does not answer
REMINDER_SECONDS = 1.0  # code that swallows every exception is interrupted again
SHORTEST_SECONDS = 1e-6  # a timer takes less for none
LONGEST_SECONDS = 1e9  # of what a timer can wait for
STDERR = 2
WHAT = "an evaluation"
interruptions = 0  # of this process


class TimeLimitError(BaseException):
    """The time is over. No ``Exception``: ``except Exception`` in the code that is called must not swallow it."""


@contextlib.contextmanager
def time_limit(seconds: float | None, setting: str) -> Iterator[Callable[..., None]]:
    """Raise in the block once it has taken so long; None sets no limit.

    Args:
        seconds: of wall time.
        setting: that the limit comes from, for messages.

    Yields:
        What lets the time begin again, with as many seconds or with others.

    Raises:
        TimeLimitError: in the block; at its end, if the code in it has swallowed that: what it then gave depends on
            when it was interrupted.
        UsageError: in a thread that is not the main one, which gets no signals.
    """
    if seconds is None:
        yield _nothing
        return
    if threading.current_thread() is not threading.main_thread():
        raise UsageError(
            f"{setting}: only works in the main thread of a process; remove this setting"
        )
    if watch.WATCH.is_mine:
        global interruptions
        earlier = watch.WATCH.interruptions
        try:
            with watch.within(seconds, WHAT, grace=GRACE_SECONDS):
                yield functools.partial(_again, seconds)
        except watch.DeadlineError as error:
            if not error.seconds:  # of another rank
                raise
            interruptions += 1
            raise TimeLimitError from None
        if watch.WATCH.interruptions != earlier:  # a bare except has swallowed it
            interruptions += 1
            raise TimeLimitError
        return

    def begin(limit: float = seconds) -> None:
        timer = min(max(limit, SHORTEST_SECONDS), LONGEST_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, timer, max(timer, REMINDER_SECONDS))
        _end_later(limit + GRACE_SECONDS)

    before, earlier = signal.signal(signal.SIGALRM, _raise), interruptions
    try:
        try:
            begin()
            yield begin
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            faulthandler.cancel_dump_traceback_later()
        if interruptions != earlier:
            raise TimeLimitError
    finally:
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def ended_after(seconds: float | None) -> Iterator[None]:
    """End this process if the block takes longer by GRACE_SECONDS; None sets no limit."""
    if seconds is None:
        yield
        return
    if watch.WATCH.is_mine:
        with watch.within(seconds + GRACE_SECONDS, WHAT, grace=0.0):
            yield
        return
    _end_later(seconds + GRACE_SECONDS)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _end_later(seconds: float) -> None:
    with contextlib.suppress(OSError, RuntimeError):  # no thread can be started
        faulthandler.dump_traceback_later(min(seconds, LONGEST_SECONDS), exit=True, file=STDERR)


def _again(limit: float, seconds: float | None = None) -> None:
    watch.set_deadline(limit if seconds is None else seconds, WHAT, GRACE_SECONDS)


def _nothing(seconds: float = 0.0) -> None:
    """There is no limit."""


def _raise(number: int, frame: FrameType | None) -> None:
    global interruptions
    interruptions += 1
    raise TimeLimitError
