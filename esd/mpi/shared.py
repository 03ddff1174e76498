"""Memory that the ranks of a node share. It has no name, so no death can leave it behind or take it from the others.

On Linux it is an anonymous file (``memfd_create``), which the other ranks open through /proc. It is not in /dev/shm,
whose 64 MB in a container say nothing about the memory that there is, and it is reserved before it is mapped: where
that fails there is an error, and no SIGBUS later. Elsewhere it is a temporary file that loses its name once all ranks
have it open.

Neither MPI's shared windows nor Python's shared_memory survive the death of a process (measured).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from esd.mpi.comm import Communicator, gather


def open_together(node: Communicator, size: int) -> int | None:
    """Open a file of zeros together with the other ranks of a node; every rank of it has to call.

    Args:
        node: the ranks of one machine.
        size: in bytes.

    Returns:
        A descriptor of this rank's own, or None on all ranks if one of them can't have it.
    """
    own, path = _create(size) if node.rank == 0 else (None, b"")
    path = node.broadcast(path, "naming the shared memory")
    descriptor = own if node.rank == 0 else _open(path)
    opened = gather(node, int(descriptor is not None), "opening the shared memory").all()
    if node.rank == 0 and path and not path.startswith(b"/proc/"):
        with contextlib.suppress(OSError):
            Path(os.fsdecode(path)).unlink()
    if not opened and descriptor is not None:
        os.close(descriptor)
    return descriptor if opened else None


def _create(size: int) -> tuple[int | None, bytes]:
    """A new file with its memory reserved, and the path by which others open it; None if it can't be had."""
    descriptor = None
    try:
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("esd")
            path = f"/proc/{os.getpid()}/fd/{descriptor}"
        else:
            descriptor, path = tempfile.mkstemp(prefix="esd-")
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.truncate(descriptor, size)
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        return None, b""
    return descriptor, os.fsencode(path)


def _open(path: bytes) -> int | None:
    """Open the file that rank 0 of the node has made; None if that isn't possible."""
    try:
        return os.open(path, os.O_RDWR) if path else None
    except OSError:
        return None
