"""Memory that the ranks of a node share. It has no name, so no death can leave it behind or take it from the others.

On Linux it is an anonymous file (``memfd_create``), which the other ranks open through /proc. It is not in /dev/shm,
whose 64 MB in a container say nothing about the memory that there is, and it is reserved before it is mapped: where
that fails there is an error, and no SIGBUS later. Elsewhere, and where ranks may not look into each other's /proc (each
in a container with a user namespace of its own), it is a temporary file that loses its name once all have it open.

Neither MPI's shared windows nor Python's shared_memory survive the death of a process (measured).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from esd.errors import RunError
from esd.mpi.comm import Communicator, gather


def open_together(node: Communicator, size: int) -> int | None:
    """Open a file of zeros together with the other ranks of a node; every rank of it has to call.

    Args:
        node: the ranks of one machine.
        size: in bytes.

    Returns:
        A descriptor of this rank's own, or None on all ranks if one of them can't have it.
    """
    descriptor = _share(node, size, _anonymous_file)
    return _share(node, size, _named_file) if descriptor is None else descriptor


def allocate(node: Communicator, size: int, what: str) -> mmap.mmap:
    """Zeros that all ranks of a node see; every rank of it has to call.

    Args:
        node: the ranks of one machine.
        size: in bytes.
        what: needs them, for messages.

    Raises:
        RunError: on all of them, if that isn't possible.
    """
    memory = None
    descriptor = open_together(node, size) if node.size > 1 else -1  # -1: of this process alone
    if descriptor is not None:
        with contextlib.suppress(OSError):
            memory = mmap.mmap(descriptor, size)
        if descriptor != -1:
            os.close(descriptor)
    mapped = gather(node, int(memory is not None), "mapping the node's memory").all()
    if memory is None or not mapped:
        shared = f"that the {node.size} ranks of a node share, " if node.size > 1 else ""
        hint = ", or check whether ranks of one node can see each other's processes in /proc"
        raise RunError(
            f"{what} need {size / 1e6:,.1f} MB of memory {shared}but it could not be allocated. "
            f"Give the job or the container more memory{hint if node.size > 1 else ''}"
        )
    return memory


def _share(node: Communicator, size: int, create: Callable[[], tuple[int, str]]) -> int | None:
    """Open what rank 0 of the node creates, on all ranks or on none."""
    own, path = _reserved(size, create) if node.rank == 0 else (None, b"")
    path = node.broadcast(path, "naming the shared memory")
    descriptor = own if node.rank == 0 else _open(path)
    opened = gather(node, int(descriptor is not None), "opening the shared memory").all()
    if node.rank == 0 and path and not path.startswith(b"/proc/"):
        with contextlib.suppress(OSError):
            Path(os.fsdecode(path)).unlink()
    if not opened and descriptor is not None:
        os.close(descriptor)
    return descriptor if opened else None


def _anonymous_file() -> tuple[int, str]:
    """A file without a name, and the path by which others open it."""
    if not hasattr(os, "memfd_create"):
        raise OSError("this system has no anonymous files")
    descriptor = os.memfd_create("esd")
    return descriptor, f"/proc/{os.getpid()}/fd/{descriptor}"


def _named_file() -> tuple[int, str]:
    """A temporary file, in memory where that is possible."""
    in_memory = "/dev/shm"  # mkstemp makes a name of its own there
    return tempfile.mkstemp(prefix="esd-", dir=in_memory if os.access(in_memory, os.W_OK) else None)


def _reserved(size: int, create: Callable[[], tuple[int, str]]) -> tuple[int | None, bytes]:
    """A new file with its memory reserved, and its path; None if it can't be had."""
    descriptor, path = None, ""
    try:
        descriptor, path = create()
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.truncate(descriptor, size)
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
            if not path.startswith("/proc/"):
                Path(path).unlink()
        return None, b""
    return descriptor, os.fsencode(path)


def _open(path: bytes) -> int | None:
    """Open the file that rank 0 of the node has made; None if that isn't possible."""
    try:
        return os.open(path, os.O_RDWR) if path else None
    except OSError:
        return None
