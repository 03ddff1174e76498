"""The last action and its reward behind the observation, in Python and compiled; the same way, a body that changes."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import esd_envs
from esd.episodes.evaluator import OneByOne
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.episodes.side_by_side import SideBySide, can_play
from esd.evolution.observations import ObservationStatistics
from esd.evolution.records import Records
from esd.evolution.state import make_strategy, start
from esd.lockstep.evaluator import Lockstep
from esd_envs.changed_body import ChangedBody
from esd_envs.last_action import LastActionAndReward
from tests.helpers.configs import of_table

INFORMED = "esd_envs:LastActionAndReward"
WORLDS: dict[str, dict[str, Any]] = {
    "known": {"id": "CartPole-v1", "wrappers": [INFORMED]},
    "known, resets itself": {"id": "Acrobot-v1", "max_steps": 50, "wrappers": [INFORMED]},
    "offered": {"id": "esd/HiddenPendulum-v0", "max_steps": 40, "wrappers": [INFORMED]},
    "twice": {"id": "CartPole-v1", "wrappers": [INFORMED, INFORMED]},
}


def changed(at_step: Any = 0, **what: Any) -> dict[str, Any]:
    return {"id": "esd_envs:ChangedBody", "kwargs": {"at_step": at_step, **what}}


BODIES: dict[str, dict[str, Any]] = {
    "a shin breaks": {"wrappers": [changed(7, scale={"bshin": 0.5})]},
    "a motor weakens, in an episode's own time": {
        "wrappers": [changed([3, 20], actuators={"bfoot": 0.2}, gravity=1.2)]
    },
    "informed": {"wrappers": [INFORMED, changed(scale={"fshin": 0.5})]},
    "informed, and it breaks twice": {
        "wrappers": [changed(4, friction=0.3), INFORMED, changed(11, mass={"torso": 2.0})]
    },
    "factors on factors, the inner first": {
        "wrappers": [changed(3, gravity=1.1, friction=0.3), changed(9, gravity=0.7, friction=0.6)]
    },
    "factors on factors, the outer first": {
        "wrappers": [changed([8, 15], actuators=0.7), changed([1, 6], actuators={"bfoot": -0.3})]
    },
    "a factor on those of the reset": {
        "wrappers": [changed(scale={"bshin": 0.5}, gravity=1.1), changed(5, gravity=0.7)]
    },
    "those of the reset beneath a factor": {
        "wrappers": [changed(5, gravity=0.7, mass={"torso": 2.0}), changed(gravity=1.1)]
    },
    "a damaged ant grows heavier": {
        "id": "esd/DamagedAnt-v0",
        "kwargs": {"leg": "front_left"},
        "wrappers": [changed(5, gravity=1.5)],
    },
}
BODIES = {name: {"id": "HalfCheetah-v5", "max_steps": 25, **env} for name, env in BODIES.items()}


@pytest.mark.parametrize(
    ("id", "width"), [("CartPole-v1", 4 + 2 + 1), ("Pendulum-v1", 3 + 1 + 1), ("Hopper-v5", 11 + 4)]
)
def test_action_and_reward_stand_behind_the_observation(id: str, width: int) -> None:
    plain, env = gymnasium.make(id), LastActionAndReward(gymnasium.make(id))
    assert env.observation_space.shape == (width,)
    assert env.observation_space.dtype == plain.observation_space.dtype
    before, _ = plain.reset(seed=1)
    seen, _ = env.reset(seed=1)
    np.testing.assert_array_equal(seen, [*before, *[0.0] * (width - before.size)])
    env.action_space.seed(0)
    for _ in range(4):
        action = env.action_space.sample()
        before, reward, *_ = plain.step(action)
        seen, given, *_ = env.step(action)
        one_hot = np.eye(2)[action] if isinstance(env.action_space, spaces.Discrete) else action
        np.testing.assert_array_equal(
            seen, np.concatenate([before, one_hot, [reward]]).astype(seen.dtype)
        )
        assert given == reward
        assert seen in env.observation_space


def test_what_cannot_be_written_behind_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a Box of floats"):
        LastActionAndReward(gymnasium.make("FrozenLake-v1"))
    env = gymnasium.make("Pendulum-v1")
    for actions in (
        spaces.MultiBinary(3),
        spaces.Dict({"turn": spaces.Discrete(2)}),
        spaces.Tuple([spaces.Discrete(2)]),
    ):
        env.action_space = actions
        with pytest.raises(ValueError, match="expected Box, Discrete or MultiDiscrete"):
            LastActionAndReward(env)


class Lenient(gymnasium.Env[Any, Any]):
    """An environment that takes any action."""

    observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = spaces.Discrete(3, start=1)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(3, np.float32), 1.0, False, False, {}


def test_several_choices_are_shown_one_behind_the_other_each_from_its_own_first_one() -> None:
    env = Lenient()
    env.action_space = spaces.MultiDiscrete([2, 3], start=[5, -1])
    informed = LastActionAndReward(env)
    informed.reset()
    assert informed.step(np.array([6, -1]))[0].tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 1]
    assert informed.step(np.array([5, 1]))[0].tolist() == [0, 0, 0, 1, 0, 0, 0, 1, 1]


def test_what_is_no_action_is_shown_to_nobody() -> None:
    env = LastActionAndReward(Lenient())
    env.reset()
    for action in (1, np.int64(2), np.array(3)):
        assert env.step(action)[0].tolist() == [0, 0, 0, *np.eye(3)[int(action) - 1], 1]
    for action in (0, -1, 4, 1.5, [1, 2], math.nan):
        with pytest.raises(gymnasium.error.InvalidAction, match=r"action = .*Discrete"):
            env.step(action)
    known = LastActionAndReward(gymnasium.make("CartPole-v1"))  # which knows its actions itself
    known.reset()
    with pytest.raises(AssertionError, match="invalid"):
        known.step(5)


def rollout_of(env: dict[str, Any], policy: dict[str, Any]) -> tuple[Rollout, Any, Any]:
    config = of_table(
        env={**env, "normalize_observations": True},
        policy=policy,
        population=20,
        batch_members=8,
    )
    rollout = Rollout(config)
    algorithm = make_strategy(config, rollout.policy.layout)
    size = rollout.observation_size
    state = start(algorithm, rollout.policy.initial_parameters(0), size)
    learned = ObservationStatistics(10.0, np.full(size, 0.5), np.full(size, 2.0))
    return rollout, algorithm, type(state)(state.evolution, learned)


@pytest.mark.parametrize("name", [*WORLDS, *BODIES])
@pytest.mark.parametrize("kind", ["hebbian", "static", "gru"])
def test_compiled_episodes_are_those_of_the_wrappers(name: str, kind: str) -> None:
    size = {"units": 4} if kind == "gru" else {"hidden": [5]}
    env = {**WORLDS, **BODIES}[name]
    rollout, _, state = rollout_of(env, {"kind": kind, **size})
    assert rollout.environments.all_compiled() is not None
    rollout.use_statistics(state.observations)
    rollout.load([(0, state.h)])
    seeds = [EpisodeSeeds(3 + episode, 5 + episode) for episode in range(3)]
    played = []
    for stepwise in (False, True, False):
        outcome = rollout.play(seeds, stepwise=stepwise)
        played.append((repr(outcome), rollout.environments.sums_of_observations()))
    assert played[0] == played[1] == played[2]


@pytest.mark.parametrize("name", WORLDS)
def test_lanes_and_lockstep_play_what_members_alone_do(name: str) -> None:
    rollout, algorithm, state = rollout_of(WORLDS[name], {"kind": "hebbian", "hidden": [5]})
    assert can_play(rollout)
    tables = []
    for player in (
        OneByOne(rollout, algorithm),
        SideBySide(rollout, algorithm, 1),
        Lockstep(rollout, algorithm, 1, torch.device("cpu")),
    ):
        records = Records(20, 2, rollout.observation_size)
        player.fill(state, iter(range(22)), records)
        tables.append(records.table)
    for other in tables[1:]:
        np.testing.assert_array_equal(tables[0], other)


def test_a_step_drawn_anew_is_within_its_bounds_and_the_seeds_own() -> None:
    gymnasium.register_envs(esd_envs)
    env = ChangedBody(gymnasium.make("HalfCheetah-v5"), gravity=2.0, at_step=[2, 5])
    model: Any = env.unwrapped.model  # type: ignore[attr-defined]
    drawn = []
    for seed in (0, 1, 2, 3, 4, 5, 6, 7, 0):
        env.reset(seed=seed)
        gravity = []
        for _ in range(7):
            gravity.append(float(model.opt.gravity[2]))
            env.step(np.zeros(6, np.float32))
        drawn.append(gravity.index(2 * gravity[0]) - 1)
    assert set(drawn) == {2, 3, 4, 5}
    assert drawn[0] == drawn[-1]


@pytest.mark.parametrize("at_step", [[5, 2], [1], [0, -1], [0.5, 2]])
def test_bounds_of_a_step_that_are_none_are_refused(at_step: Any) -> None:
    with pytest.raises(ValueError, match="at_step"):
        ChangedBody(gymnasium.make("HalfCheetah-v5"), at_step=at_step)


def test_sensor_noise_is_played_step_by_step_and_that_is_told() -> None:
    env = {"id": "HalfCheetah-v5", "max_steps": 5, "wrappers": [changed(sensor_noise=0.1)]}
    rollout = Rollout(of_table(env=env, policy={"kind": "static", "hidden": [3]}))
    assert rollout.environments.all_compiled() is None
    assert "sensor_noise" in " ".join(rollout.how_played())
