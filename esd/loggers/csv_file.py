"""``run.loggers = ["csv"]``: metrics.csv, a row per generation, for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from esd.loggers.base import Context, Line
from esd.run.files import write_atomically


class CsvFile:
    """Appends rows. The columns are those of the first line; a resume writes the file anew, with those of all lines."""

    def __init__(self, context: Context) -> None:
        """Write the lines so far."""
        self._path = context.own("metrics.csv", folder=False)
        self._names = [*dict.fromkeys(name for line in context.lines for name in line)]
        write_atomically(self._path, self._rows(context.lines).encode() if self._names else b"")

    def write(self, lines: Sequence[Line]) -> None:
        """See ``Logger.write``."""
        head = not self._names
        self._names = self._names or [*lines[0]]
        with self._path.open("a", newline="", encoding="utf-8") as file:
            file.write(self._rows(lines, head))

    def close(self) -> None:
        """Nothing is open."""

    def _rows(self, lines: Sequence[Line], head: bool = True) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._names, extrasaction="ignore", lineterminator="\n")
        if head:
            writer.writeheader()
        writer.writerows(lines)
        return text.getvalue()
