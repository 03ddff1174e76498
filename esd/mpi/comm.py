"""The scalar exchange: the only collectives of esd, each with a deadline.

One process is a real case, not a special one: ``Alone`` and ``Ranks`` behave alike, and without a launcher MPI is
never imported.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from esd import watch
from esd.errors import EXIT_FAILED, EsdError, RunError, UsageError
from esd.mpi.launch import (
    die_with_parent,
    launched_by_srun,
    launched_processes,
    survives_losses,
)
from esd.mpi.library import load, short

if TYPE_CHECKING:
    from mpi4py import MPI

    from esd.mpi.arrivals import Arrivals

Uint64s = npt.NDArray[np.uint64]

SPIN_SECONDS = 0.001  # poll without sleeping for so long: most exchanges complete within it
NAP_SHARE = 0.1  # of what was waited so far: so much later than possible is it noticed at most
NAP_SECONDS = 0.001  # at most; by then others may be waiting for this rank's answer
LONG_SECONDS = 10.0  # from then on naps may be longer
LONGEST_NAP_SECONDS = (
    0.005  # also while others of this node have not come: the last of them wakes the rest
)
WATCHED_SECONDS = 0.5  # from then on others see that this rank waits, and for how long is watched
# Open MPI looks at its sockets in every eighth call: with one look between naps, an exchange among 4 ranks on 2 hosts
# took 23 ms; with eight, 0.4 ms.
LOOKS_BETWEEN_NAPS = 8
DEADLINE_SECONDS = 3600.0  # until a run's own are known
SILENCE_SECONDS = 60.0
START_SECONDS = 900.0  # for MPI to be initialized on all ranks
SHRINKS = 100  # attempts to leave out ranks while more are lost
FINALIZE_SECONDS = 60.0
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


class RankLostError(BaseException):
    """A rank has died, and those that are left can go on (see ``Communicator.recover``).

    It is no ``Exception``: nobody may take it for the failure of what he was doing.
    """


class Communicator(Protocol):
    """A group of ranks that agree on scalars.

    Attributes:
        rank: this one's number; ``recover`` may change it, and the next.
        size: how many there are.
        deadline_seconds: how long is waited in one collective while nobody works, and for what a rank does between two.
        silence_seconds: how long a rank may be stopped, or a host give no sign of life.
        arrivals: of this node's ranks at collectives; None before they share memory.
        survives: the others can go on when a rank dies: collectives then raise ``RankLostError``.
    """

    rank: int
    size: int
    deadline_seconds: float
    silence_seconds: float
    arrivals: Arrivals | None
    survives: bool

    def sum(self, numbers: Uint64s, what: str) -> None:
        """Replace ``numbers`` (uint64, contiguous) by their sum over all ranks, wrapping; ``what`` is for messages."""

    def broadcast(self, text: bytes, what: str) -> bytes:
        """Rank 0's bytes, on every rank."""

    def node(self) -> contextlib.AbstractContextManager[Communicator]:
        """The ranks that share this rank's machine, for as long as the block lasts."""

    def revoke(self) -> None:
        """Make whatever the others wait for on this communicator, now or later, fail there with ``RankLostError``."""

    def recover(self) -> None:
        """Go on with the ranks that are left, under new numbers in the old order; every one of them has to call."""

    def agree(self, good: bool) -> bool:
        """Whether all say so, and none is lost: the same answer on all ranks that are left, whoever dies meanwhile.

        If the answer is no, all of them have to ``recover``.
        """

    def abort(self, exit_code: int) -> None:
        """End the whole job now, this process included."""

    def close(self, exit_code: int) -> None:
        """Leave in good order; where ranks may have been lost that is the end of this process."""


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
def in_time(comm: Communicator, what: str) -> Iterator[None]:
    """What a rank does while no other can tell whether it works or hangs: it has until the deadline.

    Raises:
        RunError: after it.
    """
    try:
        with watch.within(comm.deadline_seconds, what):
            yield
    except watch.DeadlineError as error:
        if not error.seconds:
            raise
        raise RunError(
            f"rank {comm.rank}: {error}, so it was canceled (run.deadline_minutes sets the limit)"
        ) from None


@contextlib.contextmanager
def agreement(comm: Communicator, what: str, evaluates: bool = False) -> Iterator[None]:
    """Run a block on every rank; if it fails on any, or takes too long, it fails on all, and one reports the reason.

    Args:
        comm: the ranks.
        what: is done, for messages.
        evaluates: so it may take as long as it takes.

    Raises:
        JobFailedError: see ``raise_if_any_failed``.
    """
    error: Exception | None = None
    try:
        with contextlib.nullcontext() if evaluates else in_time(comm, what):
            yield
    except Exception as caught:  # whatever it is: the others must not wait for this rank
        error = caught
    raise_if_any_failed(comm.rank, gather(comm, exit_code_of(error), what), error)


class Alone:
    """One process, no MPI."""

    rank = 0
    size = 1
    deadline_seconds = DEADLINE_SECONDS
    silence_seconds = SILENCE_SECONDS
    arrivals: Arrivals | None = None
    survives = False

    def sum(self, numbers: Uint64s, what: str) -> None:
        """A sum of one."""

    def broadcast(self, text: bytes, what: str) -> bytes:
        """Its own bytes."""
        return text

    @contextlib.contextmanager
    def node(self) -> Iterator[Communicator]:
        """Itself."""
        yield self

    def revoke(self) -> None:
        """There are no others."""

    def recover(self) -> None:
        """It is whole as long as it is there."""

    def agree(self, good: bool) -> bool:
        """What it says itself."""
        return good

    def abort(self, exit_code: int) -> None:
        """End this process."""
        _flush()
        os._exit(exit_code)

    def close(self, exit_code: int) -> None:
        """Nothing to leave."""


class Ranks:
    """The ranks of an MPI communicator.

    Args:
        comm: an intracommunicator; only integer sums and bytes travel on it.
        deadline_seconds: see ``Communicator``. A stopped process or a cut link is never reported by MPI itself.
        survives: MPI was started so that the others can go on when a rank dies (ULFM).
    """

    def __init__(
        self, comm: MPI.Comm, deadline_seconds: float = DEADLINE_SECONDS, survives: bool = False
    ) -> None:
        """Wrap a communicator."""
        self.silence_seconds = SILENCE_SECONDS
        self.arrivals: Arrivals | None = None
        self._comm = comm
        self.rank = comm.Get_rank()
        self.size = comm.Get_size()
        self.deadline_seconds = deadline_seconds
        self.survives = survives
        # what MPI may still write to when a collective has failed: the memory must not become another's
        self._abandoned: list[object] = []
        self._parted = False  # all ranks know that they will recover

    def sum(self, numbers: Uint64s, what: str) -> None:
        """See ``Communicator.sum``."""
        from mpi4py import MPI

        try:
            self._wait(self._comm.Iallreduce(MPI.IN_PLACE, numbers, op=MPI.SUM), what)
        except MPI.Exception as error:
            self._lost(error, numbers, what)

    def broadcast(self, text: bytes, what: str) -> bytes:
        """See ``Communicator.broadcast``."""
        from mpi4py import MPI

        length = np.array([len(text) if self.rank == 0 else 0], np.uint64)
        self.sum(length, what)
        data = np.zeros(int(length[0]), np.uint8)
        if self.rank == 0:
            data[:] = np.frombuffer(text, np.uint8)
        try:
            self._wait(self._comm.Ibcast(data, root=0), what)
        except MPI.Exception as error:
            self._lost(error, data, what)
        return data.tobytes()

    def _lost(self, error: MPI.Exception, memory: object, what: str) -> NoReturn:
        """Turn whatever MPI says in a collective into one of our errors: of 190 in lost ranks' jobs 6 named no rank."""
        self._abandoned.append(memory)
        text = f"rank {self.rank}: MPI failed in {what} ({error})"
        if self.survives:
            raise RankLostError(text) from error
        raise RunError(f"{text}: a rank is lost. Run the same command again to resume") from error

    @contextlib.contextmanager
    def node(self) -> Iterator[Communicator]:
        """See ``Communicator.node``."""
        from mpi4py import MPI

        what, local, failure = "finding the ranks of this machine", None, None
        try:
            with self._patient(what):
                local = self._comm.Split_type(MPI.COMM_TYPE_SHARED)
        except MPI.Exception as error:
            failure = error
        # on all ranks or on none: one without its node could tell nobody who waits for it there
        if (self.survives and not self.agree(failure is None)) or local is None:
            self._lost(failure or MPI.Exception(MPI.ERR_PROC_FAILED), None, what)
        node = Ranks(local, self.deadline_seconds, self.survives)
        node.silence_seconds = self.silence_seconds
        yield node
        if not self.survives:
            with self._patient("leaving the ranks of this machine"):
                local.Free()  # not after an exception: it might wait for a rank that is stuck

    def _wait(self, request: MPI.Request, what: str) -> None:
        """Poll: briefly without sleeping, then with naps, so that a waiting rank leaves its core to others."""
        if self.arrivals is not None:
            self.arrivals.enter()
        start = spin_from = time.monotonic()
        with contextlib.ExitStack() as watched:
            waits, here = False, self.arrivals is None
            while not any(request.Test() for _ in range(LOOKS_BETWEEN_NAPS)):
                now = time.monotonic()
                waited = now - start
                if now - spin_from < SPIN_SECONDS:
                    os.sched_yield()  # time.sleep(0) takes 50 µs and more, the exchange itself 10
                    continue
                if not waits and waited > WATCHED_SECONDS:
                    waits = True
                    watched.enter_context(self._patient(what))
                if not watch.WATCH.is_mine and waited > self.deadline_seconds:
                    raise self._too_late(what)
                nap = NAP_SHARE * waited
                if not here and self.arrivals is not None:
                    here = self.arrivals.sleep(min(nap, LONGEST_NAP_SECONDS))
                    spin_from = time.monotonic() if here else spin_from
                else:
                    time.sleep(
                        min(nap, NAP_SECONDS if waited < LONG_SECONDS else LONGEST_NAP_SECONDS)
                    )

    @contextlib.contextmanager
    def _patient(self, what: str) -> Iterator[None]:
        """Wait in the block as long as any other rank works, and so long when none does.

        Raises:
            RunError: in the block; where that is inside of MPI, the watch ends this process.
            DeadlineError: another rank or host is found to be stuck, and the job can't go on without it.
        """
        watch.WATCH.waits(True)
        try:
            waiting = f"waiting for the other ranks in {what}"
            with watch.within(self.deadline_seconds, waiting, patient=True):
                yield
        except watch.DeadlineError as error:
            if not error.seconds:
                raise
            raise self._too_late(what) from None
        finally:
            watch.WATCH.waits(False)

    def _too_late(self, what: str) -> RunError:
        return RunError(
            f"rank {self.rank} waited {self.deadline_seconds:.0f} s for the other ranks in {what}, and no other "
            "rank is known to be working: a rank or a connection is stuck (run.deadline_minutes sets the time "
            "limit). Run the same command again to resume"
        )

    def abort(self, exit_code: int) -> None:
        """End the job: MPI_Abort, and this process in any case."""
        _flush()
        _end_after(ABORT_SECONDS, exit_code)
        self._comm.Abort(exit_code)
        os._exit(exit_code)

    def revoke(self) -> None:
        """See ``Communicator.revoke``."""
        from mpi4py import MPI

        with contextlib.suppress(MPI.Exception):  # it may be revoked already
            self._comm.Revoke()

    def recover(self) -> None:
        """See ``Communicator.recover``."""
        from mpi4py import MPI

        self.revoke()
        # It waits for those that still evaluate, and Ishrink, which could be polled, crashed in 2 of 2 jobs (Open MPI
        # 5.0.11). A stopped one is killed by the watch of another; any other holds it up for so long at most.
        with self._patient("the recovery from a lost rank"):
            if not self._parted:
                self.agree(False)  # some may be about to agree that all is well
            for attempt in range(SHRINKS):
                try:
                    smaller = self._comm.Shrink()
                    break
                except MPI.Exception as error:  # another one was lost meanwhile
                    if attempt == SHRINKS - 1:
                        raise RunError(
                            f"rank {self.rank}: MPI can't continue without the ranks that were lost ({error}). Run "
                            "the same command again to resume"
                        ) from error
        self.arrivals = None
        self._parted = False
        self._abandoned.append(self._comm)  # to free it would wait for all of its ranks
        self._comm, self.rank, self.size = smaller, smaller.Get_rank(), smaller.Get_size()

    def agree(self, good: bool) -> bool:
        """See ``Communicator.agree``."""
        from mpi4py import MPI

        try:
            with self._patient("agreeing whether all is well"):
                agreed = bool(self._comm.Agree(int(good)))
        except MPI.Exception:  # on all of them: a rank is lost that not all knew of
            agreed = False
        self._parted = not agreed
        return agreed

    def close(self, exit_code: int) -> None:
        """Finalize MPI. Where ranks may be lost, meet and end: to finalize hung in 6 of 151 jobs after a loss."""
        from mpi4py import MPI

        if self.survives:
            _flush()
            _end_after(ABORT_SECONDS, exit_code)
            self.agree(True)
            os._exit(exit_code)
        if not MPI.Is_finalized():
            _watch_the_end(FINALIZE_SECONDS, exit_code)
            MPI.Finalize()
            watch.clear_deadline()


def stuck(error: watch.DeadlineError) -> RunError:
    """What the watch found out about another rank or host."""
    return RunError(
        f"{error}. It is stopped or unreachable (run.silence_seconds sets the time limit). Run the same command "
        "again to resume"
    )


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(EsdError, OSError, ValueError):  # nobody is left to read it
            stream.flush()


def _end_after(seconds: float, exit_code: int) -> None:
    """End this process in a while, whatever it is stuck in."""
    timer = threading.Timer(seconds, os._exit, (exit_code,))
    timer.daemon = True
    timer.start()
    _watch_the_end(seconds + 1.0, exit_code)  # should MPI hold the interpreter's lock


def _watch_the_end(seconds: float, exit_code: int) -> None:
    watch.WATCH.exit_with(exit_code)
    watch.set_deadline(seconds, "leaving MPI", grace=0.0)


def connect() -> Communicator:
    """Join the ranks that the launcher started, or be alone without a launcher.

    Raises:
        UsageError: if MPI can't be loaded, or the launcher started several processes and MPI sees only one: a launcher
            of one kind with a library of another. Each would then train alone, into the same folder.
    """
    launched = launched_processes()
    if launched == 1:
        return Alone()
    die_with_parent()
    watch.start()
    with watch.within(START_SECONDS, "joining the other ranks (MPI_Init)"):
        return _joined(launched)


def _joined(launched: int) -> Communicator:
    """All of so many ranks."""
    MPI = load()  # noqa: N806
    size = MPI.COMM_WORLD.Get_size()
    if size != launched:
        library = short(MPI.Get_library_version())
        if launched_by_srun():
            raise UsageError(
                f"srun started {launched} processes, but MPI sees {size}: each process would train alone. Use srun "
                f"--mpi=pmix (srun --mpi=list shows the alternatives for {library}), or start the ranks with mpirun "
                "inside the job, as esd submit --launcher mpirun does"
            )
        raise UsageError(
            f"the launcher started {launched} processes, but MPI sees {size}: launcher and library ({library}) are "
            "of different kinds. Use the library's own mpirun (with SLURM: srun --mpi=pmix, or mpirun inside the "
            "job)"
        )
    # a communicator of our own: whoever else uses MPI in this process can't take our messages
    if survives_losses():  # to shrink works on all ranks or on none, to duplicate doesn't
        return Ranks(MPI.COMM_WORLD.Shrink(), survives=True)
    return Ranks(MPI.COMM_WORLD.Dup())
