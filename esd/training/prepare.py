"""What the loop needs, built once per call: the problem, the state to go on from, node memory, the run's folder."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from esd.config.identity import identity, settings_of_h
from esd.config.settings import Config
from esd.errors import RunError, UsageError
from esd.evolution.algorithm import Algorithm
from esd.evolution.low_rank import notes_of
from esd.evolution.repeatable import check_repeatable
from esd.evolution.state import RunState, make_strategy, start
from esd.loggers.all import require
from esd.mpi import placement
from esd.mpi.comm import Communicator, agreement, gather
from esd.mpi.team import Team
from esd.policies.registry import with_own_defaults
from esd.problems.base import Evaluator, Problem
from esd.problems.make import layout_and_h0
from esd.run import checkpoint, journal, recovery
from esd.run.checkpoint import Checkpoint
from esd.run.files import absolute
from esd.run.folder import RunFolder
from esd.run.journal import JournalContents, JournalHeader
from esd.run.provenance import MOST_LISTED, ORIGIN, changed_modules, collect, read, what_changed
from esd.run.recovery import Source
from esd.run.run_file import open_run
from esd.run.training_folder import TrainingFolder
from esd.run.trust import Trust
from esd.run.user_modules import outdated
from esd.training import canary, room
from esd.training.commit import Commit
from esd.training.finished_rows import FinishedRows
from esd.training.loop import Ending, Generations
from esd.training.merged_rules import check_shared, merged_h, merges
from esd.training.node_state import NodeState
from esd.training.perturbations import check_perturbations
from esd.training.plan import Plan
from esd.training.process_state import kept_process_state
from esd.training.replay import catch_up
from esd.training.reports import News, Reporter
from esd.training.same_state import SameState
from esd.training.stop import StoppedAtStartError, StopRequest
from esd.training.survivors import when_a_rank_is_lost
from esd.training.trusted import remember_run


def train(comm: Communicator, plan: Plan, stop: StopRequest, reporter: Reporter) -> Ending:
    """Carry out a plan, on every rank alike.

    Raises:
        JobFailedError: on all ranks, if any failed.
    """
    with prepared(comm, plan, stop, reporter) as generations:
        for _ in generations:
            pass
    assert generations.ending is not None
    return generations.ending


@contextlib.contextmanager
def prepared(
    comm: Communicator, plan: Plan, stop: StopRequest, reporter: Reporter
) -> Iterator[Generations]:
    """Everything that a plan needs, built once, and its generations; what was opened is closed with the block.

    Raises:
        JobFailedError: on all ranks, if any failed.
    """
    comm.deadline_seconds = 60.0 * plan.config.run.deadline_minutes
    comm.silence_seconds = plan.config.run.silence_seconds
    with agreement(comm, "naming the run's folder"):  # before anything of the user's runs
        folder = TrainingFolder(plan.folder, Trust.YES)  # or there would be no plan
        parent = None if plan.start_from is None else open_run(plan.start_from, Trust.YES)
    with kept_process_state(), Team(comm) as team, contextlib.ExitStack() as closing:
        with agreement(comm, "building the problem"), kept_process_state():
            if not plan.resumes:
                plan = dataclasses.replace(plan, config=with_own_defaults(plan.config))
            config = plan.config
            problem = closing.enter_context(contextlib.closing(room.made(config)))
            algorithm = make_strategy(config, problem.layout)
            if config.format > 1 and not config.run.allow_drift:
                check_repeatable(config, algorithm, parts=not plan.resumes)
            if team.node.rank == 0:
                room.check_memory(config, problem, algorithm, comm.size, team.node.size)
            if comm.rank == 0:
                require(config.run.loggers)
                room.check_disk(config, problem, algorithm, folder, reporter)
            evaluator = problem.evaluator(algorithm, comm.size, team.node.rank)
            closing.callback(evaluator.close)
            for note in (*problem.notes, *notes_of(algorithm.noise)):
                reporter.note(News(note))
            place = placement.own_place(config.device == "cuda", team.node.rank)
        nodes = placement.nodes_of(comm, team.node, place)
        idle = placement.idle_ranks(comm.size, config.population)
        for note in (*idle, *placement.notes(comm, nodes)):
            reporter.note(note)
        _go_on_unless_stopped(comm, stop)
        with kept_process_state():
            state, header, contents = _prepare_state(
                comm, plan, folder, parent, problem, evaluator, algorithm, reporter
            )
        _go_on_unless_stopped(comm, stop)
        with agreement(comm, "sharing h"):
            memory = NodeState(team, algorithm, state)
            del state  # it was this rank's own; from here on there is the node's
            if not plan.resumes and comm.rank == 0:
                check_perturbations(config, algorithm, memory.state.evolution, reporter.note)
        if plan.resumes:
            catch_up(comm, memory, contents, header.variants)
        _go_on_unless_stopped(comm, stop)
        commit: Commit | None = None
        with agreement(comm, "opening the run's folder"):
            if comm.rank == 0:
                closing.callback(folder.unlock)  # also if what follows the lock fails
                commit = _open_folder(
                    plan, folder, memory.state, header, contents, comm.size, problem.notes, reporter
                )
                closing.callback(commit.close)
        every = config.run.compare_nodes_every
        same_state = SameState(team, folder, header.identity, every)
        finished_rows = FinishedRows(team, folder, header.identity, config, plan.resumes)
        closing.callback(finished_rows.close)
        closing.callback(stop.keep_in, None)

        def take_over() -> Commit:
            closing.callback(folder.unlock)
            opened = _take_over(folder, config, reporter)
            closing.callback(opened.close)
            return opened

        recover = when_a_rank_is_lost(take_over, reporter)
        yield Generations(
            team,
            config,
            problem,
            evaluator,
            memory,
            same_state,
            finished_rows,
            stop,
            commit,
            recover,
            plan.ended,
        )


def _go_on_unless_stopped(comm: Communicator, stop: StopRequest) -> None:
    """A safe point of the start: nothing was written yet.

    Raises:
        StoppedAtStartError: on all ranks, if one was asked to stop.
    """
    stop.renew()  # the user's code has run
    if gather(comm, int(stop.requested), "asking whether to stop").any():
        raise StoppedAtStartError


def _prepare_state(
    comm: Communicator,
    plan: Plan,
    folder: RunFolder,
    parent: RunFolder | None,
    problem: Problem,
    evaluator: Evaluator,
    algorithm: Algorithm,
    reporter: Reporter,
) -> tuple[RunState, JournalHeader, JournalContents | None]:
    """A state to go on from, and on rank 0 the journal with what followed it."""
    config = plan.config
    with agreement(comm, "computing h_0", evaluates=True):
        h0 = problem.initial_parameters(config.seed)
        interface = problem.interface
        state = start(algorithm, h0, problem.observation_size)
        own_canary = evaluator.canary(h0, journal.version_of(plan.journal))
        if parent is not None and plan.source is not None:
            state = _start_from(parent, plan.source, config, state, problem)
        header = JournalHeader(
            identity(config),
            state.h_sha256(),
            own_canary.cpu,
            interface.observation_size,
            interface.action_size,
            interface.bounded,
            len(problem.variants),
        )
    with agreement(comm, "comparing canaries"):
        canary.compare(comm, own_canary, config.run.allow_drift)
    if not plan.resumes:
        return state, header, None
    with agreement(comm, "resuming"):
        header = journal.decode_head(plan.journal, folder.journal_file)
        contents = folder.journal(config, verify=False) if comm.rank == 0 else None
        if not own_canary.agrees_with(header.canary) and not config.run.allow_drift:
            raise UsageError(
                f"{folder.path}: this machine computes other bits than the machine on which the run was started "
                f"(canary {own_canary.cpu}, not {header.canary}): {_what_changed(folder, config, comm)}. Restore "
                "what has changed, or accept it with --set run.allow_drift=true"
            )
        found = None
        if plan.checkpoint is not None and plan.checkpoint.exists():
            found = folder.load_checkpoint(plan.checkpoint, config).state
            unlike = found.unlike(state)
            if unlike:
                reporter.note(
                    f"{plan.checkpoint}: {unlike}; ignored, its state is rebuilt from the journal"
                )
                found = None
            elif state.h_sha256() != header.h0_sha256 and not folder.initial_file.exists():
                reporter.note(
                    f"{folder.initial_file}: missing; the run continues from its checkpoint, but h_0 came from this "
                    "file: restore it from a copy, otherwise no earlier h can be rebuilt"
                )
        if found is None:  # none yet, or no shared file system: the journal comes from rank 0
            found = folder.initial_state(config, header)
    return found, header, contents


def _what_changed(folder: RunFolder, config: Config, comm: Communicator) -> str:
    """What differs from when the run was started; rank 0 reports it."""
    return (
        what_changed(folder.provenance_file, collect(comm.size, config)) if comm.rank == 0 else ""
    )


def _start_from(
    parent: RunFolder, source: Source, child: Config, state: RunState, problem: Problem
) -> RunState:
    """Put the last h of another run in place of h_0, with the observation statistics that it was evolved with.

    Raises:
        UsageError: if it is of another size, its coordinates are other things, or only one of the two runs normalizes
            observations: the same h would act otherwise.
    """
    path, config = parent.path, parent.config()
    last = recovery.load(parent, config, source)
    h = last.h
    if child.objective.named != config.objective.named:
        kinds = {True: "an objective", False: "a policy"}
        raise UsageError(
            f"--from {path}: its h belongs to {kinds[config.objective.named]}, this run evolves "
            f"{kinds[child.objective.named]}"
        )
    check_shared(child, parent, problem.interface)
    merging = merges(child, config)
    if merging:
        h = merged_h(child, config, h, problem.interface)
    what, keys = "policy", "policy.kind, rule, hidden and order"
    if child.objective.named:
        what, keys = "objective", "objective.parameters"
    if h.shape != state.h.shape:
        raise UsageError(
            f"--from {path}: its h has {h.size} coordinates, this {what} has {state.h.size}; without an experiment "
            f"the new run uses the settings of {parent.config_file}"
        )
    # the same size may still be another network: order = "F", other hidden layers
    layout = problem.layout
    theirs, _ = layout_and_h0(config, problem.interface)
    if not merging and (dict(theirs.shapes), theirs.order) != (dict(layout.shapes), layout.order):
        raise UsageError(
            f"--from {path}: its h was evolved for another {'network' if what == 'policy' else what}, whose "
            f"coordinates have another meaning: compare {keys} with {parent.config_file}"
        )
    if child.objective.meanings() != config.objective.meanings():
        raise UsageError(
            f"--from {path}: its parameters are transformed to other bounds, so the same h stands for other values: "
            f"compare low, high and bounds in {keys} with {parent.config_file}"
        )
    if child.env.normalize_observations != config.env.normalize_observations:
        theirs_too = str(config.env.normalize_observations).lower()
        raise UsageError(
            f"--from {path}: its h was evolved with env.normalize_observations = {theirs_too}, and does not work on "
            f"observations that are {'not ' if theirs_too == 'true' else ''}normalized; add --set "
            f"env.normalize_observations={theirs_too}"
        )
    if last.observations.size != state.observations.size:
        raise UsageError(
            f"--from {path}: it normalizes observations of {last.observations.size} numbers, this environment has "
            f"{state.observations.size}"
        )
    return RunState(dataclasses.replace(state.evolution, h=h), last.observations)


def _open_folder(
    plan: Plan,
    folder: TrainingFolder,
    state: RunState,
    header: JournalHeader,
    contents: JournalContents | None,
    ranks: int,
    notes: list[str],
    reporter: Reporter,
) -> Commit:
    """Rank 0: make the run's folder, or make an old one ready to be gone on with."""
    call = {**collect(ranks, plan.config), "evaluation": notes}
    if old := outdated(call["modules"]):
        reporter.note(
            f"{', '.join(old[:MOST_LISTED])}: changed since this process imported it, and the old code is trained; to "
            "train the new code, restart Python or reload the module (importlib.reload)"
        )
    if contents is not None:
        _note_changes(folder, call, reporter)
        size = contents.good_bytes + contents.torn_bytes
        remember_run(folder, folder.journal_file, plan.config, reporter.note)
        folder.reopen(plan.config, call, size)
        _note_weak_lock(folder, reporter)
        return Commit.resume(folder, plan.config, contents, reporter)
    if plan.unbegun and journal.scan(folder.journal_file, verify=False).positions:
        raise UsageError(
            f"{folder.path}: another esd process trained in this folder in the meantime; run the command again"
        )
    if plan.start_from is not None:
        call[ORIGIN] = str(absolute(plan.start_from))
    folder.create(plan.config, {**call, "settings_of_h": settings_of_h(plan.config)}, plan.erase)
    _note_weak_lock(folder, reporter)
    if plan.start_from is not None:
        checkpoint.save(folder.initial_file, Checkpoint(header.identity, state))
    return Commit.begin(folder, plan.config, header, reporter)


def _note_weak_lock(folder: TrainingFolder, reporter: Reporter) -> None:
    if folder.lock_weakness:
        reporter.note(folder.lock_weakness)


def _take_over(folder: TrainingFolder, config: Config, reporter: Reporter) -> Commit:
    """A new rank 0: go on with the folder of a run whose rank 0 was lost.

    Raises:
        RunError: if that isn't possible.
    """
    try:
        folder.take_over()
        return Commit.resume(folder, config, folder.journal(config, verify=False), reporter)
    except UsageError as error:
        raise RunError(
            f"{error} (rank 0 was lost, and another rank took over the run's folder)"
        ) from error


def _note_changes(folder: RunFolder, call: dict[str, Any], reporter: Reporter) -> None:
    """Say which of the user's modules have changed since the call before, although the canary is the same."""
    try:
        before = read(folder.provenance_file)
    except UsageError:
        return
    changed = changed_modules(before[-1], call, "the last call")[:MOST_LISTED] if before else []
    if changed:
        reporter.note(
            f"{'; '.join(changed)}. The results at the start are the same; if later results differ, the run can't "
            "be reproduced"
        )
