"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from esd.errors import NotWritableError, UsageError
from esd.reading import check_path, kind_of

STALE_SECONDS = 600.0  # no file takes so long to be written
_TEMPORARY = re.compile(r"\..+\.(?:[0-9a-f]{16}\.)?tmp")


def absolute(path: Path) -> Path:
    """A path from the root on, so that no later change of the working directory moves it.

    Raises:
        UsageError: if it is relative to a working directory that was removed, or nothing can have such a path.
    """
    try:
        place = path.absolute()
    except FileNotFoundError:
        raise UsageError(
            f"{path}: is relative to a working directory that no longer exists; change to another one (cd)"
        ) from None
    check_path(place)
    return place


def in_utf8(path: Path) -> str:
    """A path as text for a file in UTF-8; bytes of a name that are no UTF-8 become question marks."""
    return os.fsencode(path).decode("utf-8", "replace").replace("\ufffd", "?")


def close(descriptor: int) -> None:
    """Close a descriptor of ours; code of the user's may have done so already (``os.closerange``)."""
    with contextlib.suppress(OSError):
        os.close(descriptor)


def json_text(data: Any, indent: int | None = None) -> str:
    """JSON; NaN and infinity, which it lacks, become null."""
    return json.dumps(_finite(data), indent=indent, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def write_atomically(
    path: Path, data: bytes, prepare: Callable[[Path], None] = lambda file: None
) -> None:
    """Write a file so that a crash at any moment leaves the old one or the new one: temp, fsync, rename, fsync folder.

    Args:
        path: the file.
        data: all of it.
        prepare: is called with the written file before it is renamed to ``path``.

    Raises:
        NotWritableError: if the disk is full or the folder can't be written.
    """
    # nobody can have put a link there: the name can't be guessed, and must be new
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        prepare(temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise NotWritableError(
            f"{path}: can't be written ({error.strerror})", "the old file is unchanged"
        ) from error


@contextlib.contextmanager
def changing(folder: Path) -> Iterator[None]:
    """A block that makes, renames or removes files in a folder.

    Raises:
        NotWritableError: if the disk is full or the folder can't be written.
    """
    try:
        yield
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else folder
        raise NotWritableError(
            f"{name}: can't be written ({error.strerror})",
            f"free disk space or change the permissions of {folder}, and run the same command again",
        ) from error


def remove_stale(folder: Path, seconds: float = STALE_SECONDS) -> None:
    """Remove the temporary files that killed writers have left in a folder.

    Args:
        folder: to look in; not below it.
        seconds: younger ones may still be written, by an ``esd eval`` beside a training.
    """
    now = time.time()
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not _TEMPORARY.fullmatch(entry.name) or entry.is_dir(follow_symlinks=False):
                continue
            if now - entry.stat(follow_symlinks=False).st_mtime >= seconds:
                Path(entry.path).unlink(missing_ok=True)


def open_for_writing(path: Path, flags: int) -> int:
    """Open or make a regular file of a run to write to it, never through a symbolic link.

    Args:
        path: the file.
        flags: such as ``os.O_APPEND``, beside those that every such file is opened with.

    Returns:
        The file descriptor.

    Raises:
        OSError: if it can't be opened.
        UsageError: if it is of another kind.
    """
    always = os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    check_kind(path)
    descriptor = os.open(path, flags | always, 0o644)
    found = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(found):
        os.close(descriptor)
        raise UsageError(f"{path}: is {kind_of(found)}; remove it")
    return descriptor


def check_kind(path: Path, folder: bool = False) -> None:
    """Refuse what stands in a run's folder in place of one of its files, or of a folder in it; nothing there is fine.

    Raises:
        UsageError: if there is a link, a pipe or anything else.
    """
    try:
        found = path.lstat().st_mode
    except OSError:
        return
    if stat.S_ISLNK(found):
        raise UsageError(
            f"{path}: is a symbolic link, and esd writes only inside a run's folder; replace it with the file it "
            "points to, or remove it"
        )
    if folder and not stat.S_ISDIR(found):
        raise UsageError(f"{path}: is {kind_of(found)}, expected a folder; remove it")
    if not folder and not stat.S_ISREG(found):
        raise UsageError(f"{path}: is {kind_of(found)}, expected a regular file; remove it")


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
