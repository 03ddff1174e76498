"""``esd submit``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from esd.commands import completion
from esd.commands.running import Trusted, Verbose, alone

if TYPE_CHECKING:
    from esd.launching.submit import SubmitRequest

GIVE_UP_AFTER = 5


def submit(
    experiment: Annotated[
        str | None,
        typer.Argument(
            help="A shipped experiment (see: esd list experiments) or a TOML file.",
            autocompletion=completion.experiments,
        ),
    ] = None,
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="The number of nodes.")] = 1,
    tasks_per_node: Annotated[
        int, typer.Option("--ntasks-per-node", min=1, help="The number of ranks on each node.")
    ] = 1,
    time: Annotated[
        str,
        typer.Option(
            "--time",
            help="The time limit of each start, such as 30, 2:00:00 or 1-12:00:00. The job is queued again until the "
            "run is done.",
            metavar="LIMIT",
        ),
    ] = "1:00:00",
    array: Annotated[
        str | None,
        typer.Option(
            help="Train once for each value, as a job array: seed=0-4, seed=0,3,7, or at most ten at a time: "
            "seed=0-99%10.",
            metavar="KEY=RANGES",
            show_default=False,
        ),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            help="Train once for each value, such as es.sigma=0.05,0.1. Can be repeated; all combinations are "
            "trained, also with --array.",
            metavar="KEY=VALUE,…",
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
    run: Annotated[
        Path | None,
        typer.Option(
            help="The run's folder. With --array or --grid, the folder that contains the runs. Default: the same "
            "as for esd train.",
            show_default=False,
        ),
    ] = None,
    gpus_per_node: Annotated[
        str | None,
        typer.Option(
            help="GPUs on each node, such as 4 or a100:4.", metavar="N", show_default=False
        ),
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="The account to charge.", show_default=False)
    ] = None,
    partition: Annotated[
        str | None, typer.Option(help="The partition to run in.", show_default=False)
    ] = None,
    qos: Annotated[
        str | None, typer.Option(help="The quality of service (QOS).", show_default=False)
    ] = None,
    constraint: Annotated[
        str | None, typer.Option(help="Features that the nodes must have.", show_default=False)
    ] = None,
    launcher: Annotated[
        str | None,
        typer.Option(
            help="Program that starts the ranks: srun, or mpirun through esd launch. Default: srun.",
            show_default=False,
        ),
    ] = None,
    fault_tolerant: Annotated[
        bool,
        typer.Option(
            "--fault-tolerant",
            help="With --launcher mpirun: if ranks are lost, the remaining ranks finish the run. Needs Open MPI 5.",
        ),
    ] = False,
    stop_before: Annotated[
        int | None,
        typer.Option(
            help="Seconds before the time limit at which training stops. Default: 120, or more if a generation "
            "needs more.",
            metavar="SECONDS",
            show_default=False,
        ),
    ] = None,
    give_up_after: Annotated[
        int,
        typer.Option(
            min=1,
            help="Stop queueing the job again after this many starts in a row without progress.",
            metavar="K",
        ),
    ] = GIVE_UP_AFTER,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--sbatch",
            help="Another option for sbatch, such as --sbatch=--mem=8G. Can be repeated.",
        ),
    ] = None,
    site: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file with the settings of this cluster: modules, environment, image, options. Default: "
            "~/.config/esd/submit.toml, if it exists.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the script, and submit and write nothing.")
    ] = False,
    trust: Trusted = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    verbose: Verbose = False,
) -> None:
    """Submit a training run, or an array of runs, to SLURM.

    Everything is checked before the job is queued. The job stops training before the time limit and is queued again
    until the run is done. esd show FOLDER lists the state of every run in a folder.

    Example: esd submit cartpole --nodes 2 --ntasks-per-node 8 --time 2:00:00 --array seed=0-4
    """  # fmt: skip

    def body() -> int:
        from esd.launching.site import read_site
        from esd.launching.submit import SubmitRequest

        chosen = {
            "account": account, "partition": partition, "qos": qos, "constraint": constraint, "launcher": launcher,
        }  # fmt: skip
        request = SubmitRequest(
            experiment,
            run,
            tuple(settings or ()),
            array,
            tuple(grid or ()),
            nodes,
            tasks_per_node,
            time,
            stop_before,
            give_up_after,
            gpus_per_node,
            fault_tolerant,
            trust,
            tuple(options or ()),
            _with(read_site(site), {k: v for k, v in chosen.items() if v is not None}),
        )
        return _submit(request, dry_run, as_json)

    alone(body, as_json)


def _with(site: Any, chosen: dict[str, str]) -> Any:
    """A site with what the user says on the command line."""
    import dataclasses

    from esd.errors import UsageError, shown
    from esd.launching.site import LAUNCHERS

    if chosen.get("launcher", "srun") not in LAUNCHERS:
        raise UsageError(
            f"--launcher {shown(chosen['launcher'])}: expected one of {', '.join(LAUNCHERS)}"
        )
    return dataclasses.replace(site, **chosen)


def _submit(request: SubmitRequest, dry_run: bool, as_json: bool) -> int:
    """Check, write, submit, report."""
    from esd.commands.console import print_error, print_json
    from esd.errors import EsdError, UsageError
    from esd.launching import slurm, submission
    from esd.launching.batch_script import render
    from esd.launching.submit import check_cluster, prepare, record_of
    from esd.mpi.launch import launched_processes

    if launched_processes() > 1:
        raise UsageError("esd submit: run it once, without mpirun or srun")
    notes: list[str] = []  # one line says what is wrong; these are for a job that is not
    prepared = prepare(request, str(Path.cwd()), sys.executable, notes.append)
    name = prepared.job.name
    if dry_run:
        for note in notes:
            print_error(note)
        free = submission.free_name(prepared.parent, name)
        job = prepared.placed(free)
        script = render(job)
        if as_json:
            print_json({"script": script, **record_of(job, "", free), "job": None})
        else:
            sys.stdout.flush()
            sys.stdout.buffer.write(script.encode("utf-8", "surrogateescape"))
        return 0
    slurm.require_sbatch()
    check_cluster(prepared)
    above = submission.missing_folders(prepared.parent / submission.FOLDER)
    made = submission.make_folder(prepared.parent, name)
    folder = prepared.parent / submission.FOLDER / made
    job = prepared.placed(made)
    try:
        if prepared.experiment is not None:
            submission.write(folder, submission.EXPERIMENT, prepared.experiment)
        path = submission.write(folder, submission.SCRIPT, render(job))
        submission.write_record(folder, record_of(job, "", made))
        job_id = slurm.submit(path)
    except slurm.UnansweredError:
        raise  # a job that is queued needs its files
    except EsdError:
        submission.remove(folder, above)
        raise
    for note in notes:
        print_error(note)
    record = record_of(job, job_id, made)
    submission.write_record(folder, record)
    if as_json:
        print_json({**record, "folder": str(folder), "script": str(path)})
        return 0
    count = f"{len(job.tasks)} tasks" if job.array else job.tasks[0].run
    print(f"submitted job {job_id}: {count}")
    print(f"script and logs: {folder}")
    print(
        f"show progress: esd show {_quoted(prepared.parent if job.array else Path(job.tasks[0].run))}"
    )
    return 0


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))
