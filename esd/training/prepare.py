"""What the loop needs, built once per call: the problem, the state to go on from, node memory, the run's folder."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from esd.config.identity import identity
from esd.config.settings import Config
from esd.errors import UsageError
from esd.evolution.algorithm import Algorithm
from esd.evolution.state import RunState, make_strategy, start
from esd.mpi.comm import Communicator, agreement
from esd.mpi.team import Team
from esd.problems.base import Evaluator, Problem
from esd.problems.make import layout_and_h0, make_problem
from esd.run import checkpoint, journal, recovery
from esd.run.checkpoint import Checkpoint
from esd.run.folder import RunFolder
from esd.run.journal import JournalContents, JournalHeader
from esd.run.provenance import collect
from esd.run.recovery import Source
from esd.training import canary
from esd.training.commit import Commit, Reporter
from esd.training.loop import Ending, Generations
from esd.training.node_state import NodeState
from esd.training.plan import Plan
from esd.training.replay import catch_up
from esd.training.stop import StopRequest


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
    config = plan.config
    comm.deadline_seconds = 60.0 * config.run.deadline_minutes
    with Team(comm) as team, contextlib.ExitStack() as closing:
        with agreement(comm, "building the problem"):
            algorithm = make_strategy(config)
            problem = closing.enter_context(contextlib.closing(make_problem(config)))
            evaluator = problem.evaluator(algorithm, comm.size, team.node.rank)
            closing.callback(evaluator.close)
        state, header, contents = _prepare_state(
            comm, plan, problem, evaluator, algorithm, reporter
        )
        with agreement(comm, "sharing h"):
            memory = NodeState(team, algorithm, state)
            del state  # it was this rank's own; from here on there is the node's
        if plan.resumes:
            catch_up(comm, memory, contents, header.variants)
        commit: Commit | None = None
        with agreement(comm, "opening the run's folder"):
            if comm.rank == 0:
                commit = _open_folder(plan, memory.state, header, contents, comm.size, reporter)
                closing.callback(commit.close)
        yield Generations(team, config, problem, evaluator, memory, stop, commit)


def _prepare_state(
    comm: Communicator,
    plan: Plan,
    problem: Problem,
    evaluator: Evaluator,
    algorithm: Algorithm,
    reporter: Reporter,
) -> tuple[RunState, JournalHeader, JournalContents | None]:
    """A state to go on from, and on rank 0 the journal with what followed it."""
    config, folder = plan.config, RunFolder(plan.folder)
    with agreement(comm, "computing h_0"):
        h0 = problem.initial_parameters(config.seed)
        interface = problem.interface
        state = start(algorithm, h0, problem.observation_size)
        own_canary = evaluator.canary(h0, journal.version_of(plan.journal))
        if plan.start_from is not None and plan.source is not None:
            state = _start_from(plan.start_from, plan.source, config, state, problem)
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
                f"{folder.path}: this machine computes other bits than the one the run was started on (canary "
                f"{own_canary.cpu}, not {header.canary}): compare versions with provenance.json, or accept it "
                "with --set run.allow_drift=true"
            )
        found = None
        if plan.checkpoint is not None and plan.checkpoint.exists():
            found = folder.load_checkpoint(plan.checkpoint, config).state
            unlike = found.unlike(state)
            if unlike:
                reporter.note(
                    f"{plan.checkpoint}: {unlike}; passed over, its state is rebuilt from the journal"
                )
                found = None
        if found is None:  # none yet, or no shared file system: the journal comes from rank 0
            found = folder.initial_state(config, header)
    return found, header, contents


def _start_from(
    path: Path, source: Source, child: Config, state: RunState, problem: Problem
) -> RunState:
    """Put the last h of another run in place of h_0.

    Raises:
        UsageError: if it is of another size, or its coordinates are other things.
    """
    parent = RunFolder(path)
    config = parent.config()
    h = recovery.load(parent, config, source).h
    if child.objective.named != config.objective.named:
        kinds = {True: "an objective", False: "a policy"}
        raise UsageError(
            f"--from {path}: its h belongs to {kinds[config.objective.named]}, this run evolves "
            f"{kinds[child.objective.named]}"
        )
    what, keys = "policy", "policy.kind, rule, hidden and order"
    if child.objective.named:
        what, keys = "objective", "objective.parameters"
    if h.shape != state.h.shape:
        raise UsageError(
            f"--from {path}: its h has {h.size} coordinates, this {what} has {state.h.size}; without an experiment "
            f"the new run takes the settings of {parent.config_file}"
        )
    # the same size may still be another network: order = "F", other hidden layers
    layout = problem.layout
    theirs, _ = layout_and_h0(config, problem.interface)
    if (dict(theirs.shapes), theirs.order) != (dict(layout.shapes), layout.order):
        raise UsageError(
            f"--from {path}: its h was evolved for another {'network' if what == 'policy' else what}, whose "
            f"coordinates mean other things: compare {keys} with {parent.config_file}"
        )
    if child.objective.meanings() != config.objective.meanings():
        raise UsageError(
            f"--from {path}: its parameters are transformed to other bounds, so the same h means other values: "
            f"compare low, high and bounds in {keys} with {parent.config_file}"
        )
    return RunState(dataclasses.replace(state.evolution, h=h), state.observations)


def _open_folder(
    plan: Plan,
    state: RunState,
    header: JournalHeader,
    contents: JournalContents | None,
    ranks: int,
    reporter: Reporter,
) -> Commit:
    """Rank 0: make the run's folder, or make an old one ready to be gone on with."""
    folder = RunFolder(plan.folder)
    if contents is not None:
        size = contents.good_bytes + contents.torn_bytes
        folder.reopen(plan.config, collect(ranks), size)
        return Commit.resume(folder, plan.config, contents, reporter)
    folder.create(plan.config, collect(ranks), plan.erase)
    if plan.start_from is not None:
        checkpoint.save(folder.initial_file, Checkpoint(header.identity, state))
    return Commit.begin(folder, plan.config, header, reporter)
