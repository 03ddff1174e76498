"""A watch over this process: a heartbeat, and deadlines that hold although compiled code has the interpreter's lock.

The watch is a thread that runs compiled code alone (``loop``). Ten times in a second it writes a heartbeat and looks at
this process's deadline, a word of memory. When the deadline has passed it wakes the main thread with a signal whose
handler raises ``DeadlineError`` there. Code that never returns to Python doesn't notice: after ``GRACE_SECONDS`` the
watch prints a line and the stacks of all threads, and ends the process.

    watch.start()
    with watch.within(30.0, "reading the file"):
        …

Deadlines belong to the thread that has started the watch, the main one; in other threads they change nothing, and also
where there is no watch: on other systems than Linux, and in a process that was forked.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import mmap
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from esd.errors import EXIT_FAILED
from esd.watch.kernels import words

TICK_SECONDS = 0.1
GRACE_SECONDS = 5.0
LONGEST_SECONDS = 1e9  # what follows is no limit
# real-time signals that nobody else uses, one to wake and one for stacks
WAKE_SIGNAL = signal.SIGRTMAX - 4 if hasattr(signal, "SIGRTMAX") else 0
_MEMORY_BYTES = 8192
_PLACE_AT = 900  # in words; texts lie before it
_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221}
_FUTEX_WAKE_PRIVATE = 129
_SETTLE_SECONDS = 0.5


class DeadlineError(BaseException):
    """The deadline has passed. No ``Exception``: ``except Exception`` in a user's code must not swallow it.

    Attributes:
        what: was under way.
        seconds: it was given; 0 where the reason is another one.
        heard: it is another rank that has found out what is wrong, and knows more.
    """

    def __init__(self, what: str, seconds: float = 0.0, heard: bool = False) -> None:
        """Remember what took too long."""
        super().__init__(f"{what} took longer than {seconds:g} s" if seconds else what)
        self.what, self.seconds, self.heard = what, seconds, heard


class Watch:
    """The watch of a process; there is one, whose methods are this module's functions.

    Attributes:
        interruptions: how often it has raised ``DeadlineError`` because a deadline had passed.
    """

    def __init__(self) -> None:
        """Lay out its memory; nothing runs yet."""
        # zeros; a forked child has its own copy
        self._memory = mmap.mmap(-1, _MEMORY_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._words = memoryview(self._memory).cast("q")
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._place = self._words[_PLACE_AT : _PLACE_AT + words.PLACE_WORDS]
        self._owner = 0  # the thread whose deadlines these are; 0: nobody's
        self._main = False
        self._thread: ctypes.c_ulong | None = None
        self._code: Any = None
        self._judged = False
        self._what = ""
        self.interruptions = 0
        free = self._address + 8 * words.CONTROL_WORDS
        for word in (words.TEXT, words.VERDICT_TEXT, words.WHO, words.WHAT):
            self._words[word] = free
            free += words.TEXT_BYTES
        self._use_own_place()
        self.at(-1, -1)

    @property
    def runs(self) -> bool:
        """Whether it does, in this process."""
        return self._thread is not None

    @property
    def is_mine(self) -> bool:
        """Whether it runs, and this is the thread that has started it."""
        return self._thread is not None and threading.get_ident() == self._owner

    def start(self) -> bool:
        """Start it, once per process; False where that isn't possible."""
        if self._thread is not None:
            return True
        if sys.platform != "linux" or sys.maxsize < 2**32:
            return False
        from esd.watch.kernels.loop import watch

        libc = ctypes.CDLL(None, use_errno=True)
        control = self._words
        for word, name in (
            (words.CLOCK_GETTIME, "clock_gettime"),
            (words.SYSCALL, "syscall"),
            (words.PTHREAD_KILL, "pthread_kill"),
            (words.PTHREAD_SELF, "pthread_self"),
            (words.WRITE, "write"),
            (words.EXIT, "_exit"),
            (words.KILL, "kill"),
            (words.POLL, "poll"),
            (words.SENDTO, "sendto"),
            (words.RECV, "recv"),
            (words.NANOSLEEP, "nanosleep"),
        ):
            control[word] = _address_of(name)
        control[words.FUTEX] = futex()[1]
        control[words.TICK] = int(TICK_SECONDS * 1e9)
        control[words.GRACE] = int(GRACE_SECONDS * 1e9)
        control[words.EXIT_CODE] = EXIT_FAILED
        control[words.PROCESS] = os.getpid()
        control[words.THREAD] = threading.get_ident()
        control[words.STOP] = 0
        self.name(f"process {os.getpid()}")
        self._owner = threading.get_ident()
        wake = WAKE_SIGNAL
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            signal.signal(wake, self._woken)
            control[words.WAKE_SIGNAL] = wake
        with contextlib.suppress(OSError, RuntimeError):
            faulthandler.register(wake + 1, 2, all_threads=True)
            control[words.DUMP_SIGNAL] = wake + 1
        self._code = watch  # the machine code lives as long as this object
        thread = ctypes.c_ulong()
        # signals of the process are for threads of Python's
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - {wake + 1})
        try:
            failed = libc.pthread_create(
                ctypes.byref(thread), None, ctypes.c_void_p(watch.address), ctypes.c_void_p(self._address)
            )  # fmt: skip
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if failed:
            self._owner = 0
            return False
        self._thread = thread
        atexit.register(self.stop)
        return True

    def stop(self) -> None:
        """End it; ``start`` begins anew."""
        thread, self._thread, self._owner = self._thread, None, 0
        if thread is None:
            return
        atexit.unregister(self.stop)
        self._words[words.DEADLINE] = 0
        self._words[words.STOP] = 1
        self._wake_loop()
        ctypes.CDLL(None).pthread_join(thread, None)

    def forget(self) -> None:
        """In a forked child: there is no thread, and the place in the node's memory is the parent's."""
        self._thread, self._owner = None, 0
        atexit.unregister(self.stop)
        self._words[words.DEADLINE] = 0
        self._use_own_place()

    def name(self, who: str) -> None:
        """Say which process this is, for messages."""
        self._set_text(words.WHO, who)

    def exit_with(self, code: int) -> None:
        """How the process ends when it can't be interrupted: an exit code, or -1 for SIGKILL."""
        self._words[words.EXIT_CODE] = code

    def set_deadline(self, seconds: float, what: str = "", grace: float = GRACE_SECONDS) -> None:
        """Set this process's deadline, in place of any other.

        Args:
            seconds: from now on.
            what: is under way, for messages; the last one by default.
            grace: from then to the end of a process that can't be interrupted [s].
        """
        if threading.get_ident() != self._owner:
            return
        control = self._words
        if what and what != self._what:
            self._what = what
            self._set_text(words.WHAT, what)
        control[words.ALLOWANCE] = 0
        control[words.MILLISECONDS] = int(seconds * 1e3)
        control[words.GRACE] = int(grace * 1e9)
        control[words.DEADLINE] = time.monotonic_ns() + int(seconds * 1e9)

    def clear_deadline(self) -> None:
        """There is no deadline any more."""
        if threading.get_ident() == self._owner:
            self._words[words.DEADLINE] = 0

    @contextlib.contextmanager
    def within(
        self, seconds: float, what: str, patient: bool = False, grace: float = GRACE_SECONDS
    ) -> Iterator[None]:
        """Give the block so long. A deadline from outside of it rests meanwhile, and is put off by what it took.

        Args:
            seconds: at most.
            what: is done, for messages.
            patient: the time does not run as long as another rank of the node, or one of another node, works.
            grace: see ``set_deadline``.

        Raises:
            DeadlineError: in the block, when they have passed.
        """
        if threading.get_ident() != self._owner or not seconds < LONGEST_SECONDS:
            yield
            return
        control = self._words
        began = time.monotonic_ns()
        kept = words.DEADLINE, words.ALLOWANCE, words.MILLISECONDS, words.GRACE
        before, what_before = [control[word] for word in kept], self._what
        control[words.DEADLINE] = 0
        try:
            try:
                self.set_deadline(seconds, what, grace)
                if patient:
                    control[words.ALLOWANCE] = int(seconds * 1e9)
                yield
            finally:
                control[words.DEADLINE] = 0
        finally:  # the exception may come in the line above
            control[words.DEADLINE] = 0
            if self._owner and before[0]:
                self._what = what_before
                self._set_text(words.WHAT, what_before)
                for word, value in zip(kept[1:], before[1:], strict=True):
                    control[word] = value
                control[words.DEADLINE] = before[0] + time.monotonic_ns() - began

    def join(
        self,
        place: memoryview,
        address: int,
        peers: int,
        hosts: int,
        silence: float,
        survives: bool,
    ) -> None:
        """Work beside others from here on: what this rank tells them, and who they are.

        Args:
            place: in the memory of the node, ``PLACE_WORDS``; it stays as long as the process.
            address: of it.
            peers: address of a table of the other ranks of the node; 0: there are none.
            hosts: address of a table of the other hosts; 0: there are none.
            silence: how long one of them may be silent [s].
            survives: the others go on when one is killed.
        """
        control = self._words
        self._place[words.GONE] = words.LEFT
        self._place = place
        control[words.PEERS] = control[words.HOSTS] = 0
        control[words.SILENCE] = int(min(silence, LONGEST_SECONDS) * 1e9)
        control[words.SURVIVES] = survives
        control[words.EXIT_CODE] = -1 if survives else EXIT_FAILED
        control[words.HEARTBEAT] = control[words.OWN] = address
        control[words.PEERS], control[words.HOSTS] = peers, hosts
        self.settle()

    def leave(self) -> None:
        """Work alone again: nobody judges this rank any more, and it judges nobody; unless it has given up."""
        control = self._words
        if control[words.VERDICT]:
            return
        control[words.PEERS] = control[words.HOSTS] = control[words.SURVIVES] = 0
        self._place[words.GONE] = words.LEFT
        self._use_own_place()
        self.settle()

    def settle(self) -> None:
        """Wait until the loop uses what was set."""
        end = time.monotonic() + _SETTLE_SECONDS
        for _ in range(2):  # the look under way may have begun before
            before = self.beat()
            while self._thread is not None and self.beat() == before and time.monotonic() < end:
                self._wake_loop()
                time.sleep(0.0002)

    def _wake_loop(self) -> None:
        if self._words[words.FUTEX]:
            stop = ctypes.c_void_p(self._address + 8 * words.STOP)
            number = self._words[words.FUTEX]
            ctypes.CDLL(None).syscall(number, stop, _FUTEX_WAKE_PRIVATE, 1)

    def at(self, generation: int, row: int) -> None:
        """Say what this rank works on; -1: nothing."""
        place = self._place
        place[words.GENERATION] = generation
        place[words.ROW] = row
        place[words.SINCE] = time.monotonic_ns()

    def beat(self) -> int:
        """When the heart beat last [ns of CLOCK_MONOTONIC]."""
        return int(self._place[words.BEAT])

    def waits(self, waits: bool) -> None:
        """Say whether this rank waits for others."""
        self._place[words.WAITS] = waits

    def _use_own_place(self) -> None:
        """Tell it nobody else."""
        self._place = self._words[_PLACE_AT : _PLACE_AT + words.PLACE_WORDS]
        self._words[words.HEARTBEAT] = self._words[words.OWN] = self._address + 8 * _PLACE_AT

    def _set_text(self, word: int, text: str) -> None:
        encoded = text.encode("utf-8", "replace")[: words.TEXT_BYTES - 64]
        at = self._words[word] - self._address
        self._words[at // 8] = 0
        self._memory[at + 8 : at + 8 + len(encoded)] = encoded
        self._words[at // 8] = len(encoded)

    def _text(self, word: int) -> str:
        at = self._words[word] - self._address
        return self._memory[at + 8 : at + 8 + self._words[at // 8]].decode("utf-8", "replace")

    def _woken(self, number: int, frame: FrameType | None) -> None:
        """The watch's signal. What it was sent for may be over by now."""
        if not self._owner:
            return
        if self._words[words.VERDICT]:
            if not self._judged:
                self._judged = True
                heard = self._words[words.VERDICT] == words.HEARD_OF
                raise DeadlineError(self._text(words.VERDICT_TEXT), heard=heard)
        elif 0 < self._words[words.DEADLINE] <= time.monotonic_ns():
            self.interruptions += 1
            raise DeadlineError(self._what, self._words[words.MILLISECONDS] / 1e3)


def _address_of(name: str) -> int:
    """Where a C function is."""
    return ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value or 0


def futex() -> tuple[int, int]:
    """The address of the C function ``syscall``, and its number for sleeping on a word; 0 where it isn't known."""
    known = sys.platform == "linux" and sys.byteorder == "little"
    return _address_of("syscall"), _FUTEX.get(platform.machine(), 0) if known else 0


WATCH = Watch()
start, stop, within = WATCH.start, WATCH.stop, WATCH.within
set_deadline, clear_deadline, at = WATCH.set_deadline, WATCH.clear_deadline, WATCH.at
os.register_at_fork(after_in_child=WATCH.forget)
