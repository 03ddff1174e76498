"""Evaluation of a run of an objective: its center on seeds of the test stream, which training never sees."""

from __future__ import annotations

import sys

import numpy as np

from esd.evaluation.test_episodes import Subject, VariantResult, check_same
from esd.evolution.noise import Purpose
from esd.evolution.state import RunState
from esd.mpi.comm import Communicator, agreement
from esd.mpi.team import Team
from esd.objectives.problem import ObjectiveProblem, evaluation_seed


def evaluate(
    comm: Communicator, subject: Subject, state: RunState, evaluations: int, seed: int
) -> list[VariantResult]:
    """Evaluate h so many times; once if the function takes no seed.

    Args:
        comm: the ranks that share the evaluations.
        subject: the run's objective.
        state: of the run, the same on every rank.
        evaluations: how many.
        seed: of the test stream.

    Returns:
        One for each value, in the user's own sign; NaN of a call that failed. The same on every rank.

    Raises:
        JobFailedError: on all ranks, if any failed.
    """
    check_same(comm, state)
    config = subject.config
    with Team(comm) as team, agreement(comm, "evaluating", evaluates=True):
        problem = ObjectiveProblem(config)
        count = evaluations if problem.function.takes_seed else 1
        # as bits: every slot has one writer, so sums are exact
        table = np.zeros((count, len(problem.variants)), np.uint64)
        failure = ""
        for row in team.rows(0, count):
            seeds = [evaluation_seed(seed, Purpose.TEST_EPISODE, 0, 0, row)]
            measured = problem.measure(state.h, seeds)
            table.view(np.float64)[row] = measured.values
            if measured.failure and not failure:
                failure = f"test evaluation {row}: {measured.failure}"
        if failure:
            name = config.objective.function
            print(f"esd: objective.function = {name!r}, {failure}", file=sys.stderr, flush=True)
    comm.sum(table.reshape(-1), "the exchange of test evaluations")
    return [
        VariantResult(name or subject.title, True, subject.objective, column.copy(), count, {}, {})
        for name, column in zip(problem.variants, table.view(np.float64).T, strict=True)
    ]
