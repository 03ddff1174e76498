"""Shared memory that Open MPI's killed ranks have left in /dev/shm: swept by the next run on the same machine.

Their names hold a job but no process, so a segment counts as left behind if it is this user's, no process of his has it
mapped, and it is not so young that a rank which is starting may still be about to.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
YOUNG_SECONDS = 600.0
_NAME = re.compile(r"sm_segment\..+\.\d+\.[0-9a-f]+\.\d+")


def sweep(place: Path = SHARED_MEMORY, young: float = YOUNG_SECONDS) -> list[str]:
    """Remove what is left behind.

    Args:
        place: where segments are.
        young: age from which on one may be removed [s].

    Returns:
        The names of those that were removed.
    """
    removed = []
    for path in left_behind(place, young):
        with contextlib.suppress(OSError):
            path.unlink()
            removed.append(path.name)
    return removed


def left_behind(place: Path = SHARED_MEMORY, young: float = -1.0) -> list[Path]:
    """Segments of this user that no process has mapped, as far as he may see.

    Args:
        place: where segments are.
        young: only those that are older [s].
    """
    old = sorted(path for path in _segments(place) if _age(path) > young)
    used = _mapped(place) if old else set()
    return [path for path in old if path.name not in used]


def _segments(place: Path) -> list[Path]:
    """Those of this user."""
    with contextlib.suppress(OSError):
        return [
            path
            for path in place.iterdir()
            if _NAME.fullmatch(path.name) and path.lstat().st_uid == os.getuid()
        ]
    return []


def _age(path: Path) -> float:
    """Since it was made or written to [s]; a file that is gone has none."""
    try:
        return time.time() - path.lstat().st_mtime
    except OSError:
        return 0.0


def _mapped(place: Path) -> set[str]:
    """Names of segments that some process has mapped, as far as this user may see."""
    found = set()
    prefix = f"{place}/"
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            text = maps.read_text("utf-8", "replace")
            if "/sm_segment." in text:
                found |= {
                    line.rpartition(prefix)[2] for line in text.splitlines() if prefix in line
                }
    return found
