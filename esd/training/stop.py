"""Being asked to stop: the handler only takes a note; the loop reads it at the end of a generation."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class StopRequest:
    """Whether somebody asked this process to stop.

    Attributes:
        requested: set by the first SIGTERM, SIGINT or SIGUSR1.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

    def __init__(self) -> None:
        """Nobody did yet."""
        self.requested = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take note of signals inside of the block; a second Ctrl-C interrupts at once, as without us."""
        before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
