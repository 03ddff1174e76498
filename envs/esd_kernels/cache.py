"""Compiled kernels on disk: compiled once per kind of processor, by whichever process is first, loaded by all others.

numba's cache is made for one process at a time, and runs whatever is in its files. Here a file holds one compiled
function with a checksum, is written atomically, and is read only where nobody else can write. A process that doesn't
find a kernel compiles it under a lock; the other processes of the machine that need this kernel wait.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import inspect
import os
import pickle
import platform
import secrets
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
from numba.core import config
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

PATIENCE_SECONDS = 120.0  # then a process compiles for itself: whoever has the lock must be stuck
STALE_SECONDS = 3600.0
MOST_BYTES = 100_000_000  # of a compiled function; the largest of esd has about one
_MAGIC = b"ESDK1\n"
_CHECKSUM_BYTES = 32


def processor_features() -> str:
    """What the processor has that machine code is made for, such as "+avx2,-avx512f"; empty if that is not known."""
    features: str | None = config.CPU_FEATURES  # type: ignore[attr-defined]  # NUMBA_CPU_FEATURES
    if features is not None:
        return features
    try:
        found: str = llvmlite.binding.get_host_cpu_features().flatten()
    except RuntimeError:  # LLVM doesn't know this system's
        return ""
    return found


@cache
def kind_of_machine() -> str:
    """What machine code depends on, as the name of a folder: the processor, its features, and who compiles.

    Containers and nodes of a cluster with the same processor share what is compiled, whatever they are called.
    """
    binding: Any = llvmlite.binding
    name = config.CPU_NAME or binding.get_host_cpu_name()  # type: ignore[attr-defined]  # NUMBA_CPU_NAME
    parts = (
        platform.machine(),
        name,
        processor_features(),
        numba.__version__,
        llvmlite.__version__,
        sys.implementation.cache_tag,
        platform.python_version(),
        config.OPT,  # type: ignore[attr-defined]
        config.USING_SVML,  # type: ignore[attr-defined]
    )
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    return f"{''.join(c for c in name if c.isalnum() or c in '-_')}-{digest}"


class CacheFolder:
    """Where a package's compiled kernels are kept: a folder for every kind of machine and version of their sources.

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
        # how kernels are compiled is part of what they are
        for folder in (Path(__file__).parent, package):
            for path in sorted(folder.glob("*.py")):
                sources.update(path.read_bytes())
        self._version = f"kernels-{sources.hexdigest()[:16]}"

    @cached_property
    def places(self) -> list[Path]:
        """Where the folder may be: NUMBA_CACHE_DIR if that is set, or beside the sources, or in the user's cache."""
        # not numba's own setting: it would also come from a .numba_config.yaml in the working directory, and with it
        # machine code that anybody may have put there
        chosen = os.environ.get("NUMBA_CACHE_DIR")
        user_cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
        bases = [Path(chosen)] if chosen else [self._package / "__pycache__", user_cache / "esd"]
        found = []
        for base in bases:
            with contextlib.suppress(RuntimeError):  # nobody's home is known
                found.append(base.expanduser() / self._version / kind_of_machine())
        return found

    @cached_property
    def path(self) -> Path | None:
        """The folder to write to, made if it isn't there; None if no place for it is writable."""
        for folder in self.places:
            try:
                folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            except OSError:
                continue
            if os.access(folder, os.W_OK) and is_trusted(folder):
                _remove_stale(folder)
                return folder
        return None

    @cached_property
    def readable(self) -> list[Path]:
        """All folders that hold kernels to be trusted, such as one in a container's image that can't be written."""
        own = self.path  # made first
        return [folder for folder in self.places if folder == own or is_trusted(folder)]


def is_trusted(folder: Path) -> bool:
    """Whether nobody but this user and root can have written machine code there, which is going to be run."""
    try:
        found = folder.lstat()
        return stat.S_ISDIR(found.st_mode) and (_is_ours(found) or _is_read_only(folder))
    except OSError:
        return False


def _is_ours(found: os.stat_result) -> bool:
    return found.st_uid in (os.geteuid(), 0) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _is_read_only(folder: Path) -> bool:
    """An image's files may have another owner, but nobody can change them."""
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def _remove_stale(folder: Path) -> None:
    """Remove what killed writers have left."""
    with contextlib.suppress(OSError):
        for path in folder.glob(".*.tmp"):
            if time.time() - path.lstat().st_mtime > STALE_SECONDS:
                path.unlink()


def read_entry(path: Path, key: bytes) -> bytes | None:
    """What is kept under a name; None if it is missing, damaged, not to be trusted, or of another key.

    Nothing of it may be looked at before: unpickling runs code.
    """
    data = b""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            regular = stat.S_ISREG(found.st_mode) and found.st_size <= MOST_BYTES
            if regular and (_is_ours(found) or _is_read_only(path)):
                data = os.read(descriptor, found.st_size)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    begin = len(_MAGIC) + _CHECKSUM_BYTES
    content = data[begin:]
    intact = data[:begin] == _MAGIC + _checksum(key, content)
    return content if intact else None


def write_entry(path: Path, key: bytes, content: bytes) -> None:
    """Keep something: whole, or not at all; several processes and machines may write the same.

    Raises:
        OSError: if it can't be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, 0o644), "wb") as file:
            file.write(_MAGIC + _checksum(key, content) + content)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _checksum(key: bytes, content: bytes) -> bytes:
    return hashlib.sha256(len(key).to_bytes(8, "little") + key + content).digest()


class _MachineLocks(threading.local):
    """One for every kernel, held by one process of a machine at a time: a byte of one file of all processes.

    Different kernels are compiled at the same time. The system's kernel frees the locks of a process that dies.
    """

    def __init__(self) -> None:
        self._blocks: list[list[int]] = []  # a kernel that calls another compiles it, too

    @contextlib.contextmanager
    def until_compiled(self) -> Iterator[None]:
        """Let go at the end of the block of what was taken in it."""
        self._blocks.append([])
        try:
            yield
        finally:
            for place in self._blocks.pop():
                with contextlib.suppress(OSError):
                    fcntl.lockf(_lock_file(), fcntl.LOCK_UN, 1, place)

    def take(self, key: bytes) -> None:
        """Wait for that of a kernel; without a place for the file, or when patience ends, go on without it."""
        if not self._blocks:  # nothing would let go of it
            return
        place = int.from_bytes(hashlib.sha256(key).digest()[:7], "big")
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            try:
                fcntl.lockf(_lock_file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except BlockingIOError:
                time.sleep(0.02)
            except OSError:  # no locks on this file system
                return
            else:
                self._blocks[-1].append(place)
                return


@cache
def _lock_file() -> int:
    """The file, open as long as this process lives: to close it would free all of its locks."""
    path = Path(tempfile.gettempdir()) / f"esd-{os.getuid()}-compiling"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


_locks = _MachineLocks()


def one_compiles() -> contextlib.AbstractContextManager[None]:
    """A block in which functions are compiled: what it doesn't find on disk it compiles under its lock."""
    return _locks.until_compiled()


class MachineCache(_Cache):
    """The cache of one function in numba's place, opened when it is first used.

    What is missing or damaged is compiled under its lock. Where nothing can be kept, every process compiles for itself.
    """

    def __init__(self, function: Callable[..., Any], folder: CacheFolder) -> None:
        """Remember whose machine code to keep where.

        Args:
            function: before it is compiled.
            folder: of its package.
        """
        self._function, self._folder, self._enabled = function, folder, True
        try:
            self._stamp = hashlib.sha256(Path(inspect.getfile(function)).read_bytes()).hexdigest()
        except (OSError, TypeError):  # typed in at a prompt
            self._stamp = ""

    @property
    def cache_path(self) -> str | None:
        """The folder of the function's files."""
        return None if self._folder.path is None else str(self._folder.path)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for a signature; None if this process has to compile it."""
        target_context.refresh()
        if not self._enabled or not self._stamp:
            return None
        key = self._key(sig, target_context.codegen())
        found = self._found(key, target_context)
        if found is None and self._folder.path is not None:
            _locks.take(key)
            found = self._found(key, target_context)  # another may have compiled it meanwhile
        return found

    def _found(self, key: bytes, target_context: Any) -> Any:
        """What is kept under a key, loaded; None if there is nothing, or nothing that is whole."""
        for folder in self._folder.readable:
            content = read_entry(folder / self._name(key), key)
            if content is not None:
                with contextlib.suppress(
                    Exception
                ):  # of another build of numba that says it is the same
                    return CompileResult._rebuild(target_context, *pickle.loads(content))
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function; on a full disk it is compiled again the next time."""
        cachable = not data.library.has_dynamic_globals and all(x.can_cache for x in data.lifted)
        if not (self._enabled and self._stamp and cachable) or self._folder.path is None:
            return
        key = self._key(sig, data.codegen)
        with contextlib.suppress(OSError):
            write_entry(self._folder.path / self._name(key), key, dumps(data._reduce()))

    def _key(self, sig: Any, codegen: Any) -> bytes:
        """What a compiled function is: whose code, for which types of arguments, on which processor."""
        code, cells = self._function.__code__, self._function.__closure__ or ()
        closed_over = dumps(tuple(cell.cell_contents for cell in cells)) if cells else b""
        parts = (
            self._stamp,
            self._function.__module__,
            self._function.__qualname__,
            code.co_firstlineno,
            hashlib.sha256(code.co_code).hexdigest(),
            hashlib.sha256(closed_over).hexdigest(),
            str(sig),
            codegen.magic_tuple(),
        )
        return repr(parts).encode()

    def _name(self, key: bytes) -> str:
        return f"{self._function.__name__}-{hashlib.sha256(key).hexdigest()[:24]}.kernel"

    def enable(self) -> None:
        """Use the files."""
        self._enabled = True

    def disable(self) -> None:
        """Leave the files alone."""
        self._enabled = False

    def flush(self) -> None:
        """Forget what is kept of this function."""
        if self._folder.path is not None:
            for path in self._folder.path.glob(f"{self._function.__name__}-*.kernel"):
                with contextlib.suppress(OSError):
                    path.unlink()
