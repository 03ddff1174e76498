"""What a logger is: it is given lines of metrics.jsonl, which stays the truth, and keeps a copy of them.

At every start a logger makes its copy anew from all lines so far, or goes on where its copy ends: no generation is
there twice after a resume, and none is missing after a crash.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from esd.run.files import check_kind, write_atomically

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Context:
    """What a logger starts from.

    Attributes:
        folder: for the files of all loggers, in the run's folder; it exists.
        run: the run's name: that of its folder.
        settings: the run's settings, flat.
        generations: of the whole run.
        lines: of the metrics so far.
    """

    folder: Path
    run: str
    settings: Mapping[str, Any]
    generations: int
    lines: Sequence[Line]

    def own(self, name: str, folder: bool) -> Path:
        """A file or folder beneath ``folder``, which need not exist.

        Raises:
            UsageError: if it is a link, or something else: whatever is written there would end elsewhere.
        """
        path = self.folder / name
        check_kind(path, folder=folder)
        return path

    def own_name(self) -> str:
        """16 hexadecimal digits that no other run has: neither an earlier one in this folder nor a copy elsewhere.

        They come from the folder's path and a number that is drawn at the first call and kept beneath ``folder``.
        """
        path = self.own("id.txt", folder=False)
        try:
            drawn = path.read_bytes()
        except FileNotFoundError:
            drawn = f"{secrets.token_hex(8)}\n".encode()
            write_atomically(path, drawn)
        return hashlib.sha256(os.fsencode(self.folder) + b"\0" + drawn).hexdigest()[:16]

    def wall_time(self, line: Line) -> float:
        """When a generation ended, in seconds since 1970; earlier calls may have been longer ago than that says."""
        last: float = self.lines[-1]["seconds"] if self.lines else 0.0
        ago: float = max(0.0, last - line["seconds"])
        return time.time() - ago


class Logger(Protocol):
    """Keeps a copy."""

    def write(self, lines: Sequence[Line]) -> None:
        """Add lines, each of a later generation than those before."""

    def close(self) -> None:
        """Finish what was begun; the run may go on later."""


def numbers_of(line: Line) -> dict[str, float]:
    """The finite numbers of a line, without its generation and schema."""
    without = ("generation", "schema")
    return {key: value for key, value in line.items() if value is not None and key not in without}
