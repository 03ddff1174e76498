"""Appending to a journal: each record is the file's before the next generation begins, and on disk within a second.

A killed process loses nothing. After a power failure the last second's generations are evaluated again, to the same
bits (law 1); checkpoints wait for the journal, so none is ahead of it. What is not on disk yet is kept in memory, so
that it can be written again if the file system fails.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from esd.errors import NotWritableError, RunError
from esd.run.files import changing, close

SYNC_SECONDS = 1.0  # a sync takes as long as a generation of a small environment: 1 to 5 ms


class JournalWriter:
    """Appends records durably. One writer at a time: rank 0.

    Attributes:
        unsynced: the records that are not on disk yet, as far as is known.
    """

    def __init__(
        self, path: Path, good_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Open a journal to append after ``good_bytes``; a torn rest is cut away.

        Args:
            path: the journal.
            good_bytes: of it.
            clock: in seconds.

        Raises:
            NotWritableError: if it can't be written.
        """
        self._path = path
        with changing(path.parent):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            os.ftruncate(self._descriptor, good_bytes)
        self._end = self._synced = good_bytes  # where whole records end; where those on disk do
        self._torn = False  # a part of a record may stand behind the end
        self.unsynced: list[bytes] = []
        self._rewrite = (
            False  # a sync has failed: what is on disk of the unsynced records is not known
        )
        self._clock, self._synced_at = clock, -SYNC_SECONDS
        own = os.fstat(self._descriptor)
        self._file = own.st_dev, own.st_ino

    def check(self) -> None:
        """Make sure that the journal is still there, as it was written.

        Raises:
            NotWritableError: if the folder can't be reached.
            RunError: if another program has removed, replaced or changed it.
        """
        with changing(self._path.parent):
            self._path.parent.lstat()
            try:
                found = self._path.lstat()
            except FileNotFoundError:
                what = "was removed"
            else:
                if (found.st_dev, found.st_ino) != self._file:
                    what = "was replaced"
                elif found.st_size != self._end and not self._torn:
                    what = f"was changed (it has {found.st_size} bytes, expected {self._end})"
                else:
                    return
        raise RunError(
            f"{self._path}: {what} by another program during the run, and the run can't continue without it. "
            "Restore it and run the same command again, or start a new run from the newest checkpoint: esd train "
            f"--from {self._path.parent} --run NEW"
        )

    def append(self, data: bytes) -> None:
        """Write one encoded piece at the end.

        Raises:
            NotWritableError: if it can't be written; the journal then ends where it did before.
        """
        self.check()
        with self._writing():
            self._repair()
            self._write(data)
        self.unsynced.append(data)

    def sync_now_and_then(self) -> None:
        """At most once a second, wait until all that was appended is on disk.

        Raises:
            NotWritableError: see ``sync``.
        """
        if self._rewrite or self._clock() - self._synced_at >= SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Wait until all that was appended is on disk.

        Raises:
            NotWritableError: if that isn't possible now; the same call tries again.
        """
        if not self.unsynced:
            return
        with self._writing():
            self._repair()
            try:
                os.fsync(self._descriptor)
            except OSError:
                self._rewrite = True  # the system may have dropped it, and would say so only once
                raise
        self.unsynced = []
        self._synced, self._synced_at = self._end, self._clock()

    def _repair(self) -> None:
        """Put right what a failure has left of a record, or of those behind the last sync."""
        if self._rewrite:
            self._end, self._torn = self._synced, True
        if self._torn:
            os.ftruncate(self._descriptor, self._end)
            self._torn = False
        if self._rewrite:
            for data in self.unsynced:
                self._write(data)
            self._rewrite = False

    def _write(self, data: bytes) -> None:
        written, rest = 0, memoryview(data)
        try:
            while written < len(data):
                written += os.pwrite(self._descriptor, rest[written:], self._end + written)
        except OSError:
            self._torn = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
                self._torn = False
            raise
        self._end += len(data)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise NotWritableError(
                f"{self._path}: can't be written ({error.strerror})",
                "all earlier generations are saved: free disk space and run the same command again",
            ) from error

    def close(self) -> None:
        """Sync and close the file.

        Raises:
            NotWritableError: see ``sync``.
        """
        try:
            self.sync()
        finally:
            close(self._descriptor)
