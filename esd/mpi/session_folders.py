"""Folders that killed launchers of Open MPI have left among the temporary files: swept by the next run on the machine.

A launcher that is killed leaves ``ompi.<its process id>`` behind. A later one that happens to get the same process id
then ends with "The PMIx server's listener thread failed to start": always in a container that starts again with its
temporary files kept, now and then on a machine that has counted all process ids through.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import stat
import tempfile
from pathlib import Path

CONNECT_SECONDS = 0.2
_NAME = re.compile(r"ompi\.(\d+)")
_ADDRESS = re.compile(r"tcp4://127\.0\.0\.1:(\d+)")


def sweep(place: Path | None = None) -> list[str]:
    """Remove what is left behind.

    Args:
        place: where launchers keep their folders; None for that of temporary files.

    Returns:
        The names of those that were removed.
    """
    removed = []
    for path in left_behind(place):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            removed.append(path.name)
    return removed


def left_behind(place: Path | None = None) -> list[Path]:
    """Folders of this user whose launcher is dead.

    Args:
        place: where launchers keep their folders; None for that of temporary files.
    """
    found = []
    with contextlib.suppress(OSError):
        for path in sorted((place or Path(tempfile.gettempdir())).glob("ompi.*")):
            named = _NAME.fullmatch(path.name)
            if named and _is_mine(path) and not runs(int(named[1])) and not _answers(path):
                found.append(path)
    return found


def runs(process: int) -> bool:
    """Whether there is a process of this id."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _is_mine(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _answers(path: Path) -> bool:
    """Whether a launcher listens where this folder says, such as one in another container that shares the folder."""
    for file in path.glob("pmix.*.tool"):
        with contextlib.suppress(OSError):
            named = _ADDRESS.search(file.read_text("utf-8", "replace"))
            if named and 0 < int(named[1]) < 65536:
                with socket.create_connection(
                    ("127.0.0.1", int(named[1])), timeout=CONNECT_SECONDS
                ):
                    return True
    return False
