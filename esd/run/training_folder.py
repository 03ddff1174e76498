"""A run's folder as the process that trains in it has it: held by a lock, made, gone on with, checked and completed."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import tomli_w

from esd.config.identity import identity
from esd.config.references import Reference
from esd.config.settings import Config
from esd.config.tables import to_table
from esd.errors import RunError, UsageError
from esd.run import locks, provenance
from esd.run.files import (
    changing,
    check_kind,
    close,
    open_for_writing,
    remove_stale,
    write_atomically,
)
from esd.run.folder import OWN_FOLDERS, OWN_NAMES, RunFolder
from esd.run.trust import Trust

TAKE_OVER_SECONDS = 10.0  # a killed process is gone before that


class TrainingFolder(RunFolder):
    """The folder of a run that is trained; reading is ``RunFolder``'s.

    Attributes:
        lock_weakness: why its lock might not keep out others, in a line; empty if it does, or isn't held.
    """

    def __init__(
        self, path: Path, trust: Trust = Trust.ASK, given: Collection[Reference] = ()
    ) -> None:
        """Name a folder; it need not exist, and nothing is locked yet."""
        super().__init__(path, trust, given)
        self._lock: int | None = None
        self.lock_weakness = ""

    def lock(self) -> None:
        """Hold the folder until ``unlock``, or the end of this process.

        Raises:
            UsageError: if another process trains in it.
        """
        path = self.place / "lock"
        try:
            descriptor = open_for_writing(path, os.O_RDWR)
        except OSError as error:
            raise UsageError(f"{path}: can't be opened ({error.strerror})") from error
        try:
            locked = locks.taken(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise UsageError(
                f"{self.path}: another esd process is training in this folder"
            ) from None
        self.lock_weakness = locks.weakness(self.place, locked)
        if locked:
            self._lock = descriptor
        else:
            os.close(descriptor)

    def unlock(self) -> None:
        """Let others train in the folder."""
        if self._lock is not None:
            close(self._lock)
            self._lock = None

    def create(self, config: Config, provenance: dict[str, Any], erase: bool) -> None:
        """Make the folder with its config and provenance.

        Args:
            config: of the new run.
            provenance: of this call.
            erase: remove the run that is there, once nobody can be training in it.

        Raises:
            UsageError: if that isn't possible.
        """
        try:
            self.place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{self.path}: can't be created ({error.strerror}); use another folder with --run"
            ) from error
        self.lock()
        if erase:
            self._erase()
        self._check_and_tidy()
        if self.is_run or self.remains:
            raise UsageError(
                f"{self.path}: another esd process started a run in this folder in the meantime"
            )
        with changing(self.place):
            self.journal_file.touch()  # empty: until its header is there, the same command may start again
            self.checkpoints.mkdir(exist_ok=True)
            self.store_config(config)
            self.add_provenance(provenance)

    def reopen(self, config: Config, provenance: dict[str, Any], journal_size: int) -> None:
        """Take an existing run up again.

        Args:
            config: of the run.
            provenance: of this call.
            journal_size: in bytes, when the call was planned; a journal only ever grows.

        Raises:
            UsageError: if another process trains in it, or has since the call was planned.
        """
        self.lock()
        self._check_and_tidy()
        if self.journal_file.lstat().st_size != journal_size:
            raise UsageError(
                f"{self.path}: another esd process trained in this folder in the meantime; run the command again"
            )
        with changing(self.place):
            self.checkpoints.mkdir(exist_ok=True)
            self.store_config(config)
            self.add_provenance(provenance)

    def take_over(self) -> None:
        """Go on with the run of a process that has just died.

        Raises:
            UsageError: if it still holds the folder after ``TAKE_OVER_SECONDS``, or another one does.
        """
        end = time.monotonic() + TAKE_OVER_SECONDS
        while True:
            try:
                self.lock()
                break
            except UsageError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)
        self._check_and_tidy()

    def check_in_place(self) -> None:
        """Make sure that nobody has taken the folder away, or lets another process train in it.

        Raises:
            NotWritableError: if the folder can't be reached.
            RunError: if the config or the lock is not there any more.
        """
        lock = self.place / "lock"
        with changing(self.place):
            self.place.lstat()
        try:
            missing = self.config_file
            self.config_file.lstat()
            missing = lock
            own = None if self._lock is None else os.fstat(self._lock).st_ino
            if own not in (None, lock.lstat().st_ino):
                raise FileNotFoundError
        except OSError:
            raise RunError(
                f"{missing}: was removed or replaced by another program during the run, and the run can't continue "
                "without it. Restore the folder as it was and run the same command again; all earlier generations "
                "are in its journal"
            ) from None

    def check_complete(self, config: Config, generation: int) -> None:
        """Make sure that the run can be taken up again from what is on disk.

        Args:
            config: of the run.
            generation: that it has come to.

        Raises:
            RunError: if anything is missing or not as it was written.
        """
        self.check_in_place()
        try:
            contents = self.journal(config, verify=False)
            stored = identity(self.config())
        except UsageError as error:
            raise RunError(f"{error} (changed during the run)") from error
        path = self.checkpoint_file(generation)
        if stored != identity(config):
            problem = f"{self.config_file}: was changed by another program during the run"
        elif contents.next_generation != generation or contents.torn_bytes:
            problem = (
                f"{self.journal_file}: has {contents.next_generation} whole generations, expected {generation}: it was "
                "changed by another program during the run"
            )
        elif not path.is_file():
            problem = f"{path}: was removed by another program during the run"
        else:
            return
        raise RunError(f"{problem}. Restore it and run the same command again")

    def add_provenance(self, call: dict[str, Any]) -> None:
        """Add a training call to provenance.json, which holds all of them, oldest first.

        A damaged one is kept as it is under another name: nothing depends on it.
        """
        try:
            calls = provenance.read(self.provenance_file)
        except UsageError:
            calls = []
            self.provenance_file.replace(self.place / "provenance.json.damaged")
        write_atomically(
            self.provenance_file, json.dumps([*calls, call], indent=2).encode() + b"\n"
        )

    def store_config(self, config: Config) -> None:
        """Write config.toml."""
        write_atomically(self.config_file, tomli_w.dumps(to_table(config)).encode())

    def _erase(self) -> None:
        """Remove what esd has written here, and nothing else."""
        for name in OWN_NAMES:
            path = self.place / name
            try:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            except OSError as error:
                raise RunError(f"{path}: can't be removed ({error.strerror})") from error

    def _check_and_tidy(self) -> None:
        """Before anything is written: refuse links and whatever else could lead out of the folder.

        Raises:
            UsageError: if there is any.
        """
        for name in OWN_NAMES:
            check_kind(self.place / name, folder=name in OWN_FOLDERS)
        if self.best_file.is_dir():  # anything else is replaced by the next best checkpoint
            check_kind(self.best_file)
        remove_stale(self.place, 0.0)  # those of the training that had the lock before
        remove_stale(self.checkpoints, 0.0)
        remove_stale(self.evaluations)


def check_writable(path: Path) -> None:
    """Make sure that a folder can be written, or created, without writing anything.

    Raises:
        UsageError: if not.
    """
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise UsageError(f"{path}: {existing} is not a folder; name another one with --run")
    if not os.access(existing, os.W_OK | os.X_OK):
        read_only = os.statvfs(existing).f_flag & os.ST_RDONLY
        why = "is on a read-only file system" if read_only else "no permission to write in it"
        raise UsageError(f"{path}: {existing}: {why}; use another folder with --run")
