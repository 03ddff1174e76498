"""Appending to a journal: each record is the file's before the next generation begins, and on disk within a second.

A killed process loses nothing. After a power failure the last second's generations are evaluated again, to the same
bits (law 1); checkpoints wait for the journal, so none is ahead of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from esd.errors import RunError

SYNC_SECONDS = 1.0  # a sync takes as long as a generation of a small environment: 1 to 5 ms


class JournalWriter:
    """Appends records durably. One writer at a time: rank 0."""

    def __init__(
        self, path: Path, good_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Open a journal to append after ``good_bytes``; a torn rest is cut away.

        Args:
            path: the journal.
            good_bytes: of it.
            clock: in seconds.

        Raises:
            RunError: if it can't be written.
        """
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            os.ftruncate(self._descriptor, good_bytes)
        except OSError as error:
            raise RunError(f"{path}: can't be written ({error.strerror})") from error
        self._end = self._synced = good_bytes
        self._clock, self._synced_at = clock, -SYNC_SECONDS
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
        """Write one encoded piece at the end; at most once a second, wait until all is on disk.

        Raises:
            RunError: if it can't be written; the journal then ends where it did before, or where it was synced last.
        """
        self.check()
        try:
            written, rest = 0, memoryview(data)
            while written < len(data):
                written += os.pwrite(self._descriptor, rest[written:], self._end + written)
        except OSError as error:
            raise self._failed(error, self._end) from error
        self._end += len(data)
        if self._clock() - self._synced_at >= SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Wait until all that was appended is on disk.

        Raises:
            RunError: if that isn't possible; the journal then ends where it was synced last.
        """
        if self._synced == self._end:
            return
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise self._failed(error, self._synced) from error
        self._synced, self._synced_at = self._end, self._clock()

    def _failed(self, error: OSError, end: int) -> RunError:
        """Cut away what may not be on disk."""
        os.ftruncate(self._descriptor, end)
        self._end = end
        return RunError(
            f"{self._path}: can't be written ({error.strerror}); the generations before are kept: make room and start "
            "the same command again"
        )

    def close(self) -> None:
        """Sync and close the file.

        Raises:
            RunError: see ``sync``.
        """
        try:
            self.sync()
        finally:
            os.close(self._descriptor)
