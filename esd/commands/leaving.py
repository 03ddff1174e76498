"""The end of a process: what a user's code has left behind must not keep a finished job alive."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path

from esd import watch
from esd.mpi.launch import launched, launched_by_srun, launched_rank, release_signals

LEAVE_SECONDS = 30.0  # for the interpreter's end, the user's exit handlers included
HEARD_SECONDS = 0.5  # for a launcher to pass on what its first process has written
OTHERS_SECONDS = 5.0  # for the first process to write it: a launcher ends all when one has failed
_END_SECONDS = 2.0  # for processes that were killed to be gone
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of processes whose own has died: whoever forks twice is found, too (Linux)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_children(others: Collection[int] = ()) -> None:
    """Kill the processes that this one has started, and those that they have.

    Args:
        others: but for these.
    """
    _end_pools()
    end, told = time.monotonic() + _END_SECONDS, False
    while (left := {*descendants(os.getpid())}.difference(others)) and time.monotonic() < end:
        if not told:
            told = True
            count = f"{len(left)} process" + ("es that were" if len(left) > 1 else " that was")
            _say(f"killed {count} left behind by the environment, the policy or a function")
        for process in left:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


def _end_pools() -> None:
    """Let multiprocessing end its pools: one whose workers were killed may wait for a lock of theirs for ever."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        with (
            contextlib.suppress(watch.DeadlineError, Exception),
            watch.within(_END_SECONDS, "ending pools of processes"),
        ):
            util._run_finalizers(0)


def descendants(of: int) -> list[int]:
    """Processes that one has started, and those that they have; not those that are dead and only not waited for."""
    children: dict[int, list[int]] = {}
    dead, folders = set(), list[Path]()
    with contextlib.suppress(OSError):  # such as no descriptor that is free
        folders = list(Path("/proc").glob("[0-9]*"))
    for folder in folders:
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, parent = (folder / "stat").read_bytes().rpartition(b")")[2].split()[:2]
            children.setdefault(int(parent), []).append(int(folder.name))
            if state in (b"Z", b"X"):
                dead.add(int(folder.name))
    found, last = [], [of]
    while last:
        last = [child for process in last for child in children.get(process, [])]
        found += last
    return [process for process in found if process not in dead]


def be_heard() -> None:
    """Wait until what the first of several processes says of a wrong command line has been passed on.

    All come to the same error, but not at the same time. Open MPI's mpirun kills the others, the first one included,
    when one has ended with an error, and may lose the last words of a process that ends as soon as it has written them.
    """
    if launched() and not launched_by_srun():
        release_signals()  # whom the launcher ends need not wait
        met = (
            "mpi4py.MPI" in sys.modules
        )  # they have left MPI together, so the first one has spoken
        time.sleep(HEARD_SECONDS if met or not launched_rank() else OTHERS_SECONDS)


def leave(code: object) -> None:
    """End this process with an exit code if threads would keep it alive; otherwise see to it that it ends soon.

    Args:
        code: of ``SystemExit``.
    """
    number = 0 if code is None else code if isinstance(code, int) else 1
    watch.WATCH.exit_with(number)
    watch.set_deadline(LEAVE_SECONDS, "leaving", grace=0.0)
    main = threading.main_thread()
    left = [thread for thread in threading.enumerate() if thread is not main and not thread.daemon]
    if not left or threading.current_thread() is not main:
        return
    count = f"{len(left)} thread" + ("s that were" if len(left) > 1 else " that was")
    _say(f"ended {count} left behind by the environment, the policy or a function")
    atexit.unregister(watch.stop)  # the deadline is for the other exit handlers, too
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(number)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"esd: {text}\n".encode())
