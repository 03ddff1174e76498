"""Evaluation of an objective on the test stream: which seeds its function gets."""

from __future__ import annotations

from esd.evaluation.test_episodes import choose
from esd.evaluation.test_evaluations import evaluate
from esd.evolution.records import Records
from esd.evolution.state import make_strategy, start
from esd.mpi.comm import Alone
from esd.objectives.problem import ObjectiveProblem
from tests.helpers.configs import objective


def test_seeds_are_those_of_the_test_and_none_of_the_center() -> None:
    """Also of a test with the run's own seed: the best checkpoint would be chosen by what it is tested on."""
    config = objective("tests.helpers.user_functions:returns_the_seed", "seed=3")
    problem = ObjectiveProblem(config)
    algorithm = make_strategy(config, problem.layout)
    state, records = start(algorithm, problem.initial_parameters(3), 0), Records(14, 5, 0, 1)
    problem.evaluator(algorithm, 1, 0).fill(state, iter(range(14, 19)), records)
    seeds = {-value for value in records.center_returns[:, 0]}
    for seed in (3, 4):
        (result,) = evaluate(Alone(), choose(config, None, [], []), state, 5, seed)
        assert not seeds & {*result.returns}
        seeds |= {*result.returns}
    assert len(seeds) == 15
