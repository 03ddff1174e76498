"""A rank's rows of one generation: members and episodes of the center, evaluated and written into the records.

``OneByOne`` plays them one after the other through the compiled kernels; ``lockstep`` many at once through torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from esd.config.objective import STOP
from esd.config.settings import EnvironmentConfig
from esd.episodes.checked import BrokenEnvironmentError
from esd.episodes.environments import Environments, Outcome, no_result
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.errors import EsdError, RunError, warn
from esd.evolution.algorithm import Algorithm
from esd.evolution.noise import Purpose
from esd.evolution.records import Records
from esd.evolution.state import RunState
from esd.evolution.vectors import mean_square
from esd.policies.guard import BrokenPolicyError

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]


# what the evaluation of one member raises and that of another need not
OF_ONE_MEMBER = (BrokenEnvironmentError, BrokenPolicyError)


class Task(NamedTuple):
    """One row: whose parameters play which episodes.

    Attributes:
        row: of the records.
        member: whose perturbation is added to h; None for the center.
        seeds: of the episodes, played one after the other.
    """

    row: int
    member: int | None
    seeds: list[EpisodeSeeds]

    @property
    def owner(self) -> str:
        """Whose episodes they are, in words."""
        return "the center" if self.member is None else f"member {self.member}"


class Player(Protocol):
    """Plays rows.

    Attributes:
        same_bits: its fitnesses are those of ``OneByOne``, bit for bit.
    """

    same_bits: bool

    def fill(self, state: RunState, rows: Iterator[int], records: Records) -> None:
        """Evaluate rows of the generation that ``state`` stands before, as they are drawn, and write them."""

    def rehearse(
        self, state: RunState, member: int, seeds: list[EpisodeSeeds], limit: int
    ) -> list[Outcome]:
        """Play a member's episodes, of at most ``limit`` steps, several times beside others: all should be equal."""

    def close(self) -> None:
        """Close what was opened."""


class Rows:
    """What both players know of rows: which episodes they are, and how they are written."""

    def __init__(self, rollout: Rollout, algorithm: Algorithm) -> None:
        """Prepare for a run."""
        self._config, self._rollout, self.algorithm = rollout.config, rollout, algorithm
        self._reported = False

    def task(self, state: RunState, row: int, records: Records) -> Task:
        """What a row is: one member, or one episode of the center on every variant."""
        if row < records.members:
            return Task(row, row, self._rollout.member_seeds(state.generation, row))
        # the same episodes in every generation: centers are compared, not their luck
        episode = row - records.members
        seeds = [
            EpisodeSeeds.named(self._config.seed, Purpose.SELECT_EPISODE, 0, 0, episode, variant)
            for variant in range(records.variants)
        ]
        return Task(row, None, self._rollout.weights.put(seeds, episode))

    def pieces(self, state: RunState, task: Task) -> Iterator[tuple[int, Float32s]]:
        """The member's h + Δh, or h, as first coordinates and pieces in memory that the next piece overwrites."""
        return self.algorithm.ask_pieces(state.evolution, task.member)

    def failed(self, error: EsdError) -> Outcome:
        """See ``failed``."""
        return failed(error, self._config.env, self._rollout.environments)

    def write(
        self,
        records: Records,
        state: RunState,
        task: Task,
        outcome: Outcome,
        observations: Float64s | None,
    ) -> None:
        """Write a row; the center has no penalty, and its observations are not the run's.

        The first that has failed in this process is reported with the reason: ranks exchange only that it has.

        Args:
            records: of the generation.
            state: before it.
            task: what was played.
            outcome: what it gave.
            observations: as ``Rollout.observed`` gives them.
        """
        penalty = self._config.es.fitness_penalty
        if task.member is None:
            penalty, observations = 0.0, None
        elif penalty:
            penalty *= mean_square(piece for _, piece in self.pieces(state, task))
        if task.member is not None:
            records.failure = records.failure or outcome.failure
        if outcome.failure and not self._reported:
            self._reported = True
            counts = "" if task.member is None else " counts as failed"
            warn(f"generation {state.generation}, {task.owner}{counts}: {outcome.failure}")
        records.write(
            task.row,
            returns=outcome.returns,
            steps=outcome.steps,
            episodes=outcome.episodes,
            status=outcome.status,
            penalty=penalty,
            observations=observations,
        )


def failed(error: EsdError, config: EnvironmentConfig, environments: Environments) -> Outcome:
    """What a member, or an episode of the center, gave whose evaluation has raised.

    Args:
        error: one of ``OF_ONE_MEMBER``.
        config: [env].
        environments: in which it was played.

    Raises:
        EsdError: the error itself, where ``env.on_failure`` is to stop.
    """
    if config.on_failure == STOP:
        raise error
    environments.make_anew()
    return no_result(len(environments.variants), str(error))


@contextlib.contextmanager
def blaming(state: RunState, task: Task) -> Iterator[None]:
    """Say in whatever is raised in the block whose evaluation it came from.

    Raises:
        RunError: for what a user's environment or policy raised: the run was begun, and can't go on.
    """
    try:
        yield
    except EsdError as error:
        text = f"generation {state.generation}, {task.owner}: {error}"
        raise RunError(text) from error.__cause__
    except Exception as error:
        error.add_note(f"while evaluating row {task.row} of generation {state.generation}")
        raise


class OneByOne:
    """The rows one after the other, each through the policy's own kernel."""

    same_bits = True

    def __init__(self, rollout: Rollout, algorithm: Algorithm) -> None:
        """Play an algorithm's members with a rollout's environment and policy."""
        self._rollout, self._rows = rollout, Rows(rollout, algorithm)

    def fill(self, state: RunState, rows: Iterator[int], records: Records) -> None:
        """See ``Player.fill``."""
        rollout = self._rollout
        rollout.use_statistics(state.observations)
        for row in rows:
            task = self._rows.task(state, row, records)
            with blaming(state, task):
                try:
                    rollout.load(self._rows.pieces(state, task))
                    outcome = rollout.play(task.seeds, more_seconds=0.0)
                    seen = rollout.observed(outcome)
                except OF_ONE_MEMBER as error:
                    outcome, seen = self._rows.failed(error), None
            self._rows.write(records, state, task, outcome, seen)

    def rehearse(
        self, state: RunState, member: int, seeds: list[EpisodeSeeds], limit: int
    ) -> list[Outcome]:
        """See ``Player.rehearse``."""
        self._rollout.use_statistics(state.observations)
        self._rollout.load(self._rows.pieces(state, Task(0, member, seeds)))
        return [self._rollout.play(seeds, limit) for _ in range(2)]

    def close(self) -> None:
        """Nothing of its own."""
