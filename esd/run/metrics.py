"""metrics.jsonl: one line per generation, for plots and dashboards; nothing depends on it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from esd.errors import RunError
from esd.run.files import write_atomically

Line = dict[str, Any]


def read(path: Path) -> list[Line]:
    """All whole lines; a line that a crash cut short is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text("utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def truncate(path: Path, generations: int) -> list[Line]:
    """Drop the lines of generations that were not kept; returns what stays."""
    kept = [line for line in read(path) if line["generation"] < generations]
    write_atomically(path, "".join(_encode(line) for line in kept).encode())
    return kept


def append(path: Path, line: Line) -> None:
    """Add a line.

    Raises:
        RunError: if it can't be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(_encode(line))
    except OSError as error:
        raise RunError(
            f"{path}: can't be written ({error.strerror}); make room and start the same command again"
        ) from error


def _encode(line: Line) -> str:
    """JSON has no NaN: it becomes null."""
    finite = {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()
    }
    return json.dumps(finite) + "\n"
