"""``esd train``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esd.commands.running import Verbose, on_ranks

if TYPE_CHECKING:
    from esd.commands.console import ConsoleReporter, Quiet
    from esd.mpi.comm import Communicator
    from esd.training.loop import Ending
    from esd.training.plan import Plan


def train(
    experiment: Annotated[
        str | None,
        typer.Argument(help="A shipped experiment (see: esd list experiments) or a TOML file."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="The run's folder. [default: runs/<experiment>-s<seed>]", show_default=False
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change a setting, such as --set es.sigma=0.05.", metavar="KEY=VALUE"
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete the run in the folder and start anew.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Really delete it.")] = False,
    start_from: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Start a new run from the last h of this run; without an experiment also with its settings. "
            "Everything else, such as sigma and the moments of the optimizer, starts from scratch.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object at the end.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Train; a run that is in the folder already is resumed.

    Without an argument this is the default experiment: a Hebbian network on CartPole. Every generation is kept at
    once, so a run can be stopped at any time (SIGUSR1 ends it after the generation under way) and resumed on any
    number of ranks.
    """
    from esd.commands.console import ConsoleReporter, Quiet, print_json
    from esd.errors import EXIT_STOPPED_EARLY
    from esd.mpi.comm import agreement
    from esd.mpi.launch import launched
    from esd.run.folder import RunFolder
    from esd.training.plan import Plan, TrainRequest, make_plan
    from esd.training.prepare import train as train_plan
    from esd.training.stop import StopRequest

    request = TrainRequest(experiment, run, settings or (), fresh, yes, start_from)

    def body(comm: Communicator) -> int:
        reporter = ConsoleReporter(as_json, launched()) if comm.rank == 0 else Quiet()
        encoded = b""
        with agreement(comm, "planning"):
            if comm.rank == 0:
                encoded = make_plan(request, reporter.note).encode()
        plan = Plan.decode(comm.broadcast(encoded, "planning"))
        if plan.finished:
            reporter.note(plan.finished)
            if comm.rank == 0 and as_json:
                print_json(
                    {
                        "run": str(plan.folder),
                        "finished": True,
                        **(RunFolder(plan.folder).done() or {}),
                    }
                )
            return 0
        stop = StopRequest()
        try:
            with stop.listening():
                ending = train_plan(comm, plan, stop, reporter)
        finally:
            reporter.close()
        if comm.rank == 0:
            _summary(plan, ending, reporter, as_json)
        return 0 if ending.finished else EXIT_STOPPED_EARLY

    on_ranks(body, as_json)


def _summary(plan: Plan, ending: Ending, reporter: ConsoleReporter | Quiet, as_json: bool) -> None:
    """Say how it ended and what to do next."""
    from esd.commands.console import print_json

    state, folder = ending.state, shlex.quote(str(plan.folder))
    if as_json:
        print_json(
            {
                "run": str(plan.folder),
                "reason": ending.reason,
                "finished": ending.finished,
                "generation": state.generation,
                "h_sha256": state.h_sha256(),
            }
        )
    reporter.note(
        f"{plan.folder}: generation {state.generation}, ended by {ending.reason}, h {state.h_sha256()[:16]}"
    )
    if ending.finished:
        reporter.note(f"evaluate it: esd eval {folder}")
    else:
        reporter.note(f"not finished; to go on: esd train --run {folder}")
