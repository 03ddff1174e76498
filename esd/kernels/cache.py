"""Compiled kernels on disk: compiled once per machine, by whichever rank is first, and loaded by all others.

numba's cache is made for one process at a time. Here every machine has a folder of its own, so that nodes with one
home directory don't write into each other's files, and a rank that doesn't find a kernel compiles it under a lock that
the other ranks of the machine wait for.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from numba.core import config
from numba.core.caching import FunctionCache

PATIENCE_SECONDS = 120.0  # then a rank compiles for itself: whoever has the lock must be stuck


def _cache_folder() -> Path | None:
    """Where compiled kernels are kept: a folder for every machine and every version of their sources.

    numba itself looks only at the file of the function that it loads, so after a change in a file that this one
    inlines it would go on with the old bits, on one machine and not on the next (laws 2 and 4).
    """
    here = Path(__file__).parent
    sources = hashlib.sha256()
    for path in sorted(here.glob("*.py")):
        sources.update(path.read_bytes())
    chosen = config.CACHE_DIR  # type: ignore[attr-defined]  # NUMBA_CACHE_DIR
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    bases = [Path(chosen)] if chosen else [here / "__pycache__", user_cache / "esd"]
    for base in bases:
        folder = base / f"kernels-{sources.hexdigest()[:16]}" / socket.gethostname()
        try:
            folder = folder.expanduser()
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError):  # RuntimeError: nobody's home is known
            continue
        if os.access(folder, os.W_OK):
            return folder
    return None


CACHE_FOLDER = _cache_folder()
if CACHE_FOLDER is not None:
    config.CACHE_DIR = str(CACHE_FOLDER)  # type: ignore[attr-defined]


class _MachineLock:
    """Held by one process of a machine at a time; the kernel frees it when its holder dies."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._depth = 0  # a kernel that calls another compiles it, too

    @contextlib.contextmanager
    def until_compiled(self) -> Iterator[None]:
        """Let go at the end of the outermost block, if it was taken in between."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0 and self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def take(self) -> None:
        """Wait for it; without a place for its file, or when patience ends, go on without it."""
        if self._descriptor is not None:
            return
        path = Path(tempfile.gettempdir()) / f"esd-{os.getuid()}-compiling"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError:
            return
        self._descriptor = descriptor
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.02)
            except OSError:  # no locks on this file system
                return
            else:
                return


_lock = _MachineLock()


class _MachineCache(FunctionCache):
    """numba's cache of one function; what is missing or damaged is compiled under the machine's lock."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for a signature; None if this process has to compile it."""
        with contextlib.suppress(Exception):  # whatever numba makes of a damaged file
            found = super().load_overload(sig, target_context)
            if found is not None:
                return found
        _lock.take()
        try:  # another may have compiled it meanwhile
            return super().load_overload(sig, target_context)
        except Exception:
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function; on a full disk it is compiled again the next time."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


def cached(dispatcher: Any) -> None:
    """Keep what numba compiles for this function, if there is a place for it."""
    if CACHE_FOLDER is None:
        return
    compile_now: Callable[[Any], Any] = dispatcher.compile

    def compile_once(sig: Any) -> Any:
        with _lock.until_compiled():
            return compile_now(sig)

    dispatcher._cache = _MachineCache(dispatcher.py_func)
    dispatcher.compile = compile_once
