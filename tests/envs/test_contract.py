"""What every environment of ``esd_envs`` has to keep: its interface, and law 1 in any order of episodes.

Law 1 is also held by the environments of others that esd ships experiments or promises for.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import esd_envs
from esd.config.settings import Config
from esd.doctor import purity
from esd.doctor.machine import Verdict
from esd.episodes.environments import Outcome
from esd.episodes.rollout import Rollout
from tests.helpers.configs import of_table

gymnasium.register_envs(esd_envs)
REGISTERED = sorted(name for name in gymnasium.registry if name.startswith("esd/"))
ANT = {"id": "esd/DamagedAnt-v0"}


def changed(id: str, **kwargs: Any) -> dict[str, Any]:
    """An environment in the wrapper."""
    return {"id": id, "wrappers": [{"id": "esd_envs:ChangedBody", "kwargs": kwargs}]}


OTHERS = (
    "CartPole-v1",
    "Pendulum-v1",
    "HalfCheetah-v5",
    "Walker2d-v5",
    "Ant-v5",
    "CarRacing-v3",
    "BipedalWalker-v3",
)
WORLDS: dict[str, dict[str, Any]] = {
    **{id: {"id": id} for id in (*REGISTERED, *OTHERS)},
    "cart pole, another world": {
        "id": "esd/HiddenCartPole-v0",
        "kwargs": {"pole_length": 2.0, "gravity": 3.7, "sign": "random"},
    },
    "recall, noisy": {
        "id": "esd/AssociativeRecall-v0",
        "kwargs": {"pairs": 30, "queries": 8, "cue_noise": 0.1, "cues": 11},
    },
    "repeating cards, two decks": {
        "id": "esd/RepeatPrevious-v0",
        "kwargs": {"num_decks": 2, "k": 7},
    },
    "T-maze, walking": {"id": "esd/TMaze-v0", "kwargs": {"length": 30, "forced": False}},
    "endless T-maze, walking": {
        "id": "esd/EndlessTMaze-v0",
        "kwargs": {"junctions": 3, "forced": False, "stop_at_error": True},
    },
    "color cubes, hidden colors": {
        "id": "esd/ColorCubes-v0",
        "kwargs": {"updates": "positions", "cubes": 4, "colors": 5, "teleport": 0.5},
    },
    "car, pooled": {"id": "esd/FastCarRacing-v3", "wrappers": ["esd_envs:PooledCar"]},
    "ant, short leg": {**ANT, "kwargs": {"leg": "front_right", "observation": 105}},
    "ant, damaged at step 9": {**ANT, "kwargs": {"leg": "back_left", "damage_step": 9}},
    "ant, leg lost at step 9": {
        **ANT,
        "kwargs": {"leg": "front_left", "fraction": 0.0, "damage_step": 9, "observation": 105},
    },
    "ant, damaged, in another world": {
        **changed("esd/DamagedAnt-v0", gravity=1.3, friction=0.5, actuators=0.8, at_step=12),
        "kwargs": {"leg": "front_left", "fraction": 0.0, "damage_step": 9},
    },
    "cheetah, all changed at step 9": changed(
        "HalfCheetah-v5",
        scale={"bshin": 0.5},
        mass={"head": 3.0},
        friction=0.5,
        gravity=1.5,
        actuators={"bthigh": 0.7},
        sensor_noise=0.05,
        at_step=9,
    ),
    "walker, short leg": changed("Walker2d-v5", scale={"leg": 0.7}, sensor_noise=0.01),
    "hopper, weak at step 9": changed("Hopper-v5", actuators=0.7, at_step=9),
    "ant, short leg by the wrapper": changed(
        "Ant-v5", scale={"left_ankle_geom": 0.25}, sensor_noise=0.01, at_step=9
    ),
    "humanoid, heavy": changed("Humanoid-v5", mass={"torso": 2.0}, friction=0.7),
}


@pytest.fixture(params=WORLDS)
def config(request: pytest.FixtureRequest) -> Config:
    """Every environment of ours, others, and the wrapper around others."""
    return of_table(env={"episodes_per_member": 2, "max_steps": 40, **WORLDS[request.param]})


def test_the_doctor_finds_nothing_to_say_against_it(config: Config) -> None:
    """Same bits twice, after others, abandoned ones and an exception in step, in another object and process."""
    steps = (
        30 if config.env.id == "CarRacing-v3" else 100
    )  # it draws every step's picture ten times larger
    checks = list(purity.examine(dataclasses.replace(config.env, max_steps=0), steps=steps))
    assert [check for check in checks if check.state is not Verdict.OK] == []
    assert {*purity.HISTORIES, "a new object", "a new process"} < {c.name for c in checks}


def evaluated(rollout: Rollout, member: int) -> Outcome:
    """Play a member whose parameters are its own."""
    h = rollout.policy.initial_parameters(member)
    return rollout.evaluate(h, rollout.member_seeds(3, member))


def crash(rollout: Rollout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave an episode in its middle, after all that happens at step 9 or 12."""
    act, steps = rollout.policy.act, 0

    def fails(observation: np.ndarray) -> np.ndarray:
        nonlocal steps
        steps += 1
        if steps == 15:
            raise RuntimeError("a policy broke")
        return act(observation)

    with monkeypatch.context() as patch:
        patch.setattr(rollout.policy, "act", fails)
        rollout.load([(0, rollout.policy.initial_parameters(2))])
        with pytest.raises(RuntimeError, match="a policy broke"):
            rollout.play(rollout.member_seeds(3, 2), stepwise=True)


def test_a_member_gives_the_same_bits_first_last_twice_elsewhere_and_after_a_crash(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = Rollout(config), Rollout(config)
    first = evaluated(here, 5)
    others = [evaluated(here, member) for member in (1, 8)]
    assert evaluated(here, 5) == first
    assert evaluated(here, 5) == first
    crash(here, monkeypatch)
    assert evaluated(here, 5) == first
    assert [evaluated(elsewhere, member) for member in (1, 8)] == others
    assert evaluated(elsewhere, 5) == first
    assert len({first, *others}) > 1, "all members are alike"
    here.close()
    elsewhere.close()


def observations(env: gymnasium.Env[Any, Any], seed: int, steps: int = 40) -> list[Any]:
    """What is seen in an episode of random actions, and the rewards."""
    env.action_space.seed(seed)
    seen: list[Any] = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        observation, reward, terminated, _, _ = env.step(env.action_space.sample())
        seen += [observation, reward]
        if terminated:
            break
    return seen


@pytest.mark.parametrize("id", REGISTERED)
def test_two_seeds_give_two_episodes_and_one_seed_gives_one(id: str) -> None:
    env = gymnasium.make(id)
    first, other, again = (observations(env, seed) for seed in (1, 2, 1))
    assert len(first) == len(again)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=False))


@pytest.mark.filterwarnings("ignore::UserWarning")  # of unbounded observations
@pytest.mark.parametrize("id", REGISTERED)
def test_gymnasium_finds_no_fault_with_it(id: str) -> None:
    check_env(gymnasium.make(id, disable_env_checker=True).unwrapped, skip_render_check=True)


COMPILED = [id for id in REGISTERED if hasattr(gymnasium.make(id).unwrapped, "compiled")]
GOES_ON = """
import pickle, sys
env, actions = pickle.load(sys.stdin.buffer)
pickle.dump([env.step(action) for action in actions], sys.stdout.buffer)
"""


@pytest.mark.parametrize("id", COMPILED)
def test_a_pickled_compiled_world_goes_on_in_this_and_another_process(id: str) -> None:
    env = gymnasium.make(id)
    env.action_space.seed(0)
    env.reset(seed=3)
    env.step(env.action_space.sample())
    actions = [env.action_space.sample() for _ in range(3)]
    pickled = pickle.dumps((env, actions))
    there = subprocess.run(
        [sys.executable, "-c", GOES_ON], input=pickled, stdout=subprocess.PIPE, check=True
    )
    copied, here = copy.deepcopy(env), pickle.loads(pickled)[0]
    expected = [env.step(action) for action in actions]
    for found in (
        pickle.loads(there.stdout),
        [here.step(action) for action in actions],
        [copied.step(action) for action in actions],
    ):
        for (seen, *rest), (seen_there, *rest_there) in zip(found, expected, strict=True):
            assert seen.tobytes() == seen_there.tobytes()
            assert rest == rest_there


@pytest.mark.parametrize("id", COMPILED)
def test_a_compiled_world_refuses_what_is_no_action_and_steps_before_a_reset(id: str) -> None:
    env = gymnasium.make(id).unwrapped
    if isinstance(env.action_space, gymnasium.spaces.Discrete):
        legal: list[Any] = [1, np.int64(1), np.array(1), np.uint8(1)]
        illegal: list[Any] = [env.action_space.n, -1, 1.0, [1], np.array([1])]
    else:
        legal = [[0.5], np.array([0.5], np.float32), np.array([0.5])]
        illegal = [0.5, [0.5, 0.5], [math.inf], [math.nan], [None], [10**400]]
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        env.step(legal[0])
    seen = set()
    for action in legal:
        env.reset(seed=0)
        seen.add(env.step(action)[0].tobytes())
    assert len(seen) == 1
    state = env.compiled.state.copy()
    for action in (*illegal, None, math.nan, "left"):
        with pytest.raises(gymnasium.error.InvalidAction, match=r"action = .*expected one of"):
            env.step(action)
    np.testing.assert_array_equal(env.compiled.state, state)


@pytest.mark.parametrize(
    "id", sorted({*COMPILED} - {"esd/HiddenCartPole-v0", "esd/HiddenPendulum-v0"})
)
def test_what_is_not_drawn_has_no_render_mode(id: str) -> None:
    assert gymnasium.make(id, render_mode=None).render_mode is None
    with (
        pytest.warns(UserWarning, match="render_mode"),
        pytest.raises(ValueError, match="render_mode = 'human': expected None"),
    ):
        gymnasium.make(id, render_mode="human")


@pytest.mark.parametrize(
    ("id", "wrapper", "kwargs"),
    [
        ("Hopper-v5", "ChangedBody", {"gravity": 2.0, "mass": {"foot": 2.0}, "at_step": [2, 4]}),
        ("CartPole-v1", "LastActionAndReward", {}),
        ("CartPole-v1", "ZeroAction", {}),
        ("esd/FastCarRacing-v3", "PooledCar", {"rows": 6}),
    ],
)
def test_an_environment_in_a_wrapper_is_made_again_from_its_spec(
    id: str, wrapper: str, kwargs: dict[str, Any]
) -> None:
    env = getattr(esd_envs, wrapper)(gymnasium.make(id), **kwargs)
    again = gymnasium.make(env.spec)
    assert type(again) is type(env)
    assert again.observation_space == env.observation_space
    for seen, expected in zip(observations(again, 1, 6), observations(env, 1, 6), strict=True):
        np.testing.assert_array_equal(seen, expected)
