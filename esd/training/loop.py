"""The loop: every rank evaluates its share, all exchange records, all make the same update, rank 0 commits."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from esd.config.settings import Config
from esd.episodes.environments import OF_ENVIRONMENT, OF_OUTPUTS
from esd.errors import RunError
from esd.evolution.records import Records, Status
from esd.evolution.state import RunState
from esd.mpi.comm import RankLostError, agreement, in_time, raise_if_any_failed, sum_or_fail
from esd.mpi.team import Team
from esd.problems.base import Evaluator, Problem
from esd.run.metrics import reaches_target
from esd.training.commit import Commit
from esd.training.diagnosis import Finding
from esd.training.finished_rows import FinishedRows
from esd.training.node_state import NodeState, Step, UpdateFailedError
from esd.training.process_state import kept_process_state
from esd.training.reports import GenerationReport, Timing
from esd.training.same_state import SameState
from esd.training.stop import StopRequest
from esd.training.suspects import ToDo


@dataclass(frozen=True)
class Ending:
    """How a training call ended.

    Attributes:
        state: the last state.
        reason: ``generations``, ``target_return``, ``signal`` or ``max_hours``.
        findings: what went wrong all the same; on rank 0 only.
    """

    state: RunState
    reason: str
    findings: tuple[Finding, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether the run is done, not just stopped."""
        return self.reason in ("generations", "target_return")


@dataclass(frozen=True)
class Votes:
    """What ranks say in the same message as their records.

    Attributes:
        signal: ranks that were asked to stop.
        time_is_up: ranks whose max_hours are over.
        timing: of the generation.
    """

    signal: int
    time_is_up: int
    timing: Timing


@dataclass
class Work:
    """What this rank knows of a generation's records.

    Attributes:
        generation: t.
        own: the rows that it has evaluated itself.
        to_do: those that nobody has; all, unless ranks that were lost have left some.
        begun: its rows are kept on disk as they are finished.
        whole: all rows, once they were exchanged.
        kept: keeps them on rank 0, once the update is made.
    """

    generation: int
    own: Records
    to_do: ToDo
    begun: bool = False
    whole: Records | None = None
    kept: Callable[[Commit], GenerationReport | None] | None = None


class Generations:
    """The generations of one call; iterating carries them out, one by one, and may be left after any.

    Every rank has to take the same number of steps.

    When a rank is lost where that can be survived, the others go on with the same generation (``survivors``).

    Attributes:
        ending: how it ended; None before that.
        memory: the state, in the node's memory.
        work: on the generation under way.
        last: the same of the one before; None in the first.
        reason: why this call ends after ``memory.state``; empty if it doesn't.
        commit: of rank 0; None on the others.
        error: what this rank reports to the others at the next exchange.
        halted: this node's update failed, and all will hear of it.
    """

    def __init__(
        self,
        team: Team,
        config: Config,
        problem: Problem,
        evaluator: Evaluator,
        memory: NodeState,
        same_state: SameState,
        finished_rows: FinishedRows,
        stop: StopRequest,
        commit: Commit | None,
        recover: Callable[[Generations, RankLostError], None],
        reason: str = "",
    ) -> None:
        """Take what ``prepared`` has built.

        ``commit`` is rank 0's, ``recover`` what to do when a rank is lost, ``reason`` is ``Plan.ended``.
        """
        self.team, self._comm = team, team.ranks
        self._config, self._problem = config, problem
        self._evaluator, self.memory = evaluator, memory
        self._same_state, self.finished_rows = same_state, finished_rows
        self._stop, self.commit = stop, commit
        self._recover = recover
        self.ending: Ending | None = None
        self.work: Work | None = None
        self.last: Work | None = None
        self.reason = reason
        self.halted = False
        self.error: Exception | None = None
        self._time_is_up_at = time.monotonic() + 3600.0 * (config.run.max_hours or math.inf)

    def __iter__(self) -> Iterator[GenerationReport | None]:
        """Go on until there is a reason to end.

        Yields:
            What rank 0 has kept of the generation; None on the others.
        """
        while self.ending is None:
            try:
                report = self._generation()
            except RankLostError as loss:
                self._recover(self, loss)
                continue
            yield report

    def _generation(self) -> GenerationReport | None:
        """Carry out one generation, or what a lost rank has left of it."""
        if self.reason:  # all that was left is to end
            self.ending = self._end()
            return None
        state = self.memory.state
        generation = state.generation + self.halted  # where the other nodes are
        if self.work is None or self.work.generation != generation:
            self.work = self.empty_work(generation)
        work, began = self.work, time.monotonic()
        self._same_state.check(generation, None if self.halted else state)
        self._evaluate_share(state, work)
        votes = self._exchange(work, began)
        with in_time(self._comm, f"the update of generation {generation}"):
            report = self.finish(votes)
        if self.reason:  # on all ranks, also of a node whose update failed
            self.ending = self._end()
        return report

    def finish(self, votes: Votes) -> GenerationReport | None:
        """Make the update of a generation whose records are whole, keep it, and see whether it is the last."""
        work, state = self.work, self.memory.state
        assert work is not None and work.whole is not None  # noqa: PT018
        records = work.whole
        self._check_failures(work.generation, records)
        step = self._update(records)
        report = None
        self.reason = self.reason or self._reason_to_end(work.generation, records, votes)
        self.last = work
        if step is not None:
            self._check_update(step)
            work.kept = lambda commit: commit.generation(state, step, records, votes.timing)
            report = self._keep(work)
            self.finished_rows.generation_is_kept()
        return report

    def _update(self, records: Records) -> Step | None:
        """Make the update with the other ranks of the node; None if one of them couldn't."""
        try:
            return self.memory.advance(records)
        except UpdateFailedError as failure:
            self.halted = True
            self.error = failure.reason
            return None

    def empty_work(self, generation: int) -> Work:
        """Room for the members, and in some generations (and after the last update) for the center."""
        run, last = self._config.run, generation >= self._config.generations
        center = run.center_every and (last or generation % run.center_every == 0)
        records = Records(
            0 if last else self._config.population,
            self._problem.center_episodes if center else 0,
            self._problem.observation_size,
            len(self._problem.variants),
        )
        return Work(generation, records, ToDo(list(range(len(records.table)))))

    def _evaluate_share(self, state: RunState, work: Work) -> None:
        """Fill this rank's rows. Whatever goes wrong is kept for the exchange, so that no rank waits in vain."""
        if self.halted:
            return
        if not work.begun:
            work.to_do = self.finished_rows.begin(state, work.own)
            work.begun = True
            self._stop.keep_in(self.finished_rows.in_flight.signals)
        if self.error is None:
            try:
                with kept_process_state():
                    self._fill(state, work)
                self.finished_rows.flush()
            except Exception as error:
                self.error = error

    def _fill(self, state: RunState, work: Work) -> None:
        """Evaluate rows as they are drawn, suspects one at a time."""
        rows, to_do, in_flight = work.to_do.rows, work.to_do, self.finished_rows.in_flight
        drawn: Iterator[int] = map(rows.__getitem__, self.team.rows(work.generation, len(rows)))
        if to_do.suspects or to_do.alone:
            for row in itertools.chain(to_do.alone if self._comm.rank == 0 else (), drawn):
                if row not in to_do.suspects and row not in to_do.alone:
                    drawn = itertools.chain((row,), drawn)
                    break
                with in_flight.watching():
                    self._evaluator.fill(state, in_flight.noted((row,)), work.own)
                self.finished_rows.flush(now=True)
        with in_flight.watching():
            self._evaluator.fill(state, in_flight.noted(drawn), work.own)

    def _exchange(self, work: Work, began: float) -> Votes:
        """One allreduce: everybody's records, exit codes and votes."""
        own = work.own
        try:
            self._stop.renew()  # an environment may have installed handlers of its own
        except RunError as error:
            self.error = self.error or error
        busy = time.monotonic() - began
        cells = own.table.size
        numbers = np.zeros(cells + 3, np.uint64)
        numbers[:cells] = own.table.reshape(-1)
        numbers[cells:] = (
            self._stop.requested,
            time.monotonic() >= self._time_is_up_at,
            int(busy * 1e6),
        )
        sum_or_fail(
            self._comm, numbers, self.error, f"the exchange of generation {work.generation}"
        )
        table = numbers[:cells].reshape(own.table.shape)
        work.whole = Records.of_table(table, own.members, own.variants)
        signal, time_is_up, microseconds = (int(number) for number in numbers[cells:])
        timing = Timing(time.monotonic() - began, microseconds / 1e6, self._comm.size)
        return Votes(signal, time_is_up, timing)

    def _check_failures(self, generation: int, records: Records) -> None:
        """End on all ranks if the records are not right, or too many members had no fitness."""
        failed = records.failed_members
        error: RunError | None = None
        if not records.all_written_once:
            error = RunError(
                f"generation {generation}: the exchange of records failed: not every record came from exactly one "
                "rank; this generation was discarded"
            )
        elif failed > self._config.run.max_failed_share * records.members:
            fitness = "a NaN or infinite fitness"
            advice = _what_to_do(self.work.own.failure if self.work is not None else "")
            if records.rows_with(Status.NO_RESULT).size:
                fitness = "no finite fitness, or no result"
                advice = (
                    "The first of these failures is reported above: fix its cause, allow more time "
                    "(env.episode_seconds), or increase run.max_failed_share"
                )
            elif self._config.objective.named:
                fitness = "no fitness"
                advice = (
                    f"Calls of {self._config.objective.function} failed, and the first failure is reported above: "
                    "fix its cause, add bounds to the parameters (low, high), or reduce es.sigma"
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
                f"generation {step.state.generation - 1}: the update made h infinite or NaN, so it was discarded. "
                "Use another es.shaping than raw, or a smaller es.learning_rate"
            )
            raise_if_any_failed(self._comm.rank, np.ones(self._comm.size, np.uint64), error)

    def _keep(self, work: Work) -> GenerationReport | None:
        """Rank 0 commits; if it can't, the others hear of it in the next exchange."""
        if self.commit is not None and work.kept is not None:
            try:
                return work.kept(self.commit)
            except Exception as error:
                self.error = error
        return None

    def _reason_to_end(self, generation: int, records: Records, votes: Votes) -> str:
        """Why this generation is the last one of this call; empty if it isn't."""
        reasons = {
            "generations": generation >= self._config.generations,
            "target_return": reaches_target(self._config, records),
            "signal": votes.signal,
            "max_hours": votes.time_is_up,
        }
        return next((reason for reason, holds in reasons.items() if holds), "")

    def _end(self) -> Ending:
        """Keep the last state; on all ranks or on none.

        Raises:
            RankLostError: on all ranks that are left or on none, so that nobody leaves while others need him.
        """
        ending, loss = Ending(self.memory.state, self.reason), None
        try:
            with agreement(self._comm, "ending the run"):
                if self.error is not None:
                    raise self.error
                if self.commit is not None and not self.halted:
                    found = self.commit.end(ending.state, ending.reason, ending.finished)
                    ending = dataclasses.replace(ending, findings=tuple(found))
                    self.finished_rows.end()
        except RankLostError as error:
            loss = error
        if self._comm.survives and not self._comm.agree(loss is None):
            raise loss or RankLostError("a rank was lost at the end")
        return ending


def _failing_variants(names: Sequence[str], records: Records) -> str:
    """On which variants members had no finite return, and how many; empty where there is nothing to choose from."""
    counts = np.count_nonzero(~np.isfinite(records.returns), axis=0)
    failing = [
        f"{name!r} ({count})" for name, count in zip(names, counts, strict=True) if name and count
    ]
    return f" (on {', '.join(failing)})" if failing else ""


def _what_to_do(failure: str) -> str:
    """What helps against numbers that are not finite.

    Args:
        failure: of the first member of this rank that failed; empty if none did.
    """
    outputs = "check policy.normalization, es.sigma and es.learning_rate"
    if OF_OUTPUTS in failure:
        return f"The policy's outputs were not finite, as reported above: {outputs}"
    if any(words in failure for words in OF_ENVIRONMENT):
        return (
            "The environment returned what was not finite, as reported above: fix the environment, or raise "
            "run.max_failed_share"
        )
    return (
        "The first of these failures is reported above. If the environment returned what is not finite, fix the "
        f"environment; if the policy's outputs overflow, {outputs}"
    )
