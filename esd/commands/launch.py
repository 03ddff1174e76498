"""``esd launch``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from esd.commands.running import alone

if TYPE_CHECKING:
    from esd.launching.train_command import TrainCommand
    from esd.training.stop import StopRequest

DEFAULT_RESTARTS = 10
START_SECONDS = 300.0


def launch(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="train",
            help="The word train with the arguments of esd train. Options for mpirun can be given before it, after "
            "--.",
            show_default=False,
        ),
    ],
    ranks: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--ranks",
            min=1,
            help="Number of ranks. By default the number of cores, or with hosts the number of their slots.",
            show_default=False,
        ),
    ] = None,
    hosts: Annotated[
        str | None,
        typer.Option(
            help="Hosts to run on, each with its number of ranks: a:4,b:4.", metavar="HOST:N,…"
        ),
    ] = None,
    hostfile: Annotated[
        Path | None, typer.Option(help="A file with one host per line, in mpirun's format.")
    ] = None,
    max_restarts: Annotated[
        int,
        typer.Option(
            min=0, help="Maximum number of restarts after failures of the job.", metavar="K"
        ),
    ] = DEFAULT_RESTARTS,
    start_seconds: Annotated[
        float,
        typer.Option(
            min=1.0,
            help="Restart the job if its ranks have not all connected after this time.",
            metavar="SECONDS",
        ),
    ] = START_SECONDS,
    fault_tolerant: Annotated[
        bool,
        typer.Option(
            "--fault-tolerant",
            help="If ranks are lost, finish the run with the remaining ranks, with the same result. Needs Open MPI "
            "5.",
        ),
    ] = False,
) -> None:
    """Start training under mpirun, and restart it after a failure.

    esd launch uses the mpirun of mpi4py's MPI library, or the one in ESD_MPIRUN. A run is done when its folder
    contains DONE.json; the exit code of mpirun does not matter. Ctrl-C, SIGTERM, SIGUSR1, SIGUSR2 and SIGHUP stop
    training after the current generation, with exit code 75. A second Ctrl-C stops it immediately. Each event is one
    line on stderr and one line in launches.jsonl in the run's folder.

    Example: esd launch -n 4 train cartpole --set seed=1
    """  # fmt: skip
    from esd.training.stop import StopRequest

    stop = StopRequest()
    with stop.listening(ends_process=True):
        alone(
            lambda: _launch(
                words, ranks, (hosts, hostfile), max_restarts, start_seconds, fault_tolerant, stop
            )
        )


def _launch(
    words: Sequence[str],
    ranks: int | None,
    places: tuple[str | None, Path | None],
    max_restarts: int,
    start_seconds: float,
    fault_tolerant: bool,
    stop: StopRequest,
) -> int:
    """Find out what is started where, and supervise it; the exit code."""
    from esd.errors import UsageError
    from esd.launching import hosts, mpirun
    from esd.launching.supervisor import Launch, Supervisor, refuse_nested
    from esd.mpi.launch import launched_processes
    from esd.run.folder import RunFolder
    from esd.run.training_folder import check_writable

    if launched_processes() > 1:
        refuse_nested()
    if "train" not in words:
        raise UsageError(
            "esd launch: expected the word train and its arguments, such as esd launch -n 4 train cartpole"
        )
    position = list(words).index("train")
    named, file = places
    if named is not None and file is not None:
        raise UsageError("--hosts and --hostfile cannot be combined; use one of them")
    where = hosts.listed(named) if named is not None else hosts.of_file(file) if file else None
    launcher = mpirun.find()
    if fault_tolerant and launcher.kind != mpirun.OPEN_MPI:
        raise UsageError(
            f"--fault-tolerant: needs Open MPI 5, but mpi4py uses {launcher.kind}. Leave this option out: esd "
            "launch then restarts the job when a rank is lost"
        )
    train = _train_command(words[position + 1 :])
    if not RunFolder(train.run).done_file.exists():
        check_writable(train.run)
    if ranks is None and where is None and not any(n.startswith("SLURM_") for n in os.environ):
        ranks = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    what = Launch(
        launcher,
        train,
        ranks,
        where,
        tuple(words[:position]),
        max_restarts,
        start_seconds,
        fault_tolerant,
    )
    return Supervisor(what, stop).run()


def _train_command(words: Sequence[str]) -> TrainCommand:
    """Read the words of ``esd train`` as it will read them itself.

    Raises:
        typer.Exit: for ``--help``; and what typer raises for options that it doesn't have.
    """
    from typer.main import get_command

    from esd.commands.literal_help import LiteralCommand
    from esd.commands.train import train
    from esd.errors import UsageError
    from esd.launching.train_command import TrainCommand, folder_of

    alone_in_its_app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    alone_in_its_app.command(cls=LiteralCommand)(train)
    command = get_command(alone_in_its_app)
    read = command.make_context("esd launch … train", list(words)).params
    run, start_from = read.pop("run"), read.pop("start_from")
    fresh, yes = read.pop("fresh"), read.pop("yes")
    if run is None and start_from is not None and read["experiment"] is None:
        raise UsageError(f"--from {start_from}: set the new run's folder with --run")
    if run is None:
        run = folder_of(read["experiment"], read["settings"] or ())
    return TrainCommand(
        tuple(_as_words(command.params, read)),
        run,
        (*(("--fresh",) if fresh else ()), *(("--yes",) if yes else ())),
        () if start_from is None else ("--from", str(start_from)),
    )


def _as_words(parameters: Sequence[Any], read: dict[str, Any]) -> Iterator[str]:
    """Options and arguments as words again, arguments last."""
    arguments: list[str] = []
    for parameter in parameters:
        value = read.get(parameter.name)
        if value is None or value is False:
            continue
        for each in value if isinstance(value, list | tuple) else (value,):
            if parameter.param_type_name != "option":
                arguments.append(str(each))
                continue
            yield parameter.opts[0]
            if each is not True:
                yield str(each)
    if any(argument.startswith("-") for argument in arguments):
        yield "--"  # or they would be read as options
    yield from arguments
