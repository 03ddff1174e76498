"""Being asked to stop: the handler only takes a note; the run reads it at the next safe point."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from esd.errors import RunError
from esd.run.files import close


class StoppedAtStartError(Exception):
    """A run was asked to stop before the first generation of this call; nothing was written. All ranks raise it."""


class StopRequest:
    """Whether somebody asked this process to stop.

    SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 ask for it, and SIGHUP, which a closed terminal sends, unless it was ignored
    when the block began (as by ``nohup``). An environment may install handlers of its own, block signals or make a
    closed pipe deadly: ``renew`` puts ours back, and finds the signals that theirs took meanwhile, whose numbers Python
    also writes to a pipe.

    Attributes:
        requested: set by the first of these signals.
        number: of the last signal that came; None before.
        announce: called once, in the handler of the first signal that comes from then on, with that signal. It has
            to be short, and must not use what the interrupted code may be using, such as a buffered stream.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)

    def __init__(self) -> None:
        """Nobody did yet."""
        self.requested = False
        self.number: signal.Signals | None = None
        self.announce: Callable[[signal.Signals], None] | None = None
        self._heard: tuple[signal.Signals, ...] = ()  # those that are ours inside of the block
        self._pipe: tuple[int, int] | None = None
        self._file: tuple[int, int] | None = None  # in its place

    @contextlib.contextmanager
    def listening(self, ends_process: bool = False) -> Iterator[None]:
        """Take note of signals inside of the block; a second Ctrl-C interrupts at once, as without us.

        Only a program's main thread can listen; in another one the block changes nothing.

        Args:
            ends_process: nothing but the end of the process follows. If it was asked to stop, it is on its way: a
                signal that comes later must not end it with another exit code.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (*self.SIGNALS, signal.SIGPIPE)}
        _listening.append(self)
        self._heard = tuple(
            number
            for number in self.SIGNALS
            if number != signal.SIGHUP or before[number] is not signal.SIG_IGN
        )
        self._pipe = os.pipe()
        for descriptor in self._pipe:
            os.set_blocking(descriptor, False)
        wakeup_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self.renew()
        try:
            yield
        finally:
            _listening.remove(self)
            ignored = self._heard if ends_process and self.requested else ()
            self._heard = ()
            signal.set_wakeup_fd(wakeup_before)
            self._file = None
            for descriptor in self._pipe:
                close(descriptor)
            self._pipe = None
            for number, handler in before.items():
                # None: a handler that was not installed from Python, and can't be put back from it
                former = signal.SIG_DFL if handler is None else handler
                signal.signal(number, signal.SIG_IGN if number in ignored else former)

    def keep_in(self, descriptors: tuple[int, int] | None) -> None:
        """Note signals in a file from now on, which outlives this process, in place of a pipe.

        Args:
            descriptors: of its end, to read and to append to; None for the pipe again.
        """
        if self._heard and descriptors != self._file:
            self.renew()
            self._file = descriptors
            self.renew()

    def renew(self) -> None:
        """Put our handlers back, whoever has replaced them; does nothing outside of a ``listening`` block."""
        if not self._heard or self._pipe is None:
            return
        reads, writes = self._file or self._pipe
        for taken in self._signals_taken(reads):
            self._note(taken, None)
        try:
            signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
        except (OSError, ValueError):  # an environment has closed it
            self._file = None
            try:
                signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            except (OSError, ValueError):
                raise RunError(
                    "the code of the environment, the policy or the objective has closed files that it did not open "
                    "(such as by os.closerange). Correct it, and run the same command again to resume"
                ) from None
        for number in self._heard:
            again = number == signal.SIGINT and self.number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if again else self._note)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python has it: an error, not the end
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._heard)

    def _signals_taken(self, descriptor: int) -> list[int]:
        """Our signals that came since the last look, whoever handled them."""
        with contextlib.suppress(OSError):  # none came
            return [number for number in os.read(descriptor, 4096) if number in self._heard]
        return []

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self.number = signal.Signals(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        announce, self.announce = self.announce, None
        if announce is not None:
            announce(self.number)


_listening: list[StopRequest] = []


def _leave_to_the_parent() -> None:
    """In a child that an environment forks SIGTERM is its own end again, and nothing is written to our pipe."""
    if _listening:
        with contextlib.suppress(ValueError):  # forked from another thread than the main one
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


os.register_at_fork(after_in_child=_leave_to_the_parent)
