"""Rows one after the other: what is written for a member, and what for the center."""

from __future__ import annotations

import numpy as np
import pytest

from esd.episodes.evaluator import OneByOne, Rows
from esd.episodes.rollout import Rollout
from esd.evaluation.test_episodes import episode_seeds
from esd.evolution.records import PENALTY, RETURNS, WRITERS, Records
from esd.evolution.state import make_strategy, start
from tests.helpers.configs import of_table


def test_only_members_are_penalized_and_only_their_observations_count() -> None:
    config = of_table(
        env={"id": "Pendulum-v1", "max_steps": 9, "normalize_observations": True},
        es={"fitness_penalty": 0.3},
    )
    rollout = Rollout(config)
    strategy = make_strategy(config, rollout.policy.layout)
    state = start(strategy, rollout.policy.initial_parameters(1), rollout.observation_size)
    records = Records(4, 2, rollout.observation_size)
    OneByOne(rollout, make_strategy(config, rollout.policy.layout)).fill(
        state, iter([5, 2, 0, 4, 1]), records
    )
    assert records.table[:, WRITERS].tolist() == [1, 1, 1, 0, 1, 1]
    perturbed = np.empty_like(state.h)
    for member in (0, 1, 2):
        strategy.ask(state.evolution, member, perturbed)
        penalty = 0.3 * np.mean(perturbed.astype(np.float64) ** 2)
        assert records.fitness("mean")[member] == pytest.approx(
            records.returns[member, 0] - penalty
        )
        assert records.observations[0][member] == 9
    assert not records.table[4:, PENALTY].any()
    assert not records.table[4:, RETURNS + 1 :].any()


def test_the_centers_episodes_are_the_same_in_every_generation() -> None:
    config = of_table(env={"id": "Pendulum-v1", "max_steps": 9})
    rollout = Rollout(config)
    begun = start(
        make_strategy(config, rollout.policy.layout), rollout.policy.initial_parameters(1), 0
    )
    returns = []
    for generation in (0, 1):
        evolution = type(begun.evolution)(generation, begun.h, {}, begun.evolution.scalars)
        records = Records(2, 3, 0)
        OneByOne(rollout, make_strategy(config, rollout.policy.layout)).fill(
            type(begun)(evolution, begun.observations), iter(range(5)), records
        )
        returns.append((records.returns.tolist(), records.center_returns.tolist()))
    assert returns[0][1] == returns[1][1]
    assert returns[0][0] != returns[1][0]


def test_no_episode_of_the_center_is_one_of_a_test() -> None:
    """Also not of a test with the run's own seed: the best checkpoint would be chosen by what it is tested on."""
    config = of_table(env={"id": "Pendulum-v1", "max_steps": 9})
    rollout = Rollout(config)
    strategy = make_strategy(config, rollout.policy.layout)
    state, records = start(strategy, rollout.policy.initial_parameters(1), 0), Records(2, 50, 0)
    rows = Rows(rollout, strategy)
    tasks = [rows.task(state, row, records) for row in range(2, 52)]
    centers = {seeds.environment for task in tasks for seeds in task.seeds}
    tests = {episode_seeds(config.seed, episode, 0).environment for episode in range(100)}
    assert len(centers) == 50
    assert not centers & tests
