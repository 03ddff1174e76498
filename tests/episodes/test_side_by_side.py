"""Sixteen members at once have the bits of each member alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from esd.config.settings import Config
from esd.episodes.evaluator import OneByOne
from esd.episodes.rollout import Rollout
from esd.episodes.side_by_side import MOST_WEIGHTS, PREPARED, SideBySide, can_play
from esd.errors import RunError
from esd.evolution.guarded_algorithm import GuardedAlgorithm
from esd.evolution.observations import ObservationStatistics
from esd.evolution.records import RETURNS, Records
from esd.evolution.state import RunState, make_strategy, start
from esd.policies.perceptron import INITIAL_WEIGHTS
from esd.problems.episodes import make_player
from tests.helpers.configs import of_table

HIDDEN = {"id": "esd/HiddenCartPole-v0", "kwargs": {"sign": "random"}}
WORLDS: list[dict[str, Any]] = [
    HIDDEN,
    {"id": "CartPole-v1"},
    {"id": "Pendulum-v1", "max_steps": 60, "stop_after_negative": 50},
    {"id": "MountainCarContinuous-v0", "max_steps": 60},
    {"id": "esd/AssociativeRecall-v0", "kwargs": {"pairs": 5}},
]
POLICIES: list[dict[str, Any]] = [
    {"kind": "static", "hidden": [16]},
    {"kind": "static", "hidden": []},
    {"kind": "hebbian", "hidden": [16]},
    {"kind": "hebbian", "hidden": [17, 5], "normalization": "l2", "initial_weights": "coevolved"},
    {"kind": "hebbian", "hidden": [3], "normalization": "none", "activation": "relu", "freeze_after": 7},
    {"kind": "hebbian", "hidden": [5], "rule": "ABCD_lr_D_in_and_out", "rate": 0.3, "order": "F"},
    {"kind": "hebbian", "hidden": [4], "every": 3, "average": True, "freeze_after": 20, "rules": 6},
]  # fmt: skip
VARIANTS = {
    "id": "esd/HiddenCartPole-v0",
    "variants": [
        {"name": "push"},
        {"name": "heavy", "kwargs": {"pole_mass": 0.9}},
        {"name": "gymnasium", "id": "CartPole-v1"},
    ],
}


def prepared(config: Config) -> tuple[Rollout, Any, RunState]:
    rollout = Rollout(config)
    algorithm = make_strategy(config, rollout.policy.layout)
    state = start(algorithm, rollout.policy.initial_parameters(0), rollout.observation_size)
    if rollout.observation_size:
        size = rollout.observation_size
        learned = ObservationStatistics(10.0, np.full(size, 0.5), np.full(size, 2.0))
        state = dataclasses.replace(state, observations=learned)
    return rollout, algorithm, state


def table(player: Any, rollout: Rollout, state: RunState, rows: list[int], center: int = 5) -> Any:
    members = rollout.config.population
    records = Records(members, center, rollout.observation_size, len(rollout.variants))
    player.fill(state, iter(rows), records)
    return records.table


def config_of(env: dict[str, Any], policy: dict[str, Any], **more: Any) -> Config:
    return of_table(env={"episodes_per_member": 2, **env}, policy=policy, population=40, **more)


@pytest.mark.parametrize("env", WORLDS, ids=lambda env: env["id"])
@pytest.mark.parametrize(
    "policy", POLICIES, ids=lambda policy: f"{policy['kind']}{policy['hidden']}"
)
def test_every_row_is_that_of_the_member_alone(env: dict[str, Any], policy: dict[str, Any]) -> None:
    for normalize in (False, True):
        config = config_of({**env, "normalize_observations": normalize}, policy)
        rollout, algorithm, state = prepared(config)
        assert can_play(rollout)
        rows = list(range(45))
        alone = table(OneByOne(rollout, algorithm), rollout, state, rows)
        together = table(SideBySide(rollout, algorithm, 1), rollout, state, rows)
        assert np.array_equal(alone, together)
        assert len(np.unique(alone[:, RETURNS])) > 3, "the members differ"


@pytest.mark.parametrize("scheme", [*INITIAL_WEIGHTS, "coevolved"])
def test_the_first_weights_of_every_scheme_are_those_of_the_member_alone(scheme: str) -> None:
    policy = {"kind": "hebbian", "hidden": [4], "initial_weights": scheme}
    rollout, algorithm, state = prepared(config_of({"id": "CartPole-v1"}, policy))
    rows = list(range(20))
    alone = table(OneByOne(rollout, algorithm), rollout, state, rows)
    together = table(SideBySide(rollout, algorithm, 1), rollout, state, rows)
    assert np.array_equal(alone, together)


@pytest.mark.parametrize(
    "es",
    [
        {"noise": "low_rank"},
        {"noise": "binomial"},
        {"algorithm": "pgpe"},
        {"algorithm": "cr_fm_nes", "noise": "gaussian"},
    ],
    ids=lambda es: "-".join(es.values()),
)
def test_members_of_any_algorithm_are_those_alone(es: dict[str, Any]) -> None:
    policy = {"kind": "static", "hidden": [4]}
    rollout, algorithm, state = prepared(config_of({"id": "CartPole-v1"}, policy, es=es))
    rows = list(range(45))
    alone = table(OneByOne(rollout, algorithm), rollout, state, rows)
    together = table(SideBySide(rollout, algorithm, 1), rollout, state, rows)
    assert np.array_equal(alone, together)
    assert len(np.unique(alone[:, RETURNS])) > 3, "the members differ"


def test_an_algorithm_of_the_users_own_is_asked_member_by_member() -> None:
    policy = {"kind": "static", "hidden": [4]}
    rollout, algorithm, state = prepared(config_of({"id": "CartPole-v1"}, policy))

    class Failing(type(algorithm)):  # type: ignore[misc]
        def perturb(self, state: Any, member: int, *rest: Any) -> None:
            if member == 5:
                raise ValueError("five")
            super().perturb(state, member, *rest)

    own = Failing(**vars(algorithm))
    guarded = GuardedAlgorithm(lambda: own, "es.algorithm = 'failing'")
    with pytest.raises(RunError, match=r"generation 0, member 5: .*five"):
        table(SideBySide(rollout, guarded, 1), rollout, state, list(range(16)))


def test_the_order_and_number_of_the_rows_change_nothing() -> None:
    rollout, algorithm, state = prepared(config_of(HIDDEN, {"kind": "hebbian", "hidden": [8]}))
    player = SideBySide(rollout, algorithm, 1)
    rows = list(range(45))
    whole = table(player, rollout, state, rows)
    backwards = table(player, rollout, state, rows[::-1])
    assert np.array_equal(whole, backwards)
    few = table(SideBySide(rollout, algorithm, 9), rollout, state, [3, 44, 17])
    assert np.array_equal(few[[3, 17, 44]], whole[[3, 17, 44]])
    assert not few[[0, 1, 2]].any()


def test_variants_with_steps_of_their_own_are_played_beside_each_other() -> None:
    config = config_of(VARIANTS, {"kind": "hebbian", "hidden": [8]})
    rollout, algorithm, state = prepared(config)
    rows = list(range(45))
    assert can_play(rollout)
    alone = table(OneByOne(rollout, algorithm), rollout, state, rows)
    assert np.array_equal(alone, table(SideBySide(rollout, algorithm, 1), rollout, state, rows))


@pytest.mark.parametrize(
    "env",
    [
        {"id": "CartPole-v1"},
        {"id": "Acrobot-v1", "max_steps": 30},
        {"id": "CartPole-v1", "reset_options": {"low": -0.01, "high": 0.2}},
    ],
    ids=["reset in C", "resets itself", "resets itself with options"],
)
def test_members_may_have_more_episodes_than_are_prepared_at_once(env: dict[str, Any]) -> None:
    config = of_table(
        env={"episodes_per_member": 2 * PREPARED + 3, "normalize_observations": True, **env},
        policy={"kind": "hebbian", "hidden": [8]},
        population=20,
    )
    rollout, algorithm, state = prepared(config)
    compiled = rollout.environments.all_compiled()
    assert compiled is not None
    assert can_play(rollout)
    assert bool(compiled[0].addresses[0]) == (env == {"id": "CartPole-v1"})
    rows = list(range(22))
    alone = table(OneByOne(rollout, algorithm), rollout, state, rows, 2)
    together = table(SideBySide(rollout, algorithm, 1), rollout, state, rows, 2)
    assert np.array_equal(alone, together)


def test_a_member_whose_outputs_are_not_finite_fails_alone() -> None:
    config = config_of(
        {**HIDDEN, "normalize_observations": True}, {"kind": "static", "hidden": [4]}
    )
    rollout, algorithm, state = prepared(config)
    state.evolution.h[:] = np.where(np.arange(state.evolution.h.size) % 3, 3e38, -3e38)
    rows = list(range(45))
    with np.errstate(over="ignore"):
        alone = table(OneByOne(rollout, algorithm), rollout, state, rows)
        together = table(SideBySide(rollout, algorithm, 1), rollout, state, rows)
    assert np.array_equal(alone, together)
    assert Records.of_table(together, 40).rows_with(1).size, "none has failed"


def test_a_rehearsal_plays_one_member_in_every_lane() -> None:
    rollout, algorithm, state = prepared(config_of(HIDDEN, {"kind": "hebbian", "hidden": [8]}))
    seeds = rollout.member_seeds(3, 4)
    outcomes = SideBySide(rollout, algorithm, 1).rehearse(state, 1, seeds, 20)
    expected = OneByOne(rollout, algorithm).rehearse(state, 1, seeds, 20)[0]
    assert len(outcomes) > 16
    assert {repr(outcome) for outcome in outcomes} == {repr(expected)}


@pytest.mark.parametrize(
    ("env", "policy"),
    [
        ({"id": "FrozenLake-v1"}, {"kind": "static", "hidden": [4]}),
        (HIDDEN, {"kind": "reformer"}),
        (HIDDEN, {"kind": "gru"}),
        (HIDDEN, {"kind": "hebbian", "hidden": [MOST_WEIGHTS]}),
        ({"id": "CartPole-v1", "compiled": "never"}, {"kind": "static", "hidden": [4]}),
    ],
)
def test_what_has_no_lanes_is_played_one_by_one(
    env: dict[str, Any], policy: dict[str, Any]
) -> None:
    rollout, algorithm, _ = prepared(of_table(env=env, policy=policy))
    assert not can_play(rollout)
    assert isinstance(make_player(rollout, algorithm, 1, 0), OneByOne)


def test_small_networks_in_compiled_environments_are_played_side_by_side() -> None:
    rollout, algorithm, _ = prepared(of_table(env=HIDDEN, policy={"kind": "static", "hidden": [4]}))
    assert isinstance(make_player(rollout, algorithm, 1, 0), SideBySide)
