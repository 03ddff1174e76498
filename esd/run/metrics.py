"""metrics.jsonl: one line per generation, for plots and dashboards; nothing depends on it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from esd.errors import RunError, UsageError
from esd.reading import MB, open_regular, parse_json
from esd.run.files import open_for_writing, write_atomically

Line = dict[str, Any]

LINE_BYTES = MB
FILE_BYTES = 1_000 * MB
_WHOLE = ("generation", "env_steps", "episodes")  # numbers of lines that are never null
_NUMBERS = ("seconds", "core_seconds")


def read(path: Path, warn: Callable[[str], None] = lambda text: None) -> list[Line]:
    """All lines that are whole; a line that is damaged, or that a crash cut short, is left out.

    Args:
        path: of metrics.jsonl.
        warn: is called with a line if any but the last is left out, or the file can't be read.
    """
    lines: list[Line] = []
    damaged: list[int] = []
    number = 0
    try:
        with open_regular(path, FILE_BYTES) as file:
            while text := file.readline(LINE_BYTES):
                number += 1
                line = _decoded(text)
                if line is not None:
                    lines.append(line)
                else:
                    damaged.append(number)
    except FileNotFoundError:
        return []
    except (UsageError, OSError) as error:
        warn(f"{error}; passed over, metrics are only for plots")
    if damaged and damaged != [number]:
        some = ", ".join(map(str, damaged[:3])) + (", …" if len(damaged) > 3 else "")
        warn(
            f"{path}: {len(damaged)} of {number} lines are damaged (line {some}); they are left out"
        )
    return lines


def _decoded(text: bytes) -> Line | None:
    """A line; None if it is damaged."""
    try:
        line = parse_json(text.decode("utf-8"))
    except ValueError:
        return None
    whole = (
        isinstance(line, dict)
        and _is(line.get("generation"), int)
        and all(_is(line.get(key, 0), int) for key in _WHOLE)
        and all(_is(line.get(key, 0.0), int, float) for key in _NUMBERS)
        and all(_is(item, int, float, type(None)) for item in line.values())
    )
    return line if whole else None


def _is(value: Any, *types: type) -> bool:
    return isinstance(value, types) and not isinstance(value, bool)


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
        with os.fdopen(open_for_writing(path, os.O_WRONLY | os.O_APPEND), "ab") as file:
            file.write(_encode(line).encode())
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
