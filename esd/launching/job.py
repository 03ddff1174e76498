"""One start of mpirun: its processes, what it says on stderr, and how it died."""

from __future__ import annotations

import collections
import contextlib
import os
import re
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from esd.errors import one_line
from esd.mpi.launch import SUPERVISED, die_with_parent, word_for_supervisor

LINES_KEPT = 20  # of stderr
LONGEST_LINE = 1 << 16  # bytes that are held back until their line is whole
TERM_SECONDS = 5.0  # from SIGTERM to SIGKILL
DRAIN_SECONDS = (
    1.0  # for what is still in the pipe: a process that was left behind may hold it open
)
POLL_SECONDS = 0.1
# what Open MPI's launcher says, in lines of 80 characters
_BY_SIGNAL = re.compile(r"process rank (\d+) with PID \d+ on node (\S+) exited on signal (\d+)")
_BY_CODE = re.compile(r"Process name: \[\S+@\d+,(\d+)\] Exit code: (\d+)")


@dataclass(frozen=True)
class Death:
    """How a job ended.

    Attributes:
        code: its exit code, as a shell has it: 137 for SIGKILL.
        why: in words.
        rank: that died first, where the launcher says so.
        signal: that killed it; empty if none did.
        lines: the last ones of stderr.
    """

    code: int
    why: str
    rank: int | None
    signal: str
    lines: tuple[str, ...]


class Job:
    """A running mpirun. It is the leader of a session, so that Ctrl-C reaches it through its supervisor alone.

    Args:
        words: that start it.
        variables: its environment.

    Attributes:
        started: MPI is initialized on all ranks.
        watched: they watch each other.
        done: the command says that there was nothing left to do, or that it has done it.
        final: it says that it would fail again.
    """

    def __init__(self, words: Sequence[str], variables: Mapping[str, str]) -> None:
        """Start it."""
        self._token = secrets.token_hex(8)
        self.started = self.watched = self.done = self.final = False
        self._lines: collections.deque[str] = collections.deque(maxlen=LINES_KEPT)
        self._rest = b""
        self.began = time.monotonic()
        parent = os.getpid()
        self.process = subprocess.Popen(
            list(words),
            env={**variables, SUPERVISED: self._token},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(parent),
        )
        assert self.process.stderr is not None
        self._errors = self.process.stderr.fileno()
        os.set_blocking(self._errors, False)

    def wait(self, seconds: float = POLL_SECONDS) -> int | None:
        """Pass on what it says for so long; its exit code once it has ended."""
        ready, _, _ = select.select([self._errors], [], [], seconds)
        if ready and not self._pass_on():  # closed: it is about to end
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        code = self.process.poll()
        return None if code is None else 128 - code if code < 0 else code

    def ranks_here(self) -> list[int]:
        """The processes that mpirun runs on this machine; none where that can't be seen."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        with contextlib.suppress(OSError):
            return [int(word) for word in children.read_text().split()]
        return []

    def send(self, number: int) -> None:
        """Send a signal to mpirun."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it and everything that it has started on this machine."""
        self.send(signal.SIGTERM)  # it then ends its ranks on other hosts, too
        deadline = time.monotonic() + TERM_SECONDS
        while self.wait() is None and time.monotonic() < deadline:
            pass
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.close()

    def close(self) -> None:
        """Pass on its last words, and kill what it has left running on this machine."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([self._errors], [], [], left)
            if not ready or not self._pass_on():
                break
        self._line(self._rest)
        self._rest = b""
        for process in self._left_running():
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def death(self, code: int, why: str = "") -> Death:
        """How it ended.

        Args:
            code: its exit code, as a shell has it.
            why: if it was ended on purpose.
        """
        text = " ".join(" ".join(self._lines).split())
        rank, by = None, ""
        if found := _BY_SIGNAL.search(text):
            rank, by = int(found[1]), _name(int(found[3]))
            why = why or f"rank {rank} on {found[2]} was killed by {by}"
        elif found := _BY_CODE.search(text):
            rank = int(found[1])
        if not why and code - 128 in signal.valid_signals():  # mpirun has exit codes beyond them
            by = _name(code - 128)
            why = f"mpirun ended by {by} (exit code {code})"
        if not why:
            own = [line for line in self._lines if line.startswith("esd: ")]
            why = f"exit code {code}" + (f": {one_line(own[-1][5:], 300)}" if own else "")
        return Death(code, why, rank, by, tuple(self._lines))

    def _pass_on(self) -> bool:
        """Pass on what can be read; whether there may be more."""
        try:
            data = os.read(self._errors, 1 << 16)
        except BlockingIOError:
            return True
        if not data:
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line + b"\n")
        if len(self._rest) > LONGEST_LINE:
            self._line(self._rest)
            self._rest = b""
        return True

    def _line(self, line: bytes) -> None:
        """Keep a line and pass it on, unless it is a word for us."""
        if not line:
            return
        for word in ("started", "watched", "done", "final"):
            if word_for_supervisor(word, self._token).encode() in line:
                setattr(self, word, True)
                return
        self._lines.append(one_line(line.decode("utf-8", "replace").rstrip()))
        with contextlib.suppress(OSError):  # nobody is left to read it
            os.write(2, line)

    def _left_running(self) -> list[int]:
        """Processes of this machine that belong to the job, whoever has adopted them."""
        wanted = f"{SUPERVISED}={self._token}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found


def _name(number: int) -> str:
    """Of a signal."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
