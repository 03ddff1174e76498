"""``esd train``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from esd.commands import completion
from esd.commands.output import be_patient
from esd.commands.quiet import QuietOption, WarningsOnly
from esd.commands.running import Trusted, Verbose, on_ranks

if TYPE_CHECKING:
    from esd.commands.console import Reporter
    from esd.mpi.comm import Communicator
    from esd.training.loop import Ending
    from esd.training.plan import Plan
    from esd.training.stop import StopRequest


def train(
    experiment: Annotated[
        str | None,
        typer.Argument(
            help="A shipped experiment (see: esd list experiments) or a TOML file.",
            autocompletion=completion.experiments,
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="The run's folder. Default: runs/<experiment>-s<seed>, with the settings of --set in its name.",
            show_default=False,
            autocompletion=completion.runs,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Override a setting, such as --set es.sigma=0.05.",
            metavar="KEY=VALUE",
            autocompletion=completion.settings,
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh", help="Delete the run in the folder and start a new one. Needs --yes."
        ),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Confirm that --fresh deletes the run.")
    ] = False,
    start_from: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Start a new run from the last parameters (h) of this run. Without an experiment it also has the "
            "settings of this run. Sigma, the optimizer's moments and everything else start from scratch.",
            autocompletion=completion.runs,
        ),
    ] = None,
    trust: Trusted = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object at the end.")
    ] = False,
    quiet: QuietOption = False,
    verbose: Verbose = False,
) -> None:
    """Train a policy, or resume the run in the folder.

    Without an argument, the default experiment is trained: a Hebbian network on CartPole. Every generation is saved
    when it is done, so a run can be stopped at any time and resumed on any number of ranks. Ctrl-C, SIGTERM, SIGUSR1,
    SIGUSR2 and SIGHUP stop it after the current generation, with exit code 75. A second Ctrl-C stops it immediately.

    Under plain mpirun, Ctrl-C and SIGTERM kill the job immediately with exit code 1, because mpirun kills its ranks.
    All completed generations are kept. Send SIGUSR1 to mpirun instead (kill -USR1 PID), or use esd launch.
    """
    from esd.training.stop import StopRequest

    stop = StopRequest()
    # before the imports and MPI, which take a second, and planning
    with stop.listening(ends_process=True):
        asked = (experiment, run, settings or (), fresh, yes, start_from, trust)
        _carry_out(asked, stop, as_json, quiet)


def _carry_out(
    asked: tuple[str | None, Path | None, Sequence[str], bool, bool, Path | None, bool],
    stop: StopRequest,
    as_json: bool,
    quiet: bool,
) -> NoReturn:
    """Plan and train on all ranks, and exit."""
    from esd.commands.console import announce_stop, print_json, reporter_for, show_run
    from esd.errors import EXIT_STOPPED_EARLY
    from esd.mpi.comm import agreement
    from esd.mpi.launch import launched
    from esd.run.folder import RunFolder
    from esd.training.plan import Plan, TrainRequest, make_plan
    from esd.training.prepare import train as train_plan
    from esd.training.process_state import kept_process_state
    from esd.training.stop import StoppedAtStartError
    from esd.training.survivors import surviving

    def body(comm: Communicator) -> int:
        be_patient(results=False)
        reporter = reporter_for(comm, as_json or quiet, launched())
        if quiet:
            reporter = WarningsOnly(reporter)
        encoded = b""
        with agreement(comm, "planning"), kept_process_state():
            if comm.rank == 0:
                encoded = make_plan(TrainRequest(*asked), reporter.note).encode()
        with kept_process_state():
            plan = Plan.decode(comm.broadcast(encoded, "planning"))
        if plan.finished:
            if not quiet:
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
        show_run(reporter, plan.folder)
        announce_stop(reporter, stop, plan.folder, launched())
        try:
            ending = train_plan(comm, plan, stop, reporter)
        except StoppedAtStartError:
            if comm.rank == 0:
                _stopped_at_start(plan, reporter, as_json, quiet)
            return EXIT_STOPPED_EARLY
        finally:
            reporter.close()
        if comm.rank == 0:
            _summary(plan, ending, reporter, as_json, quiet)
        return 0 if ending.finished else EXIT_STOPPED_EARLY

    on_ranks(
        lambda comm: surviving(comm, lambda: body(comm)),
        as_json,
        "all completed generations are kept",
    )


def _stopped_at_start(plan: Plan, reporter: Reporter, as_json: bool, quiet: bool) -> None:
    """Say that a signal came before the first generation."""
    from esd.commands.console import print_json

    if as_json:
        print_json({"run": str(plan.folder), "reason": "signal", "finished": False})
    go_on = "run the same command again"
    if plan.resumes:
        go_on = f"to continue: esd train --run {shlex.quote(str(plan.folder))}"
    if not quiet:
        reporter.note(
            f"{plan.folder}: stopped by a signal before training, nothing changed; {go_on}"
        )


def _summary(plan: Plan, ending: Ending, reporter: Reporter, as_json: bool, quiet: bool) -> None:
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
                "findings": [finding.as_json() for finding in ending.findings],
            }
        )
    warnings = [f"warning: {finding.text}" for finding in ending.findings]
    end = f"{plan.folder}: generation {state.generation}, ended by {ending.reason}"
    lines = [f"{end}, h {state.h_sha256()[:16]}", *warnings]
    if ending.finished and not ending.findings:
        lines.append(f"evaluate it: esd eval {folder}")
    if not ending.finished:
        lines.append(f"not finished; to continue: esd train --run {folder}")
    for line in warnings if quiet else lines:
        reporter.note(line)
