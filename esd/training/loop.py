"""The loop: every rank evaluates its share, all exchange records, all make the same update, rank 0 commits."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from esd.config.settings import Config
from esd.errors import RunError
from esd.evolution.records import Records, Status
from esd.evolution.reduction import center_return
from esd.evolution.state import RunState
from esd.mpi.comm import agreement, raise_if_any_failed, sum_or_fail
from esd.mpi.team import Team
from esd.problems.base import Evaluator, Problem
from esd.training.commit import Commit, GenerationReport, Timing
from esd.training.diagnosis import Finding
from esd.training.finished_rows import FinishedRows
from esd.training.node_state import NodeState, Step, UpdateFailedError
from esd.training.process_state import kept_process_state
from esd.training.same_state import SameState
from esd.training.stop import StopRequest


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
        same_state: SameState,
        finished_rows: FinishedRows,
        stop: StopRequest,
        commit: Commit | None,
    ) -> None:
        """Take what ``prepared`` has built; ``commit`` is rank 0's."""
        self._team, self._comm = team, team.ranks
        self._config, self._problem = config, problem
        self._evaluator, self._memory = evaluator, memory
        self._same_state, self._finished_rows = same_state, finished_rows
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
            self._same_state.check(generation, None if self._halted else state)
            records = self._empty_records(generation, last)
            self._evaluate_share(state, records)
            votes = self._exchange(generation, records, began)
            self._check_failures(generation, records)
            step = self._update(records)
            report = None
            if step is not None:
                self._check_update(step)
                report = self._keep(state, step, records, votes.timing)
                self._finished_rows.generation_is_kept()
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
        if self._halted:
            return
        done = self._finished_rows.begin(state, records)
        if self._error is None:
            try:
                drawn = self._team.rows(state.generation, len(records.table))
                with kept_process_state():
                    self._evaluator.fill(state, (row for row in drawn if not done[row]), records)
                self._finished_rows.flush()
            except Exception as error:
                self._error = error

    def _exchange(self, generation: int, records: Records, began: float) -> _Votes:
        """One allreduce: everybody's records, exit codes and votes."""
        self._stop.renew()  # an environment may have installed handlers of its own
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
                "What was not finite in the first of them is reported above. If the policy's outputs overflow, look "
                "at policy.normalization, es.sigma and es.learning_rate"
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
                found = self._commit.end(ending.state, ending.reason, ending.finished)
                ending = dataclasses.replace(ending, findings=tuple(found))
                self._finished_rows.end()
        return ending


def _failing_variants(names: Sequence[str], records: Records) -> str:
    """On which variants members had no finite return, and how many; empty where there is nothing to choose from."""
    counts = np.count_nonzero(~np.isfinite(records.returns), axis=0)
    failing = [
        f"{name!r} ({count})" for name, count in zip(names, counts, strict=True) if name and count
    ]
    return f" (on {', '.join(failing)})" if failing else ""
