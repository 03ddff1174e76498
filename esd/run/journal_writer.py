"""Appending to a journal: each record is on disk before the next generation begins."""

from __future__ import annotations

import os
from pathlib import Path

from esd.errors import RunError


class JournalWriter:
    """Appends records durably. One writer at a time: rank 0."""

    def __init__(self, path: Path, good_bytes: int) -> None:
        """Open a journal to append after ``good_bytes``; a torn rest is cut away.

        Raises:
            RunError: if it can't be written.
        """
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            os.ftruncate(self._descriptor, good_bytes)
        except OSError as error:
            raise RunError(f"{path}: can't be written ({error.strerror})") from error
        self._end = good_bytes
        own = os.fstat(self._descriptor)
        self._file = own.st_dev, own.st_ino

    def check(self) -> None:
        """Make sure that the journal is still there, as it was written.

        Raises:
            RunError: if another program has removed, replaced or changed it.
        """
        try:
            found = self._path.lstat()
        except OSError:
            what = "was removed"
        else:
            if (found.st_dev, found.st_ino) != self._file:
                what = "was replaced"
            elif found.st_size != self._end:
                what = f"was changed (it has {found.st_size} bytes, expected {self._end})"
            else:
                return
        raise RunError(
            f"{self._path}: {what} by another program during the run, which can't go on without it. Restore it and "
            "start the same command again, or start a new run from the newest checkpoint: "
            f"esd train --from {self._path.parent} --run NEW"
        )

    def append(self, data: bytes) -> None:
        """Write one encoded piece at the end and wait until it is on disk.

        Raises:
            RunError: if it can't be written; the journal is then as it was before.
        """
        self.check()
        try:
            written, rest = 0, memoryview(data)
            while written < len(data):
                written += os.pwrite(self._descriptor, rest[written:], self._end + written)
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, self._end)
            raise RunError(
                f"{self._path}: can't be written ({error.strerror}); everything up to the generation before is "
                "kept: make room and start the same command again"
            ) from error
        self._end += len(data)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
