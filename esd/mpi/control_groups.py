"""The control groups of this process, of cgroup 2 and cgroup 1: what a container or a job may use of a machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def folders(controller: str, root: Path = ROOT) -> Iterator[Path]:
    """The folders with a controller's files: of each group of this process, then of those above it.

    Args:
        controller: such as ``memory``.
        root: of the file system, for tests.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / controllers.partition(",")[0]
        place = top / group.lstrip("/")
        for folder in (place, *place.parents):
            yield folder
            if folder == top:
                break


def texts(controller: str, name: str, root: Path = ROOT) -> Iterator[str]:
    """What the files of a name say, wherever there is one."""
    for folder in folders(controller, root):
        with contextlib.suppress(OSError, ValueError):
            yield (folder / name).read_text("utf-8").strip()
