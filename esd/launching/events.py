"""What happens to a supervised run: one line each on stderr, and one in ``launches.jsonl`` in the run's folder."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any

from esd.errors import EsdError, one_line
from esd.run.files import json_text, open_for_writing
from esd.run.folder import RunFolder


class Events:
    """The events of a call of ``esd launch``."""

    def __init__(self, folder: RunFolder) -> None:
        """Of a run; its folder need not exist yet."""
        self._folder = folder
        self._waiting: list[bytes] = []

    def say(self, event: str, text: str, **details: Any) -> None:
        """Report an event.

        Args:
            event: in a word, for programs.
            text: one sentence, for people.
            details: numbers and texts, for the file.
        """
        with contextlib.suppress(OSError, ValueError):  # nobody is left to read it
            print(f"esd launch: {one_line(text)}", file=sys.stderr, flush=True)
        line = {"time": round(time.time(), 3), "event": event, "text": one_line(text), **details}
        self._waiting.append(json_text(line).encode() + b"\n")
        self.write()

    def write(self) -> None:
        """Append what has not been written yet, once there is a folder; that it can't be is no reason to end."""
        if not self._folder.place.is_dir():
            return
        with contextlib.suppress(OSError, EsdError):
            file = open_for_writing(self._folder.launches_file, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(file, b"".join(self._waiting))
            finally:
                os.close(file)
            self._waiting.clear()
