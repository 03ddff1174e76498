"""How a command runs on ranks: joined at the start, left in good order, and never with a rank hanging."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from esd.commands import output
from esd.commands.leaving import adopt_orphans, descendants, end_children
from esd.errors import EXIT_FAILED, EsdError, FinalError, MissingPackageError
from esd.mpi.launch import launched_local_rank, report_to_supervisor

if TYPE_CHECKING:
    from esd.mpi.comm import Communicator

STAGGER_SECONDS = 0.3
SILENT_SECONDS = 1.0  # the launcher kills this rank meanwhile, or may wait for all of them
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells put it
VERBOSE = "ESD_VERBOSE"  # in the environment: as --verbose


_verbose = False


def _be_verbose(wanted: bool) -> bool:
    global _verbose
    _verbose = wanted
    return wanted


Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        help="Print the traceback of an error in your environment, policy or function.",
        callback=_be_verbose,
    ),
]


Trusted = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Allow code that is not in an installed package. Needed only for a run that was not created here, "
        "such as a copy (docs/security.md). ESD_TRUST=1 does the same.",
    ),
]


def use_one_thread() -> None:
    """Let libraries start one thread per rank, because ranks are the parallelism.

    They read it when numpy is loaded, so it is set when a command starts: before numpy, but not when ``esd.cli`` is
    only imported.
    """
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Say nothing until ``on_ranks`` begins: what every rank would say alike, rank 0 says."""
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def on_ranks(
    body: Callable[[Communicator], int], as_json: bool = False, kept: str = ""
) -> NoReturn:
    """Run a command's body on every rank and exit with its code.

    Args:
        body: the command on one rank.
        as_json: it prints one JSON object.
        kept: what remains if Ctrl-C interrupts it.

    A failure that all ranks know of is reported by one of them, and all leave through MPI_Finalize. Anything else
    (a rank that missed a deadline, a bug) aborts the job; ranks report staggered, so that the first is heard and the
    others are usually gone before they repeat it.
    """
    from esd import watch
    from esd.commands.console import print_error
    from esd.mpi import leftovers
    from esd.mpi.comm import (
        JobFailedError,
        RankLostError,
        connect,
        exit_code_of,
        stuck,
    )

    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    watch.start()
    if not gc.get_freeze_count():
        gc.freeze()  # what is imported stays: to look through it took a quarter of a second at the end of the process
    adopt_orphans()
    leftovers.mark()
    try:
        comm = connect()
    except EsdError as error:
        if launched_local_rank():  # the first rank of a machine speaks for all of them
            time.sleep(SILENT_SECONDS)
        else:
            print_error(str(error))
        raise typer.Exit(error.exit_code) from None
    others = frozenset(descendants(os.getpid()))  # of MPI, or of a program that calls this one
    if comm.rank == 0:
        report_to_supervisor("started")
    try:
        with output.stdout_is_for_json(as_json):
            code = body(comm)
        if comm.rank == 0 and not code:
            report_to_supervisor("done")
    except JobFailedError as failure:
        code = failure.exit_code
        if failure.__cause__ is not None:
            if isinstance(failure.__cause__, FinalError):
                report_to_supervisor("final")
            if output.had_enough(failure.__cause__):
                code = 0
            report(failure.__cause__)
    except RankLostError as loss:
        if comm.rank == 0:
            print_error(
                f"a rank was lost at a point where the job can't continue ({loss}); run the same command again"
            )
        comm.abort(EXIT_FAILED)
    except BaseException as caught:
        if output.had_enough(caught) and comm.size == 1:  # under mpirun that is who reads
            end_children(others)
            comm.close(0)
            raise typer.Exit(0) from None
        reason = stuck(caught) if isinstance(caught, watch.DeadlineError) else caught
        heard = isinstance(caught, watch.DeadlineError) and caught.heard
        time.sleep(
            STAGGER_SECONDS * (min(comm.rank, 10) + 11 * heard)
        )  # who found out speaks first
        report(reason, kept)
        end_children(others)
        interrupted = isinstance(reason, KeyboardInterrupt)
        comm.abort(EXIT_INTERRUPTED if interrupted else exit_code_of(reason))
    code = code or (EXIT_FAILED if output.result_was_lost() else 0)
    end_children(others)
    comm.close(code)
    raise typer.Exit(code)


def alone(body: Callable[[], int], as_json: bool = False) -> NoReturn:
    """Run a command that needs no ranks, and exit with its code; ``as_json``: it prints one JSON object."""
    try:
        with output.stdout_is_for_json(as_json):
            code = body()
    except EsdError as error:
        report(error)
        code = error.exit_code
    except KeyboardInterrupt as error:
        report(error)
        code = EXIT_INTERRUPTED
    except OSError as error:
        if not output.had_enough(error):
            raise
        code = 0
    raise typer.Exit(code)


def report(error: BaseException, kept: str = "") -> None:
    """Print an error: one line for what the user can fix, a traceback for anything else.

    Args:
        error: why a command ends.
        kept: what remains after an interruption.

    With ``--verbose`` the traceback of the user's own code follows that line, if the error came from there.
    Nothing if stdout was closed, as ``head`` does it: that ends a command, but is no failure.
    """
    from esd.commands.console import print_error
    from esd.config.plugins import their_traceback

    if output.had_enough(error):
        return
    if isinstance(error, EsdError):
        missing = isinstance(error, MissingPackageError)  # no fault of their code
        theirs = "" if missing else their_traceback(error.__cause__)
        verbose = _verbose or os.environ.get(VERBOSE, "") not in ("", "0")
        hint = " (--verbose shows the traceback)" if theirs and not verbose else ""
        print_error(f"{error}{hint}")
        if verbose and theirs:
            print(theirs, end="", file=sys.stderr, flush=True)
    elif isinstance(error, MemoryError):
        print_error(f"out of memory ({error}): use fewer ranks per machine, or smaller layers")
    elif isinstance(error, KeyboardInterrupt):
        print_error(f"interrupted{kept and f'; {kept}'}")
    else:
        traceback.print_exception(error)
