"""How much memory this machine has left for a job: of the whole machine, and of its control groups."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from esd.mpi import control_groups

# names of a control group's files, of cgroup 2 and of cgroup 1: limit, usage, and in memory.stat what can be dropped
FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that processes here can still use; what the kernel can drop from its caches counts as free.

    Args:
        root: of the file system, for tests.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/meminfo").read_text("utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                machine = int(line.split()[1]) * 1024
    return max(0, min([machine, *_left_in_groups(root)]))


def memory_limit(root: Path = Path("/")) -> int | None:
    """The smallest limit of this process's control groups [bytes]; None without."""
    allowed = [
        text for limit, _, _ in FILES for text in control_groups.texts("memory", limit, root)
    ]
    return min((int(text) for text in allowed if text.isdigit()), default=None)


def _left_in_groups(root: Path) -> Iterator[int]:
    """What each control group of this process, and each above it, still allows [bytes]."""
    for folder in control_groups.folders("memory", root):
        for limit, usage, droppable in FILES:
            with contextlib.suppress(OSError, ValueError):
                allowed = int((folder / limit).read_text("utf-8"))  # "max" is no number
                used = int((folder / usage).read_text("utf-8"))
                yield allowed - max(0, used - _statistic(folder, droppable))


def _statistic(group: Path, name: str) -> int:
    """A number of a control group's memory.stat; 0 if it isn't there."""
    with contextlib.suppress(OSError, ValueError):
        for line in (group / "memory.stat").read_text("utf-8").splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0
