"""Compiled kernels on disk: compiled once per machine, by whichever process is first, and loaded by all others.

numba's cache is made for one process at a time. Here every machine has a folder of its own, so that nodes with one
home directory don't write into each other's files, and a process that doesn't find a kernel compiles it under a lock
that the other processes of the machine wait for.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import inspect
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _Cache, _CacheLocator

PATIENCE_SECONDS = 120.0  # then a process compiles for itself: whoever has the lock must be stuck


class CacheFolder:
    """Where a package's compiled kernels are kept: a folder for every machine and every version of their sources.

    numba itself looks only at the file of the function that it loads, so after a change in a file that this one
    inlines it would go on with the old bits, on one machine and not on the next (laws 2 and 4).
    """

    def __init__(self, package: Path) -> None:
        """Read the sources, at the time they are imported: the folder may be made only after they were edited.

        Args:
            package: the folder with the sources.
        """
        self._package = package
        sources = hashlib.sha256()
        for path in sorted(package.glob("*.py")):
            sources.update(path.read_bytes())
        self._version = f"kernels-{sources.hexdigest()[:16]}"

    @cached_property
    def path(self) -> Path | None:
        """The folder, made if it isn't there; None if no place for it is writable."""
        chosen = config.CACHE_DIR  # type: ignore[attr-defined]  # NUMBA_CACHE_DIR
        user_cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
        bases = [Path(chosen)] if chosen else [self._package / "__pycache__", user_cache / "esd"]
        for base in bases:
            folder = base / self._version / socket.gethostname()
            try:
                folder = folder.expanduser()
                folder.mkdir(parents=True, exist_ok=True)
            except (OSError, RuntimeError):  # RuntimeError: nobody's home is known
                continue
            if os.access(folder, os.W_OK):
                return folder
        return None


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


def one_compiles() -> contextlib.AbstractContextManager[None]:
    """A block in which functions are compiled: what it doesn't find on disk it compiles under the machine's lock."""
    return _lock.until_compiled()


class MachineCache(_Cache):
    """numba's cache of one function, opened when it is first used.

    What is missing or damaged is compiled under the machine's lock. Where nothing can be kept, every process
    compiles for itself.
    """

    def __init__(self, function: Callable[..., Any], folder: CacheFolder) -> None:
        """Remember whose machine code to keep where.

        Args:
            function: before it is compiled.
            folder: of its package.
        """
        self._function, self._folder = function, folder
        try:
            self._stamp = hashlib.sha256(Path(inspect.getfile(function)).read_bytes()).hexdigest()
        except (OSError, TypeError):  # typed in at a prompt
            self._stamp = ""

    @cached_property
    def _files(self) -> FunctionCache | None:
        """The files; None if there is no place for them."""
        if not self._stamp or self._folder.path is None:
            return None
        with contextlib.suppress(RuntimeError):  # numba's word for a folder that isn't writable
            return _in_folder(self._folder.path, self._stamp)(self._function)
        return None

    @property
    def cache_path(self) -> str | None:
        """The folder of the function's files."""
        return None if self._files is None else str(self._files.cache_path)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for a signature; None if this process has to compile it."""
        if self._files is None:
            return None
        with contextlib.suppress(Exception):  # whatever numba makes of a damaged file
            found = self._files.load_overload(sig, target_context)
            if found is not None:
                return found
        _lock.take()
        try:  # another may have compiled it meanwhile
            return self._files.load_overload(sig, target_context)
        except Exception:
            self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function; on a full disk it is compiled again the next time."""
        if self._files is not None:
            with contextlib.suppress(OSError):
                self._files.save_overload(sig, data)

    def enable(self) -> None:
        """Use the files."""
        if self._files is not None:
            self._files.enable()

    def disable(self) -> None:
        """Leave the files alone."""
        if self._files is not None:
            self._files.disable()

    def flush(self) -> None:
        """Forget what is kept of this function."""
        if self._files is not None:
            with contextlib.suppress(OSError):
                self._files.flush()


def _in_folder(folder: Path, stamp: str) -> type[FunctionCache]:
    """Numba's cache of a function in a folder of ours, without touching the one that numba uses for other code.

    Args:
        folder: for the files.
        stamp: of the function's source; what was kept with another one is stale.
    """

    class Locator(_CacheLocator):
        def __init__(self, function: Any, file: str) -> None:
            self._py_file = file  # numba names it in warnings
            self._line = function.__code__.co_firstlineno
            self._path = folder / self.get_suitable_cache_subpath(file)

        @classmethod
        def from_function(cls, py_func: Any, py_file: str) -> Locator | None:
            locator = cls(py_func, py_file)
            try:
                locator.ensure_cache_path()
            except OSError:
                return None
            return locator

        def get_cache_path(self) -> str:
            return str(self._path)

        def get_source_stamp(self) -> str:
            return stamp

        def get_disambiguator(self) -> str:
            return str(self._line)

    class Files(CompileResultCacheImpl):
        _locator_classes = [Locator]  # noqa: RUF012

    class Cache(FunctionCache):
        _impl_class = Files

    return Cache
