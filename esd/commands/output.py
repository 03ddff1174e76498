"""stdout and stderr of a command: what they can't take never ends a training, and beside ``--json`` stays one object.

A full disk, a reader that has left (``| head``), a stream that was closed before the start (``>&-``) and a terminal
that knows only ASCII are no reason to lose a run. So ``esd`` writes through streams of its own: after the first
failure they write nowhere, stderr says so once, and the exit code tells whether a result was lost.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import Any

from esd.errors import EXIT_FAILED, RunError

STDOUT, STDERR = 1, 2
_PLAIN = str.maketrans(
    {
        "–": "-", "—": "-", "−": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "×": "x", "…": "...", "±": "+-", "·": "*",
        "²": "^2", "→": "->", "≤": "<=", "≥": ">=", "σ": "sigma", "‖": "|", "µ": "u", "Σ": "sum", "∞": "inf",
    }
)  # fmt: skip


class _Stream(io.RawIOBase):
    """A file descriptor that is written to as long as it can be."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.failure: OSError | None = None
        self.results = True
        self.patient = descriptor == STDERR  # about errors there is nobody left to hear

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.descriptor

    def isatty(self) -> bool:
        return os.isatty(self.descriptor)

    def write(self, data: Any) -> int:
        try:
            return _written(self.descriptor, data)
        except OSError as error:
            self.give_up(error)
            if self.patient:
                return len(data)
            if isinstance(error, BrokenPipeError):  # which ends a command without a word
                raise
            raise RunError(f"stdout: can't be written ({error.strerror})") from error

    def give_up(self, error: OSError) -> None:
        """From here on write nowhere: what is still in a buffer must not fail at exit."""
        self.failure = self.failure or error
        _write_nowhere(self.descriptor)
        had_enough = self.results and isinstance(error, BrokenPipeError)
        if self.patient and self.descriptor == STDOUT and not had_enough:
            with contextlib.suppress(OSError):
                _written(
                    STDERR,
                    f"esd: stdout can no longer be written ({error.strerror}); the command continues\n".encode(),
                )


def _written(descriptor: int, data: Any) -> int:
    """Write some of the data; waits for a reader that is slower than a pipe that doesn't block."""
    while True:
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            waiting = select.poll()
            waiting.register(descriptor, select.POLLOUT)
            waiting.poll()


def _write_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


_streams: dict[int, _Stream] = {}  # by file descriptor, once ``guarded``
_kept: list[Any] = []  # Python's own streams: they would close the file descriptors
_json_stdout: list[int] = []  # stdout itself, while file descriptor 1 is stderr
_results_lost: list[OSError] = []


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Run the command line with streams that can fail; the exit code is 1 where a result was lost.

    Raises:
        SystemExit: always, unless there was another error.
    """
    _open_what_was_closed()
    codecs.register_error("esd-plain", _in_ascii)
    for name, descriptor in (("stdout", STDOUT), ("stderr", STDERR)):
        _replace(name, descriptor)
    code: Any = None
    try:
        yield
    except SystemExit as ending:
        code = ending.code
    except RunError as error:  # while help was printed: no command has begun
        print(f"esd: {error}", file=sys.stderr, flush=True)
        code = EXIT_FAILED
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except RunError as error:
            print(f"esd: {error}", file=sys.stderr, flush=True)
            _results_lost.append(OSError())
        except OSError:  # the reader has left
            code = code or EXIT_FAILED
        except ValueError:  # somebody has closed it
            pass
    raise SystemExit(code or (EXIT_FAILED if result_was_lost() else code))


def _open_what_was_closed() -> None:
    """Take the numbers 0 to 2: the next file to be opened, such as a journal, would else be stdout to C code."""
    for descriptor in (0, STDOUT, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != descriptor:
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


def _replace(name: str, descriptor: int) -> None:
    """Put a stream of ours in the place of Python's."""
    old = getattr(sys, name)
    if old is not None and old is not getattr(sys, f"__{name}__"):  # somebody else's already
        return
    encoding, errors = getattr(old, "encoding", "utf-8"), getattr(old, "errors", "strict")
    if errors in ("strict", "backslashreplace"):
        errors = "esd-plain"
    raw = _streams[descriptor] = _Stream(descriptor)
    if old is not None:
        with contextlib.suppress(OSError):
            old.flush()
        _kept.append(old)
    at_once = descriptor == STDERR or raw.isatty()
    new = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding,
        errors,
        line_buffering=at_once or getattr(old, "line_buffering", False),
        write_through=getattr(old, "write_through", False),
    )
    setattr(sys, name, new)
    setattr(sys, f"__{name}__", new)


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that a terminal doesn't know."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    return text.encode("ascii", "backslashreplace").decode(), error.end


def be_patient(results: bool) -> None:
    """From here on stdout may fail without an error: there is more at stake than what is printed.

    Args:
        results: what is printed is a result, so the exit code tells whether it was lost; otherwise it is progress.
    """
    stream = _streams.get(STDOUT)
    if stream is not None:
        stream.patient, stream.results = True, results


def result_was_lost() -> bool:
    """Whether stdout failed while a result was printed; a reader that has had enough is no failure."""
    stream = _streams.get(STDOUT)
    failure = stream.failure if stream is not None and stream.results else None
    return bool(_results_lost) or (failure is not None and not isinstance(failure, BrokenPipeError))


def reader_left() -> bool:
    """Whether stdout is read no longer, as behind ``| head``."""
    stream = _streams.get(STDOUT)
    return stream is not None and isinstance(stream.failure, BrokenPipeError)


@contextlib.contextmanager
def stdout_is_for_json(as_json: bool) -> Iterator[None]:
    """Beside ``--json``, what a user's code and its programs print goes to stderr, ``write_json`` alone to stdout.

    On the command line that holds to the end of the process: modules print at exit, too.
    """
    if not as_json or sys.stdout is None or sys.stderr is None:  # closed by >&-
        yield
        return
    sys.stdout.flush()
    kept = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _json_stdout.append(kept)
    try:
        yield
    finally:
        if STDOUT not in _streams:
            sys.stdout.flush()
            _json_stdout.remove(kept)
            os.dup2(kept, sys.stdout.fileno())
            os.close(kept)


def write_json(text: str) -> None:
    """Write a JSON object to stdout; if that fails the command continues, and its exit code is 1."""
    if not _json_stdout:
        print(text, flush=True)
        return
    data = memoryview(f"{text}\n".encode(errors="backslashreplace"))
    try:
        while data:
            data = data[_written(_json_stdout[-1], data) :]
    except OSError as error:
        _results_lost.append(error)
        print(
            f"esd: stdout: can't be written ({error.strerror}), the result is lost", file=sys.stderr
        )
