"""``esd`` on a disk that fails: ``python -m tests.faults.broken_disk FAULT AFTER FOLDER words of esd…``.

Every call by which Python writes, syncs, opens to write or renames below the folder is counted; from number AFTER on
it fails, or does less than was asked, as FAULT says. Only the process that writes the run does (rank 0, or the one).
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

WRITING = ("write", "pwrite")
# by fault: which calls fail, with which error; None for less than was asked
FAULTS: dict[str, tuple[tuple[str, ...], int | None]] = {
    "full disk (ENOSPC)": (WRITING, errno.ENOSPC),
    "quota (EDQUOT)": (WRITING, errno.EDQUOT),
    "failing writes (EIO)": (WRITING, errno.EIO),
    "failing syncs (EIO)": (("fsync", "fdatasync"), errno.EIO),
    "failing renames (EIO)": (("rename", "replace"), errno.EIO),
    "no new files (ENOSPC)": (("open",), errno.ENOSPC),
    "read-only (EROFS)": (("open", "rename", "replace", "mkdir", "unlink"), errno.EROFS),
    "stale handles (ESTALE)": ((*WRITING, "fsync", "open", "rename", "replace"), errno.ESTALE),
    "one failing write (EIO)": (WRITING, errno.EIO),
    "one failing sync (EIO)": (("fsync",), errno.EIO),
    "short writes": (WRITING, None),
    "some writes of nothing": (WRITING, None),
}
AT_ONCE = 3  # writes of nothing in a row


class Disk:
    """Counts calls and breaks them."""

    def __init__(self, fault: str, after: int, folder: str) -> None:
        self._fault, self._after, self._folder = fault, after, os.path.realpath(folder)
        self._calls, self._error = FAULTS[fault]
        self._count = 0

    def has(self, where: Any) -> bool:
        """Whether a path or a descriptor is below the folder."""
        with contextlib.suppress(OSError, TypeError, ValueError):
            path = Path(f"/proc/self/fd/{where}").readlink() if isinstance(where, int) else where
            text = os.path.realpath(os.fsdecode(path))
            return text == self._folder or text.startswith((f"{self._folder}/", f"{self._folder} "))
        return False

    def breaks(self, call: str, where: Any) -> bool:
        """Whether a call is broken; raises the fault's error if it has one."""
        if call not in self._calls or not self.has(where):
            return False
        self._count += 1
        if self._count < self._after or (
            self._fault.startswith("one") and self._count > self._after
        ):
            return False
        if self._error is not None:
            raise OSError(self._error, os.strerror(self._error))
        return True

    def length(self, size: int) -> int:
        """How many bytes a broken write takes."""
        if self._fault == "short writes":
            return max(1, size // 3)
        return 0 if self._count % (AT_ONCE + 1) else size


def install(disk: Disk) -> None:
    """Put the disk in the place of Python's calls."""
    write, pwrite, opened, file_open = os.write, os.pwrite, os.open, io.open

    def broken_write(descriptor: int, data: Any) -> int:
        if disk.breaks("write", descriptor):
            data = memoryview(data)[: disk.length(len(data))]
        return write(descriptor, data)

    def broken_pwrite(descriptor: int, data: Any, offset: int) -> int:
        if disk.breaks("pwrite", descriptor):
            data = memoryview(data)[: disk.length(len(data))]
        return pwrite(descriptor, data, offset)

    def broken_open(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            disk.breaks("open", path)
        return opened(path, flags, *rest, **named)

    class File(io.FileIO):
        """A file whose writes may fail."""

        def write(self, data: Any) -> int:
            if disk.breaks("write", self.fileno()):
                data = memoryview(data).cast("B")
                # a buffered writer takes 0 for “try again for ever”, which no file system says of a file
                data = data[: max(1, disk.length(len(data)))]
            return super().write(data)

    def broken_file_open(file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if not set(mode) & set("wax+") or not disk.has(file):
            return file_open(file, mode, *rest, **named)
        if not isinstance(file, int):
            disk.breaks("open", file)
        closes = named.pop("closefd", True)
        raw = File(file, mode.replace("b", "").replace("t", ""), closefd=closes)
        buffered = io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        encoding = named.get("encoding") or next(iter(rest[1:2]), None)
        return io.TextIOWrapper(buffered, encoding=encoding, write_through=False)

    os.write, os.pwrite, os.open = broken_write, broken_pwrite, broken_open  # type: ignore[assignment]
    io.open = builtins.open = broken_file_open  # type: ignore[assignment]
    for name in ("fsync", "fdatasync", "rename", "replace", "mkdir", "unlink"):
        setattr(os, name, _before(disk, name, getattr(os, name)))


def _before(disk: Disk, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def broken(where: Any, *rest: Any, **named: Any) -> Any:
        disk.breaks(name, where)
        return call(where, *rest, **named)

    return broken


def _words() -> Iterator[str]:
    yield "esd"
    yield from sys.argv[4:]


if __name__ == "__main__":
    if os.environ.get("OMPI_COMM_WORLD_RANK", "0") == "0":
        install(Disk(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
    sys.argv = list(_words())
    runpy.run_module("esd", run_name="__main__")
