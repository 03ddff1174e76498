"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path
from typing import Any

from esd.errors import RunError, UsageError


def absolute(path: Path) -> Path:
    """A path from the root on, so that no later change of the working directory moves it.

    Raises:
        UsageError: if it is relative to a working directory that was removed.
    """
    try:
        return path.absolute()
    except FileNotFoundError:
        raise UsageError(
            f"{path}: is relative to a working directory that does not exist any more; change to another one (cd)"
        ) from None


def json_text(data: Any, indent: int | None = None) -> str:
    """JSON; NaN and infinity, which it lacks, become null."""
    return json.dumps(_finite(data), indent=indent, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a crash at any moment leaves the old one or the new one: temp, fsync, rename, fsync folder.

    Raises:
        RunError: if the disk is full or the folder can't be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise RunError(
            f"{path}: can't be written ({error.strerror}); what was there is unchanged"
        ) from error


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
