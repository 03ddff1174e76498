"""Initial weights that several episodes share: whose they are, by which path they are played, and in tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from esd.config.settings import Config
from esd.episodes.evaluator import OneByOne, Rows
from esd.episodes.rollout import Rollout
from esd.episodes.side_by_side import SideBySide, can_play
from esd.evaluation.test_episodes import episode_seeds
from esd.evolution.records import Records
from esd.evolution.state import make_strategy, start
from tests.helpers.configs import of_table


def config_of(draw: str, common: str = "pair", seed: int = 3, **more: Any) -> Config:
    return of_table(
        seed=seed,
        env={"id": "CartPole-v1", "episodes_per_member": 2, "variants": [{"name": "a"}, {"name": "b"}]},
        policy={"kind": "hebbian", "hidden": [4], "draw_weights": draw, **more},
        es={"common_random_numbers": common},
        population=8,
    )  # fmt: skip


def drawn(rollout: Rollout, generation: int) -> list[set[int]]:
    """The seeds of each member's initial weights."""
    return [{seeds.policy for seeds in rollout.member_seeds(generation, m)} for m in range(8)]


@pytest.mark.parametrize(
    ("draw", "common", "sets"),
    [
        ("run", "pair", 1),
        ("member", "pair", 4),
        ("member", "none", 8),
        ("member", "generation", 1),
    ],
)
def test_weights_are_a_members_or_the_runs_in_all_generations(
    draw: str, common: str, sets: int
) -> None:
    rollout, again = Rollout(config_of(draw, common)), Rollout(config_of(draw, common))
    first, later = drawn(rollout, 0), drawn(rollout, 7)
    assert [len(own) for own in first] == [1] * 8, "all episodes and variants of a member"
    assert first == later == drawn(again, 2)
    assert len(set.union(*first)) == sets
    if common == "pair" and sets > 1:
        assert first[::2] == first[1::2]
    assert not set.union(*first) & set.union(*drawn(Rollout(config_of(draw, common, seed=4)), 0))
    environments = [
        {s.environment for s in rollout.member_seeds(generation, 0)} for generation in (0, 7)
    ]
    assert not set.intersection(*environments), "only the weights are shared"


def test_by_default_every_episode_has_weights_of_its_own() -> None:
    rollout = Rollout(config_of("episode"))
    seeds = [s for g in (0, 1) for m in (0, 2) for s in rollout.member_seeds(g, m)]
    assert len({s.policy for s in seeds}) == len(seeds)


def test_episodes_of_tests_have_the_members_weights_in_turn() -> None:
    rollout = Rollout(config_of("member"))
    of_members = [own.pop() for own in drawn(rollout, 0)[::2]]
    put = [rollout.weights.put([episode_seeds(0, e, v)], e)[0] for e in range(9) for v in (0, 1)]
    assert [s.policy for s in put] == [of_members[e % 4] for e in range(9) for _ in (0, 1)]
    assert put[0].environment == episode_seeds(0, 0, 0).environment


def test_episodes_of_the_center_have_the_members_weights_in_turn() -> None:
    config = config_of("member")
    rollout = Rollout(config)
    algorithm = make_strategy(config, rollout.policy.layout)
    state, records = start(algorithm, rollout.policy.initial_parameters(0), 0), Records(8, 9, 0, 2)
    rows = Rows(rollout, algorithm)
    of_members = [own.pop() for own in drawn(rollout, 0)[::2]]
    for episode in range(9):
        seeds = rows.task(state, 8 + episode, records).seeds
        assert [s.policy for s in seeds] == [of_members[episode % 4]] * 2


@pytest.mark.parametrize("draw", ["member", "run"])
def test_lanes_play_with_the_weights_of_the_member_alone(draw: str) -> None:
    config = config_of(draw)
    rollout = Rollout(config)
    assert can_play(rollout)
    algorithm = make_strategy(config, rollout.policy.layout)
    state = start(algorithm, rollout.policy.initial_parameters(0), 0)
    tables = []
    for player in (OneByOne(rollout, algorithm), SideBySide(rollout, algorithm, 1)):
        records = Records(8, 3, 0, 2)
        player.fill(state, iter(range(11)), records)
        tables.append(records.table)
    assert np.array_equal(*tables)
