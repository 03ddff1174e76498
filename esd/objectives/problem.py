"""A user's function as a problem: h → values within bounds → one record per member.

A fitness is a pure function of (config, state_t, generation, member) (law 1): the function gets new arrays and a seed
that is named by the run's seed, the generation, the member and the evaluation, in every call.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esd.config.identity import identity
from esd.config.objective import STOP
from esd.config.settings import Config
from esd.errors import RunError, UsageError
from esd.evolution.algorithm import Algorithm
from esd.evolution.canary import Canary
from esd.evolution.layout import Layout
from esd.evolution.noise import Purpose, words
from esd.evolution.records import Records, Status
from esd.evolution.state import RunState, start
from esd.evolution.vectors import mean_square
from esd.objectives.function import EvaluationError, Function
from esd.objectives.parameters import initial_h, layout_of, values_of
from esd.policies.base import Interface

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

ORDER_CHECKED_SINCE = 2  # the format of a run; older ones go on as they were begun


def evaluation_seed(
    seed: int, purpose: Purpose, generation: int, owner: int, evaluation: int
) -> int:
    """The seed of one call by its coordinates, 31 bits: programs in any language take it."""
    return int(words(seed, purpose, evaluation, owner, generation)[0] >> 1)


@dataclass(frozen=True)
class Measured:
    """What evaluations of one vector gave.

    Attributes:
        values: float64 [values], their mean in the user's own sign; NaN if any call failed.
        evaluations: calls made.
        failure: why a call failed; empty if none did.
    """

    values: Float64s
    evaluations: int
    failure: str = ""


class ObjectiveProblem:
    """See ``esd.problems.base.Problem``.

    Attributes:
        config: of the run.
        layout: the parameters in h.
        function: the user's.
    """

    def __init__(self, config: Config) -> None:
        """Import the function.

        Raises:
            UsageError: if that isn't possible.
        """
        self.config = config
        self.layout: Layout = layout_of(config.objective.parameters)
        self.function = Function(config.objective)

    @property
    def interface(self) -> Interface:
        """There is no environment: h_0 depends on the settings alone."""
        return Interface(0, self.layout.size, False)

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of the values that a call gives."""
        return self.config.value_names or ("",)

    @property
    def observation_size(self) -> int:
        """There are no observations."""
        return 0

    @property
    def center_episodes(self) -> int:
        """Evaluations of the center: one is enough for a function that takes no seed."""
        return self.config.run.center_episodes if self.function.takes_seed else 1

    @property
    def notes(self) -> list[str]:
        """There is nothing to say of how a function is called."""
        return []

    def initial_parameters(self, seed: int) -> Float32s:
        """h_0, whose values are ``initial``."""
        return initial_h(self.config.objective.parameters, seed, self.config.format)

    def values(self, h: Float32s) -> dict[str, Float64s]:
        """What the function gets for h, float32 [|h|], by name."""
        return values_of(self.config.objective.parameters, self.layout, h, self.config.format)

    def measure(self, h: Float32s, seeds: Sequence[int]) -> Measured:
        """Evaluate h, float32 [|h|], once per seed; the first call that fails is the last."""
        values = self.values(h)
        total = np.zeros(len(self.variants))
        for number, seed in enumerate(seeds):
            try:
                total += self.function(values, seed)
            except EvaluationError as error:
                return Measured(np.full_like(total, np.nan), number + 1, str(error))
        return Measured(total / len(seeds), len(seeds))

    def evaluator(self, algorithm: Algorithm, ranks: int, node_rank: int) -> ObjectiveEvaluator:
        """See ``Problem.evaluator``."""
        return ObjectiveEvaluator(self, algorithm)

    def close(self) -> None:
        """Nothing was opened."""


class ObjectiveEvaluator:
    """See ``esd.problems.base.Evaluator``."""

    def __init__(self, problem: ObjectiveProblem, algorithm: Algorithm) -> None:
        """Evaluate an algorithm's members."""
        self._problem, self._algorithm = problem, algorithm
        self._config = problem.config
        self._reported = False

    def fill(self, state: RunState, rows: Iterator[int], records: Records) -> None:
        """See ``Evaluator.fill``; the first member whose call fails is reported, and all of them rank worst."""
        h = np.empty_like(state.h)
        for row in rows:
            member = row if row < records.members else None
            for first, piece in self._algorithm.ask_pieces(state.evolution, member):
                h[first : first + piece.size] = piece
            measured = self._problem.measure(h, self._seeds(state.generation, row, records))
            if measured.failure and self._config.objective.on_failure == STOP:
                who = "the center" if member is None else f"member {member}"
                raise RunError(
                    f"objective.function = {self._config.objective.function!r}, generation {state.generation}, {who}: "
                    f'{measured.failure}. With objective.on_failure = "worst" such members rank last'
                )
            penalty = self._config.es.fitness_penalty if member is not None else 0.0
            records.write(
                row,
                returns=(self._config.sign * measured.values).tolist(),
                steps=measured.evaluations,
                episodes=measured.evaluations,
                status=Status.NOT_FINITE if measured.failure else Status.DONE,
                penalty=penalty * mean_square([h]) if penalty else 0.0,
            )
            if measured.failure and not self._reported:
                self._reported = True
                who = "the center" if member is None else f"member {member} counts as failed"
                self._report(f"generation {state.generation}, {who}: {measured.failure}")

    def _seeds(self, generation: int, row: int, records: Records) -> list[int]:
        """The seeds of a row: of a member's evaluations, or of one of the center."""
        seed = self._config.seed
        if row >= records.members:
            # the same evaluations in every generation: centers are compared, not their luck
            evaluation = row - records.members
            return [evaluation_seed(seed, Purpose.SELECT_EPISODE, 0, 0, evaluation)]
        owners = {"none": row, "pair": row // 2, "generation": 0}
        owner = owners[self._config.es.common_random_numbers]
        return [
            evaluation_seed(seed, Purpose.TRAIN_EPISODE, generation, owner, evaluation)
            for evaluation in range(self._config.objective.evaluations_per_member)
        ]

    def _report(self, text: str) -> None:
        function = self._config.objective.function
        print(f"esd: objective.function = {function!r}, {text}", file=sys.stderr, flush=True)

    def canary(self, h0: Float32s, journal_version: int) -> Canary:
        """See ``Evaluator.canary``: h_0 is evaluated, then members, then h_0, unless ``check_at_start`` is off.

        Raises:
            UsageError: if that fails, or gives two results.
        """
        config = self._config
        perturbed = self._algorithm.ask(
            start(self._algorithm, h0, 0).evolution, 1, np.empty_like(h0)
        )
        digest = hashlib.sha256(identity(config).encode())
        for h in (h0, perturbed):
            digest.update(h.astype("<f4", copy=False).data)
            for values in self._problem.values(h).values():
                digest.update(values.astype("<f8").tobytes())
        arithmetic = digest.hexdigest()[:16]
        if not config.objective.check_at_start:
            return Canary(arithmetic, arithmetic, arithmetic)
        digest.update(self._checked(h0).astype("<f8").tobytes())
        evaluated = digest.hexdigest()[:16]
        return Canary(evaluated, evaluated, arithmetic)

    def _checked(self, h0: Float32s) -> Float64s:
        """The values of h_0, if two calls agree on them, with two of other parameters in between."""
        config = self._config
        seed, other_seed = (
            evaluation_seed(config.seed, Purpose.TRAIN_EPISODE, 0, 0, number) for number in (0, 1)
        )
        first = self._problem.measure(h0, [seed])
        if not first.failure and config.format >= ORDER_CHECKED_SINCE:
            state = start(self._algorithm, h0, 0).evolution
            for member in (0, 1):  # a call that fails there is a matter of the generations
                h = self._algorithm.ask(state, member, np.empty_like(h0))
                self._problem.measure(h, [other_seed])
        second = first if first.failure else self._problem.measure(h0, [seed])
        name = f"objective.function = {config.objective.function!r}"
        if first.failure:
            raise UsageError(f"{name}, at the initial parameters: {first.failure}")
        if _same(first, second) or config.run.allow_drift:
            return first.values
        accept = "or accept it with run.allow_drift = true"
        if second.failure:
            gave = f"gave {_told(first)} and then {second.failure}"
        else:
            gave = f"gave {_told(first)} and then {_told(second)}"
        gave = f"{name}: {gave} for the same parameters and the same seed"
        if _same(*(self._problem.measure(h0, [seed]) for _ in range(2))):
            raise UsageError(
                f"{gave}, because other parameters were evaluated in between: it keeps state between calls (in a "
                "global variable, a closure, an attribute, a cache or a file), so results would depend on the "
                f"number of ranks. Make every call independent of earlier calls, {accept}"
            )
        raise UsageError(
            f"{gave}, so the run could not be reproduced. Draw random numbers only from a generator made from the "
            f"argument seed, keep no state between calls, {accept}"
        )

    def close(self) -> None:
        """Nothing was opened."""


def _same(one: Measured, other: Measured) -> bool:
    return one.failure == other.failure and one.values.tobytes() == other.values.tobytes()


def _told(measured: Measured) -> str:
    return ", ".join(map(repr, measured.values.tolist()))
