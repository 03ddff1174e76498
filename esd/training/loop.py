"""The loop: every rank evaluates its share, all exchange records, all make the same update, rank 0 commits."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esd.config.identity import identity
from esd.config.settings import Config
from esd.errors import RunError, UsageError
from esd.evolution.algorithm import Algorithm
from esd.evolution.records import Records, Status
from esd.evolution.reduction import center_return
from esd.evolution.state import RunState, make_strategy, start
from esd.mpi.comm import Communicator, agreement, raise_if_any_failed, sum_or_fail
from esd.mpi.team import Team
from esd.problems.base import Evaluator, Problem
from esd.problems.make import layout_and_h0, make_problem
from esd.run import checkpoint, journal
from esd.run.checkpoint import Checkpoint
from esd.run.folder import RunFolder
from esd.run.journal import JournalContents, JournalHeader
from esd.run.provenance import collect
from esd.training import canary
from esd.training.commit import Commit, GenerationReport, Reporter, Timing
from esd.training.node_state import NodeState, Step, UpdateFailedError
from esd.training.plan import Plan
from esd.training.stop import StopRequest


@dataclass(frozen=True)
class Ending:
    """How a training call ended.

    Attributes:
        state: the last state.
        reason: ``generations``, ``target_return``, ``signal`` or ``max_hours``.
    """

    state: RunState
    reason: str

    @property
    def finished(self) -> bool:
        """Whether the run is done, not just stopped."""
        return self.reason in ("generations", "target_return")


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
        state, header, contents = _prepare_state(comm, plan, problem, evaluator, algorithm)
        with agreement(comm, "sharing h"):
            memory = NodeState(team, algorithm, state)
            del state  # it was this rank's own; from here on there is the node's
            if contents is not None:
                _replay(memory, contents)
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
) -> tuple[RunState, JournalHeader, JournalContents | None]:
    """A state to go on from, the same on every rank, and the journal with what followed it."""
    config, folder = plan.config, RunFolder(plan.folder)
    with agreement(comm, "computing h_0"):
        h0 = problem.initial_parameters(config.seed)
        interface = problem.interface
        state = start(algorithm, h0, problem.observation_size)
        own_canary = evaluator.canary(h0, journal.version_of(plan.journal))
        if plan.start_from is not None:
            state = _start_from(plan.start_from, config, state, problem)
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
        contents = journal.decode(plan.journal, str(folder.journal_file))
        if not own_canary.agrees_with(contents.header.canary) and not config.run.allow_drift:
            raise UsageError(
                f"{folder.path}: this machine computes other bits than the one the run was started on (canary "
                f"{own_canary.cpu}, not {contents.header.canary}): compare versions with provenance.json, or accept it "
                "with --set run.allow_drift=true"
            )
        if plan.checkpoint is not None and plan.checkpoint.exists():
            state = folder.load_checkpoint(plan.checkpoint, config).state
        else:  # none yet, or no shared file system: the journal came from rank 0
            state = folder.initial_state(config, contents)
    return state, contents.header, contents


def _replay(memory: NodeState, contents: JournalContents) -> None:
    """Go on to where the journal ends; a failure is raised where it happened, for the others to hear of."""
    try:
        memory.replay(contents.entries)
    except UpdateFailedError as failure:
        if failure.reason is not None:
            raise failure.reason from None


def _start_from(path: Path, child: Config, state: RunState, problem: Problem) -> RunState:
    """Put the last h of another run in place of h_0.

    Raises:
        UsageError: if it is of another size, or its coordinates are other things.
    """
    parent = RunFolder(path)
    config = parent.config()
    h = parent.state_at(None, config, parent.journal(config)).h
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
        folder.reopen(plan.config, collect(ranks), plan.journal)
        return Commit.resume(folder, plan.config, contents, reporter)
    folder.create(plan.config, collect(ranks), plan.erase)
    if plan.start_from is not None:
        checkpoint.save(folder.initial_file, Checkpoint(header.identity, state))
    return Commit.begin(folder, plan.config, header, reporter)


@dataclass(frozen=True)
class _Votes:
    """What ranks say in the same message as their records.

    Attributes:
        signal: ranks that were asked to stop.
        time_is_up: ranks whose max_hours are over.
        timing: of the generation.
    """

    signal: int
    time_is_up: int
    timing: Timing


class Generations:
    """The generations of one call; iterating carries them out, one by one, and may be left after any.

    Every rank has to take the same number of steps.

    Attributes:
        ending: how it ended; None before that.
    """

    def __init__(
        self,
        team: Team,
        config: Config,
        problem: Problem,
        evaluator: Evaluator,
        memory: NodeState,
        stop: StopRequest,
        commit: Commit | None,
    ) -> None:
        """Take what ``prepared`` has built; ``commit`` is rank 0's."""
        self._team, self._comm = team, team.ranks
        self._config, self._problem = config, problem
        self._evaluator, self._memory = evaluator, memory
        self._stop, self._commit = stop, commit
        self.ending: Ending | None = None
        self._halted = False  # this node's update failed, and all will hear of it
        self._error: Exception | None = None  # told to the others at the next exchange
        self._time_is_up_at = time.monotonic() + 3600.0 * (config.run.max_hours or math.inf)

    def __iter__(self) -> Iterator[GenerationReport | None]:
        """Go on until there is a reason to end.

        Yields:
            What rank 0 has kept of the generation; None on the others.
        """
        while self.ending is None:
            state = self._memory.state
            generation = state.generation + self._halted  # where the other nodes are
            last = generation >= self._config.generations
            began = time.monotonic()
            records = self._empty_records(generation, last)
            self._evaluate_share(state, records)
            votes = self._exchange(generation, records, began)
            self._check_failures(generation, records)
            step = self._update(records)
            report = None
            if step is not None:
                self._check_update(step)
                report = self._keep(state, step, records, votes.timing)
            reason = self._reason_to_end(last, records, votes)
            if reason:  # on all ranks, also of a node whose update failed
                self.ending = self._end(Ending(self._memory.state, reason))
            yield report

    def _update(self, records: Records) -> Step | None:
        """Make the update with the other ranks of the node; None if one of them couldn't."""
        try:
            return self._memory.advance(records)
        except UpdateFailedError as failure:
            self._halted = True
            self._error = failure.reason
            return None

    def _empty_records(self, generation: int, last: bool) -> Records:
        """Room for the members, and in some generations (and after the last update) for the center."""
        run = self._config.run
        center = run.center_every and (last or generation % run.center_every == 0)
        return Records(
            0 if last else self._config.population,
            self._problem.center_episodes if center else 0,
            self._problem.observation_size,
            len(self._problem.variants),
        )

    def _evaluate_share(self, state: RunState, records: Records) -> None:
        """Fill this rank's rows. Whatever goes wrong is kept for the exchange, so that no rank waits in vain."""
        if self._error is None and not self._halted:
            try:
                rows = self._team.rows(state.generation, len(records.table))
                self._evaluator.fill(state, rows, records)
            except Exception as error:
                self._error = error

    def _exchange(self, generation: int, records: Records, began: float) -> _Votes:
        """One allreduce: everybody's records, exit codes and votes."""
        busy = time.monotonic() - began
        cells = records.table.size
        numbers = np.zeros(cells + 3, np.uint64)
        numbers[:cells] = records.table.reshape(-1)
        numbers[cells:] = (
            self._stop.requested,
            time.monotonic() >= self._time_is_up_at,
            int(busy * 1e6),
        )
        sum_or_fail(self._comm, numbers, self._error, f"the exchange of generation {generation}")
        records.table[...] = numbers[:cells].reshape(records.table.shape)
        signal, time_is_up, microseconds = (int(number) for number in numbers[cells:])
        timing = Timing(time.monotonic() - began, microseconds / 1e6, self._comm.size)
        return _Votes(signal, time_is_up, timing)

    def _check_failures(self, generation: int, records: Records) -> None:
        """End on all ranks if the records are not right, or too many members had no fitness."""
        failed = np.sum(records.rows_with(Status.NOT_FINITE) < records.members)
        error: RunError | None = None
        if not records.all_written_once:
            error = RunError(
                f"generation {generation}: the exchange of records is wrong, not every slot was written by exactly "
                "one rank; nothing of this generation was kept"
            )
        elif failed > self._config.run.max_failed_share * records.members:
            fitness = "a NaN or infinite fitness"
            advice = (
                "The policy's outputs or the environment's rewards overflow: look at policy.normalization, es.sigma "
                "and es.learning_rate"
            )
            if self._config.objective.named:
                fitness = "no fitness"
                advice = (
                    f"Calls of {self._config.objective.function} failed, the first one as reported above: fix it, "
                    "give its parameters bounds (low, high), or lower es.sigma"
                )
            error = RunError(
                f"generation {generation}: {failed} of {records.members} members have {fitness}"
                f"{_failing_variants(self._problem.variants, records)}, more than run.max_failed_share = "
                f"{self._config.run.max_failed_share} allows. {advice}"
            )
        if error is not None:  # every rank has come to the same conclusion
            raise_if_any_failed(self._comm.rank, np.ones(self._comm.size, np.uint64), error)

    def _check_update(self, step: Step) -> None:
        """End on all ranks before an h that is not finite is kept."""
        if not math.isfinite(step.h_norm):
            error = RunError(
                f"generation {step.state.generation - 1}: the update made h infinite or NaN; nothing of it was kept. "
                "Take a shaping other than raw, or a smaller es.learning_rate"
            )
            raise_if_any_failed(self._comm.rank, np.ones(self._comm.size, np.uint64), error)

    def _keep(
        self, state: RunState, step: Step, records: Records, timing: Timing
    ) -> GenerationReport | None:
        """Rank 0 commits; if it can't, the others hear of it in the next exchange."""
        if self._commit is not None:
            try:
                return self._commit.generation(state, step, records, timing)
            except Exception as error:
                self._error = error
        return None

    def _reason_to_end(self, last: bool, records: Records, votes: _Votes) -> str:
        """Why this generation is the last one of this call; empty if it isn't."""
        target = self._config.run.target_return
        reached = (
            target is not None
            and records.center_episodes
            and center_return(self._config.variants.reduce, records.center_returns)
            >= self._config.sign * target
        )
        reasons = {
            "generations": last,
            "target_return": reached,
            "signal": votes.signal,
            "max_hours": votes.time_is_up,
        }
        return next((reason for reason, holds in reasons.items() if holds), "")

    def _end(self, ending: Ending) -> Ending:
        """Keep the last state; on all ranks or on none."""
        with agreement(self._comm, "ending the run"):
            if self._error is not None:
                raise self._error
            if self._commit is not None and not self._halted:
                self._commit.end(ending.state, ending.reason, ending.finished)
        return ending


def _failing_variants(names: Sequence[str], records: Records) -> str:
    """On which variants members had no finite return, and how many; empty where there is nothing to choose from."""
    counts = np.count_nonzero(~np.isfinite(records.returns), axis=0)
    failing = [
        f"{name!r} ({count})" for name, count in zip(names, counts, strict=True) if name and count
    ]
    return f" (on {', '.join(failing)})" if failing else ""
