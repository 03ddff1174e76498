"""From the words of ``esd submit`` to a job that is checked: whatever is wrong is found before it is queued."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from esd.config.experiment_files import experiment_names, read_experiment
from esd.config.settings import DEFAULT_EXPERIMENT, Config
from esd.config.tables import apply_settings, to_table
from esd.errors import MissingPackageError, UsageError, shown
from esd.evolution.layout import Layout
from esd.evolution.state import make_strategy
from esd.launching import slurm, submission, sweep
from esd.launching.batch_script import BatchJob, Task
from esd.launching.site import Site, check_option, check_word
from esd.launching.slurm_time import seconds_of, text_of
from esd.launching.stop_before import when_to_stop
from esd.run.folder import RunFolder
from esd.run.trust import Trust
from esd.training.plan import Plan, TrainRequest, folder_of_request, make_plan
from esd.training.room import made

_PLAIN_PATH = re.compile(r"[A-Za-z0-9._/=+,@-]+")
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._+=-]+")
GPUS = re.compile(r"(?:[A-Za-z0-9_.-]+:)?[1-9]\d{0,3}")
QUEUED = ("PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "REQUEUED", "STOPPED")  # fmt: skip
Warn = Callable[[str], None]


@dataclass(frozen=True)
class SubmitRequest:
    """A call of ``esd submit``.

    Attributes:
        experiment: a shipped experiment or a TOML file; None for the default, or the run in the folder.
        run: the run's folder, or with ``array`` or ``grid`` the folder of the runs; None for the default.
        settings: ``key=value`` texts for all tasks.
        array: ``seed=0-4``; None without.
        grid: ``key=value,value`` texts.
        nodes: how many.
        tasks_per_node: ranks on each.
        time: the time limit, as SLURM writes it.
        stop_before: seconds before it at which the training is asked to stop; None for what fits.
        give_up_after: starts in a row that gain nothing.
        gpus_per_node: a number, or a kind and a number; None without.
        fault_tolerant: survivors of a lost rank go on.
        trust: import what a run that was not created here names.
        options: further options of sbatch.
        site: what the cluster needs, with the user's own choice of account, partition, launcher and so on in it.
    """

    experiment: str | None
    run: Path | None
    settings: tuple[str, ...]
    array: str | None
    grid: tuple[str, ...]
    nodes: int
    tasks_per_node: int
    time: str
    stop_before: int | None
    give_up_after: int
    gpus_per_node: str | None
    fault_tolerant: bool
    trust: bool
    options: tuple[str, ...]
    site: Site


@dataclass(frozen=True)
class Prepared:
    """A job that is ready to be written.

    Attributes:
        job: it.
        parent: the folder of its runs.
        experiment: the content of the copy of the experiment's file; None without a file.
    """

    job: BatchJob
    parent: Path
    experiment: str | None

    def placed(self, name: str) -> BatchJob:
        """The job, in a submission's folder of this name."""
        folder = self.parent / submission.FOLDER / name
        number = "%A_%a" if self.job.array else "%j"
        plain = _PLAIN_PATH.fullmatch(str(folder))
        return dataclasses.replace(
            self.job,
            folder=str(folder),
            log=f"{folder}/{number}.log" if plain else f"slurm-{number}.out",
            experiment=self.job.experiment
            if self.experiment is None
            else str(folder / submission.EXPERIMENT),
        )


def prepare(request: SubmitRequest, working_directory: str, python: str, warn: Warn) -> Prepared:
    """Check a request, and put the job together. Nothing is written.

    Args:
        request: what the user asks for.
        working_directory: where the training will run.
        python: the interpreter that has esd.
        warn: is called with a line about what is worth knowing.

    Raises:
        UsageError: for what is wrong with it.
    """
    site = request.site
    _check_words(request)
    seconds = seconds_of(request.time)
    axes, at_once = _axes(request)
    sweeps = bool(axes)
    name, content = _experiment(request)
    tasks, plans = [], []
    once = _once(warn)
    for settings in sweep.combinations(axes):
        run = _folder(request, settings, sweeps)
        plans.append(_plan(request, run, settings, once))
        tasks.append(Task(str(run), settings))
    _check_folders(tasks)
    _check_buildable([plan.config for plan in plans], site, warn)
    finished = [plan for plan in plans if plan.finished]
    if len(finished) == len(plans):
        more = "" if len(plans) == 1 else f" (and {len(plans) - 1} more)"
        raise UsageError(f"nothing left to train: {plans[0].finished}{more}")
    if finished:
        warn(
            f"{len(finished)} of {len(plans)} runs are already finished; their tasks end immediately"
        )
    _warn_of_devices(request, [plan.config for plan in plans], warn)
    ranks = request.nodes * request.tasks_per_node
    stop_before = when_to_stop(request.stop_before, seconds, plans, ranks)
    parent = Path(tasks[0].run).parent
    job = BatchJob(
        _NOT_PLAIN.sub("_", name)[:60],
        request.nodes,
        request.tasks_per_node,
        seconds,
        stop_before,
        request.give_up_after,
        working_directory,
        "",
        "",
        python,
        site.launcher,
        request.fault_tolerant,
        site,
        request.experiment,
        request.settings,
        request.trust,
        tuple(tasks),
        at_once,
        request.gpus_per_node,
        sweeps,
        request.options,
    )
    return Prepared(job, parent, content)


def check_cluster(prepared: Prepared) -> None:
    """Refuse what this cluster can't run, and runs that another job trains already.

    Raises:
        UsageError: for the first such thing.
    """
    job = prepared.job
    slurm.check_fits(
        slurm.partitions(), job.site.partition, job.nodes, job.tasks_per_node, job.seconds
    )
    if job.array:
        most = slurm.largest_array()
        if most is not None and len(job.tasks) > most:
            raise UsageError(
                f"--array and --grid: {len(job.tasks):,} tasks, but this cluster allows {most:,} in an array. "
                "Submit it in parts"
            )
    names = {Path(task.run).name for task in job.tasks}
    before = [task for task in submission.submitted_tasks(prepared.parent) if task.run in names]
    states = slurm.states({task.array for task in before}) if before else {}
    for task in before:
        state = states.get(task.job)
        if state is not None and state.name in QUEUED:
            raise UsageError(
                f"{prepared.parent / task.run}: job {task.job} ({state.name}) is already training this run; wait "
                f"for it, or cancel it first: scancel {task.job}"
            )


def record_of(job: BatchJob, job_id: str, name: str) -> dict[str, Any]:
    """What ``submission.json`` says."""
    return {
        "format": 1,
        "job": job_id,
        "name": name,
        "array": job.array,
        "nodes": job.nodes,
        "ntasks_per_node": job.tasks_per_node,
        "time": text_of(job.seconds),
        "launcher": job.launcher,
        "settings": list(job.settings),
        "tasks": [
            {"task": number, "run": Path(task.run).name, "settings": list(task.settings)}
            for number, task in enumerate(job.tasks)
        ],
    }


def _check_words(request: SubmitRequest) -> None:
    """Refuse what SLURM would not understand."""
    site = request.site
    for key in ("account", "partition", "qos", "constraint"):
        if value := getattr(site, key):
            check_word(f"--{key}", value)
    for option in request.options:
        check_option("--sbatch", option)
    if request.gpus_per_node is not None and not GPUS.fullmatch(request.gpus_per_node):
        raise UsageError(
            f"--gpus-per-node {shown(request.gpus_per_node)}: expected a number, or a GPU type and a number, such "
            "as 4 or a100:4"
        )
    if request.fault_tolerant and (site.launcher != "mpirun" or site.image):
        raise UsageError(
            "--fault-tolerant: needs --launcher mpirun, and does not work with an image"
        )


def _axes(request: SubmitRequest) -> tuple[list[sweep.Axis], int | None]:
    """What is swept, the seeds last, and how many tasks run at once."""
    axes = [sweep.grid_axis(text) for text in request.grid]
    at_once = None
    if request.array is not None:
        axis, at_once = sweep.array_axis(request.array)
        axes.append(axis)
    for axis in axes:
        for setting in request.settings:
            if setting.partition("=")[0].strip() == axis.key:
                raise UsageError(
                    f"--set {shown(setting)}: {axis.key} is also varied by --array or --grid; remove one of the two"
                )
    return axes, at_once


def _experiment(request: SubmitRequest) -> tuple[str, str | None]:
    """The experiment's name and, if it is a file, what it says with all that it extends."""
    if request.experiment is None:
        swept = request.array is not None or request.grid
        held = request.run is not None and not swept and RunFolder(request.run, Trust.NEVER).is_run
        return (request.run.name if held and request.run else DEFAULT_EXPERIMENT), None
    name, table = read_experiment(request.experiment)
    if request.experiment in experiment_names():
        return name, None
    return name, tomli_w.dumps(table)


def _folder(request: SubmitRequest, settings: tuple[str, ...], sweeps: bool) -> Path:
    """A task's folder: what ``esd train`` would choose, or below ``--run``."""
    if request.run is not None and not sweeps:
        return request.run
    default = folder_of_request(
        TrainRequest(request.experiment, settings=_all_settings(request, settings))
    )
    return default if request.run is None else request.run / default.name


def _all_settings(request: SubmitRequest, settings: tuple[str, ...]) -> tuple[str, ...]:
    """Settings for a check on this machine, which may lack the GPU that the job will have."""
    both = (*request.settings, *settings)
    table: dict[str, Any] = {}
    if request.experiment is not None:
        table = read_experiment(request.experiment)[1]
    if apply_settings(table, both).get("device") in ("cuda", "auto"):
        return (*both, "device=cpu")
    return both


def _plan(request: SubmitRequest, run: Path, settings: tuple[str, ...], warn: Warn) -> Plan:
    """What ``esd train`` would do.

    Raises:
        UsageError: if it would refuse.
    """
    both = _all_settings(request, settings)
    return make_plan(
        TrainRequest(request.experiment, run, both, trust=request.trust),
        lambda text: None if text.startswith("from here on device") else warn(text),
    )


def _check_folders(tasks: Sequence[Task]) -> None:
    seen: dict[str, Task] = {}
    for task in tasks:
        other = seen.setdefault(task.run, task)
        if other is not task:
            raise UsageError(
                f"{task.run}: the tasks of {' '.join(other.settings)} and {' '.join(task.settings)} would use the "
                "same folder, because these settings are not part of the run's name. Submit them one by one, each "
                "with --run"
            )


def _check_buildable(configs: Sequence[Config], site: Site, warn: Warn) -> None:
    """Build what every task needs, once for each kind, as a training does at its start.

    Raises:
        UsageError: if one can't be built. A package that is missing here may be in the job's own environment.
    """
    own_environment = bool(site.image or site.venv or site.conda)
    layouts: dict[str, Layout] = {}
    missing: set[str] = set()
    for config in configs:
        table = to_table(config)
        kind = json.dumps(
            {key: table.get(key) for key in ("env", "policy", "objective", "format")}, sort_keys=True, default=str
        )  # fmt: skip
        try:
            if kind not in layouts:
                with contextlib.closing(made(config)) as problem:
                    layouts[kind] = problem.layout
            make_strategy(config, layouts[kind])
        except MissingPackageError as error:
            if not own_environment:
                raise
            if str(error) not in missing:
                missing.add(str(error))
                warn(
                    f"not checked on this machine: {error} (unless the job's environment provides it)"
                )


def _warn_of_devices(request: SubmitRequest, configs: Sequence[Config], warn: Warn) -> None:
    """Say what is a waste, or can't work."""
    ranks = request.nodes * request.tasks_per_node
    members = min(config.population for config in configs)
    if ranks > members:
        warn(f"{ranks} ranks for {members} members: {ranks - members} of them are idle")
    table: dict[str, Any] = {}
    with contextlib.suppress(UsageError):
        if request.experiment is not None:
            table = read_experiment(request.experiment)[1]
        device = apply_settings(table, request.settings).get("device")
        if device == "cuda" and request.gpus_per_node is None:
            warn("device = cuda, but the job requests no GPU; add --gpus-per-node N")


def _once(warn: Warn) -> Warn:
    """Say the same only once for all tasks."""
    said: set[str] = set()

    def say(text: str) -> None:
        if text not in said:
            said.add(text)
            warn(text)

    return say
