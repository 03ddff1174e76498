"""Folders of a supervisor's own: what its launchers leave in them when they are killed goes with it, or with the next.

A killed mpirun leaves its session's files, and killed ranks the segments of shared memory of Open MPI's own transport.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from esd.errors import UsageError
from esd.mpi import session_folders

SHARED_MEMORY = Path("/dev/shm")
_NAME = re.compile(r"esd-launch-(\d+)-(\d+)-\w+")


@contextlib.contextmanager
def folders() -> Iterator[tuple[Path, Path | None]]:
    """A folder for files and one in shared memory (None where there is none), for as long as the block lasts."""
    prefix = f"esd-launch-{os.getuid()}-{os.getpid()}-"
    in_memory = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with contextlib.ExitStack() as closing:
        made = []
        for place in (_temporary(), *([in_memory] if in_memory else [])):
            _sweep(place)
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
            closing.callback(shutil.rmtree, folder, ignore_errors=True)
            made.append(folder)
        yield made[0], made[1] if in_memory else None


def _temporary() -> Path:
    """The folder of temporary files, which Open MPI's launcher needs, too."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise UsageError(
            "no folder for temporary files is writable, and mpirun needs one: start the container with --tmpfs "
            "/tmp, or set TMPDIR to a writable folder"
        ) from None


def _sweep(place: Path) -> None:
    """Remove what killed supervisors of this user have left, and launchers that no supervisor had started."""
    session_folders.sweep(place)
    with contextlib.suppress(OSError):
        for path in place.glob(f"esd-launch-{os.getuid()}-*"):
            named = _NAME.fullmatch(path.name)
            if (
                named
                and path.lstat().st_uid == os.getuid()
                and not session_folders.runs(int(named[2]))
            ):
                shutil.rmtree(path, ignore_errors=True)
