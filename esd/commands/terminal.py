"""Whether what is written goes to a terminal in which a view can be drawn, and how large it is.

Under mpirun a rank writes to a pseudo-terminal of mpirun's, which passes on every byte. What counts then is where
mpirun itself writes to, which can be seen where it runs on the same machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console, ConsoleDimensions

UNUSUAL = (
    "tag",
    "timestamp",
    "xml",
    "--output",
    "--rank-by",
)  # with these, mpirun changes lines or sends them away
LEAST_COLUMNS = 40


class Screen:
    """Where a console writes to.

    Attributes:
        drawable: a view can be drawn there.
    """

    def __init__(self, console: Console, launched: bool) -> None:
        """Look at it once; ``launched``: by mpirun."""
        self._console, self._outer, self._launched = console, "", launched
        self.drawable = can_draw(console, os.environ)
        if self.drawable and launched:
            self._outer = terminal_of(os.getppid(), 2 if console.stderr else 1)
            self.drawable = bool(self._outer)
        if self.drawable:
            self.measure()
            self.drawable = console.size.width >= LEAST_COLUMNS

    def measure(self) -> None:
        """Ask for the size of mpirun's terminal, which a rank's own doesn't have."""
        if self._outer and (size := size_of(self._outer)) is not None:
            self._console.size = size

    @property
    def may_hide_cursor(self) -> bool:
        """Whether this process can give the cursor back: mpirun may kill it at once."""
        return not self._launched

    def write_now(self, text: str) -> None:
        """Write a line by a system call alone, as a signal handler may do; to mpirun's terminal, if that is known.

        On Ctrl-C mpirun passes on nothing more of what its ranks write.
        """
        ends = (
            "\x1b[0m\r\n" if self.drawable else ""
        )  # a frame may have been cut off within a color
        data = f"{ends}{text}\n".encode(errors="backslashreplace")
        descriptor = 2 if self._console.stderr else 1
        outer = self._outer
        if self._launched and not outer:
            outer = terminal_of(os.getppid(), descriptor)
        with contextlib.suppress(OSError):
            if not outer:
                os.write(descriptor, data)
                return
            terminal = os.open(outer, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
            try:
                os.write(terminal, data)
            finally:
                os.close(terminal)


def can_draw(console: Console, variables: Mapping[str, str]) -> bool:
    """Whether a console is a terminal that can move its cursor and has Unicode; ``NO_COLOR`` drops only colors."""
    unicode = console.encoding.lower().replace("-", "").startswith("utf8")
    return (
        console.is_terminal and not console.is_dumb_terminal and unicode and not variables.get("CI")
    )


def terminal_of(process: int, descriptor: int, proc: Path = Path("/proc")) -> str:
    """The terminal that a launcher writes to; empty if it is none, or it changes the lines of its ranks."""
    try:
        target = str((proc / str(process) / "fd" / str(descriptor)).readlink())
        words = (proc / str(process) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    if any(word.startswith("-") and any(part in word for part in UNUSUAL) for word in words):
        return ""
    return target if target.startswith(("/dev/pts/", "/dev/tty")) else ""


def size_of(terminal: str) -> ConsoleDimensions | None:
    """Columns and rows of a terminal; None if they are not known."""
    try:
        descriptor = os.open(terminal, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        answer = fcntl.ioctl(descriptor, termios.TIOCGWINSZ, b"\0" * 8)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    rows, columns, _, _ = struct.unpack("4H", answer)
    return ConsoleDimensions(columns, rows) if rows and columns else None
