"""The ranks that a Python program runs on: those of mpirun, or this process alone."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import sys
from collections.abc import Iterator
from types import TracebackType

import numpy as np

from esd.errors import RunError, UsageError
from esd.mpi.comm import Communicator, JobFailedError, connect, exit_code_of, gather


@functools.cache
def ranks() -> Communicator:
    """All ranks of the program; under a launcher MPI is initialized by the first call.

    An exception that ends one rank ends the job then: the others would wait for it until a deadline.

    Raises:
        UsageError: if the launcher and the MPI library do not belong together.
    """
    comm = connect()
    if comm.size > 1:
        before = sys.excepthook

        def end_the_job(
            kind: type[BaseException], error: BaseException, trace: TracebackType | None
        ) -> None:
            before(kind, error, trace)
            comm.abort(exit_code_of(error))

        sys.excepthook = end_the_job
    return comm


def rank_called_otherwise(comm: Communicator, arguments: bytes) -> int | None:
    """The lowest rank whose arguments are not those of rank 0, the same on every rank; None if all are alike."""
    digest = int.from_bytes(hashlib.sha256(arguments).digest()[:8])
    digests = gather(comm, digest, "comparing the arguments")
    others = np.flatnonzero(digests != digests[0])
    return int(others[0]) if others.size else None


@contextlib.contextmanager
def failures_raised() -> Iterator[None]:
    """Raise the reason of a failure that all ranks know of on the rank where it happened.

    The other ranks raise the same kind of error, whose message names that rank.
    """
    try:
        yield
    except JobFailedError as failure:
        if isinstance(failure.__cause__, Exception):
            # which may itself come from an error of the user's code, with its traceback
            raise failure.__cause__ from failure.__cause__.__cause__
        kind = UsageError if failure.exit_code == UsageError.exit_code else RunError
        raise kind(f"{failure}: its own message says why") from None
