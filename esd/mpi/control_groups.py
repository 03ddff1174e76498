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


def cores(root: Path = ROOT) -> float | None:
    """The smallest share of processor time of this process's control groups [cores]; None without."""
    quotas = []
    for text in texts("cpu", "cpu.max", root):
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit():
            quotas.append(int(quota) / int(period))
    old = zip(
        texts("cpu", "cpu.cfs_quota_us", root),
        texts("cpu", "cpu.cfs_period_us", root),
        strict=False,
    )
    quotas += [int(quota) / int(period) for quota, period in old if int(quota) > 0]
    return min(quotas, default=None)


def core_set(root: Path = ROOT) -> frozenset[int] | None:
    """The cores that this process's control groups allow, whatever it is bound to itself; None if that isn't known."""
    names = ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")
    found = [
        listed for name in names for text in texts("cpuset", name, root) if (listed := _list(text))
    ]
    return frozenset.intersection(*found) if found else None


def _list(text: str) -> frozenset[int]:
    """The numbers of a list such as 0-3,8; none if it is no such list."""
    numbers: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            return frozenset()
        numbers |= {*range(int(first), int(last or first) + 1)}
    return frozenset(numbers)
