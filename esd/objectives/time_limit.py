"""A time limit around a call, by a timer signal: no second process, and nothing is pickled.

Python raises at the next instruction of its own. Compiled code that never returns to Python can't be interrupted; what
waits for a system call (a subprocess, a socket, sleep) can.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from esd.errors import UsageError

REMINDER_SECONDS = 1.0  # code that swallows every exception is interrupted again


class TimeLimitError(BaseException):
    """The time is over. No ``Exception``: ``except Exception`` in the code that is called must not swallow it."""


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise in the block once it has taken so long; None sets no limit.

    Raises:
        TimeLimitError: in the block.
        UsageError: in a thread that is not the main one, which gets no signals.
    """
    if seconds is None:
        yield
        return
    if threading.current_thread() is not threading.main_thread():
        raise UsageError(
            "objective.max_seconds: works in the main thread of a process only; leave it out"
        )
    before = signal.signal(signal.SIGALRM, _raise)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, max(seconds, REMINDER_SECONDS))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
    finally:
        signal.signal(signal.SIGALRM, before)


def _raise(number: int, frame: FrameType | None) -> None:
    raise TimeLimitError
