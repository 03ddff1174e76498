"""Training from Python: ``esd.train``, ``esd.resume`` and ``esd.generations``."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

from esd.api.ranks import failures_raised, rank_called_otherwise, ranks
from esd.api.run import Run
from esd.api.settings import as_texts, by_dotted_name
from esd.commands.console import Quiet, Reporter, reporter_for, show_run
from esd.errors import RunError, UsageError
from esd.evolution.global_generators import kept_generators
from esd.mpi.comm import Communicator, agreement
from esd.mpi.launch import launched
from esd.run.folder import RunFolder
from esd.training.plan import Plan, TrainRequest, make_plan
from esd.training.prepare import prepared
from esd.training.process_state import kept_process_state
from esd.training.reports import GenerationReport
from esd.training.stop import StoppedAtStartError, StopRequest
from esd.training.survivors import surviving

PYTHONS_OWN = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Settings = Mapping[str, Any]


def train(
    experiment: str | PathLike[str] | None = None,
    *,
    run: str | PathLike[str] | None = None,
    seed: int | None = None,
    generations: int | None = None,
    settings: Settings | None = None,
    start_from: str | PathLike[str] | None = None,
    trust: bool = False,
    verbose: bool = True,
) -> Run:
    """Train, or resume the run in the folder, like the command ``esd train``.

    Under mpirun every rank calls it with the same arguments. A signal stops the run after the current generation; the
    same call resumes it. Ctrl-C, SIGTERM and SIGHUP then have their usual effect in Python (Ctrl-C raises
    ``KeyboardInterrupt``). After SIGUSR1 and SIGUSR2 the unfinished run is returned.

    Args:
        experiment: name of a shipped experiment (``esd list experiments``) or path of a TOML file. Without one: the
            settings of the run in the folder or of ``start_from``, otherwise "cartpole".
        run: the run's folder. Default: ``runs/<experiment>-s<seed>``, with the changed ``settings`` in the name.
        seed: The setting "seed".
        generations: The setting "generations".
        settings: other settings, nested or by dotted name: ``{"es.sigma": 0.05}`` or ``{"es": {"sigma": 0.05}}``.
        start_from: Folder of a run. The new run starts from its last h.
        trust: Allow the code of a run that was not created here, such as a copy (docs/security.md).
        verbose: print progress on rank 0.

    Returns:
        The run, finished or not (``Run.finished``).

    Raises:
        UsageError: if an argument or a setting is wrong; nothing was written.
        RunError: if the run can't continue: too many members failed, or a file can't be written.
        KeyboardInterrupt: after Ctrl-C; all completed generations are saved.
    """
    with failures_raised(), kept_generators():
        comm = ranks()

        def training() -> Run:
            asked = (
                experiment,
                run,
                _texts(settings, seed, generations),
                start_from,
                trust,
                verbose,
            )
            return _train(comm, *_plan(comm, *asked))

        return surviving(comm, training)


def _train(comm: Communicator, plan: Plan, reporter: Reporter) -> Run:
    """Carry out a plan; the run, finished or not."""
    if plan.finished:
        reporter.note(plan.finished)
        return Run(plan.folder, trust=True)  # or there would be no plan
    folder = RunFolder(plan.folder)
    stop = StopRequest()
    try:
        with stop.listening():
            _carry_out(comm, plan, stop, reporter)
    except StoppedAtStartError:
        if not folder.is_run and stop.number not in PYTHONS_OWN:
            raise RunError(
                f"{plan.folder}: stopped by a signal before training; nothing was written"
            ) from None
    finally:
        reporter.close()
    if stop.number in PYTHONS_OWN:  # everything is kept; now it does what it does in any program
        signal.raise_signal(stop.number)
    return Run(plan.folder, trust=True)


def resume(
    run: str | PathLike[str],
    *,
    settings: Settings | None = None,
    trust: bool = False,
    verbose: bool = True,
) -> Run:
    """Resume a run.

    Args:
        run: the run's folder.
        settings: Settings that can change on resume, such as ``{"generations": 200}``.
        trust: see ``train``.
        verbose: print progress on rank 0.

    Returns:
        The run.

    Raises:
        UsageError: if there is no run in the folder, or a setting can't change.
        RunError: see ``train``.
    """
    Run(run)  # refuses a folder without a run, which ``train`` would begin one in
    return train(run=run, settings=settings, trust=trust, verbose=verbose)


def generations(
    experiment: str | PathLike[str] | None = None,
    *,
    run: str | PathLike[str] | None = None,
    seed: int | None = None,
    generations: int | None = None,
    settings: Settings | None = None,
    start_from: str | PathLike[str] | None = None,
    trust: bool = False,
    verbose: bool = False,
) -> Iterator[GenerationReport]:
    """Train one generation per iteration. After leaving the loop, the run can be resumed.

    ::

        for generation in esd.generations("cartpole", run="runs/a"):
            print(generation.generation, generation.center_return)
            if generation.env_steps > 1_000_000:
                break

    Under mpirun every rank iterates and gets the same numbers. All ranks have to leave the loop after the same
    generation.

    Args:
        experiment: see ``train``.
        run: see ``train``.
        seed: see ``train``.
        generations: see ``train``.
        settings: see ``train``.
        start_from: see ``train``.
        trust: see ``train``.
        verbose: print progress on rank 0.

    Yields:
        The metrics of each generation, after it was written to the run's folder. Nothing if the run is finished.

    Raises:
        UsageError: see ``train``.
        RunError: see ``train``.
    """
    with failures_raised(), kept_generators() as kept:
        comm = ranks()
        plan, reporter = _plan(
            comm, experiment, run, _texts(settings, seed, generations), start_from, trust, verbose
        )
        if plan.finished:
            reporter.note(plan.finished)
            return
        try:
            with prepared(comm, plan, StopRequest(), reporter) as carried_out:
                for report in carried_out:
                    text = comm.broadcast(_encoded(report), "the generation's report")
                    if not text:  # an update failed, and the next exchange says so on all ranks
                        continue
                    kept.put_back()
                    try:
                        yield GenerationReport(**json.loads(text))
                    except GeneratorExit:
                        break
                    finally:
                        kept.remember()
        finally:
            reporter.close()


def _encoded(report: GenerationReport | None) -> bytes:
    """A report for the other ranks: a handful of numbers."""
    return json.dumps(asdict(report)).encode() if report is not None else b""


def _plan(
    comm: Communicator,
    experiment: str | PathLike[str] | None,
    run: str | PathLike[str] | None,
    settings: list[str],
    start_from: str | PathLike[str] | None,
    trust: bool,
    verbose: bool,
) -> tuple[Plan, Reporter]:
    """What to do, the same on all ranks, and who reports it."""
    reporter = reporter_for(comm, False, launched()) if verbose else Quiet()
    encoded = b""
    asked = repr((str(experiment), str(run), settings, str(start_from), trust)).encode()
    other = rank_called_otherwise(comm, asked)
    if other is not None:
        raise UsageError(
            f"ranks 0 and {other} were called with different arguments; every rank has to call it with the same "
            "experiment, run, seed, generations, settings, start_from and trust"
        )
    with agreement(comm, "planning"), kept_process_state():
        if comm.rank == 0:
            request = TrainRequest(
                None if experiment is None else str(experiment),
                _path("run", run),
                settings,
                start_from=_path("start_from", start_from),
                trust=trust,
            )
            encoded = make_plan(request, reporter.note).encode()
    plan = Plan.decode(comm.broadcast(encoded, "planning"))
    show_run(reporter, plan.folder)
    return plan, reporter


def _path(name: str, value: str | PathLike[str] | None) -> Path | None:
    """A folder that an argument names."""
    try:
        return None if value is None else Path(value)
    except TypeError as error:
        raise UsageError(f"{name} = {value!r}: expected the path of a folder") from error


def _carry_out(comm: Communicator, plan: Plan, stop: StopRequest, reporter: Reporter) -> None:
    with prepared(comm, plan, stop, reporter) as generations:
        for _ in generations:
            pass


def _texts(settings: Settings | None, seed: int | None, generations: int | None) -> list[str]:
    """The settings of a call as the command line has them."""
    flat = by_dotted_name(settings)
    for key, value in (("seed", seed), ("generations", generations)):
        if value is None:
            continue
        if flat.get(key, value) != value:
            raise UsageError(
                f"{key} = {value!r}: settings has {key} = {flat[key]!r}; give one of them"
            )
        flat[key] = value
    return as_texts(flat)
