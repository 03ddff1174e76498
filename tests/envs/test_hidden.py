"""The cart pole and the pendulum with hidden parameters, beside Gymnasium's own."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
import pytest

import esd_envs

gymnasium.register_envs(esd_envs)
CART_POLE, PENDULUM = "esd/HiddenCartPole-v0", "esd/HiddenPendulum-v0"
ORIGINALS = {CART_POLE: "CartPole-v1", PENDULUM: "Pendulum-v1"}
# in torque's cost, which has single precision there, numpy's power may differ from a product in the last bit
REWARD_TOLERANCE = {CART_POLE: 0.0, PENDULUM: 1e-9}
# keywords, and what they are called in Gymnasium's environments
CHANGES: dict[str, tuple[str, dict[str, Any], dict[str, float]]] = {
    "cart pole": (CART_POLE, {}, {}),
    "long pole": (CART_POLE, {"pole_length": 2.0}, {"length": 1.0, "polemass_length": 0.1}),
    "heavy pole": (
        CART_POLE,
        {"pole_mass": 0.3},
        {"masspole": 0.3, "total_mass": 1.3, "polemass_length": 0.15},
    ),
    "light cart": (CART_POLE, {"cart_mass": 0.4}, {"masscart": 0.4, "total_mass": 0.5}),
    "cart pole on the Moon": (CART_POLE, {"gravity": 1.62}, {"gravity": 1.62}),
    "strong cart": (CART_POLE, {"force": 15}, {"force_mag": 15.0}),
    "pulled cart": (CART_POLE, {"sign": -1}, {"force_mag": -10.0}),
    "pendulum": (PENDULUM, {}, {}),
    "long pendulum": (PENDULUM, {"length": 1.5}, {"l": 1.5}),
    "heavy pendulum": (PENDULUM, {"mass": 2.0}, {"m": 2.0}),
    "pendulum on Mars": (PENDULUM, {"gravity": 3.73}, {"g": 3.73}),
    "weak pendulum": (PENDULUM, {"max_torque": 1.0}, {"max_torque": 1.0}),
}


def pair(name: str) -> tuple[gymnasium.Env, gymnasium.Env]:
    """Ours, and Gymnasium's with the same changes made to its attributes."""
    id, kwargs, attributes = CHANGES[name]
    ours, original = gymnasium.make(id, **kwargs), gymnasium.make(ORIGINALS[id])
    for key, value in attributes.items():
        assert hasattr(original.unwrapped, key)
        setattr(original.unwrapped, key, value)
    return ours, original


def an_action(env: gymnasium.Env, rng: np.random.Generator, episode: int) -> Any:
    """At random, also out of bounds; in every other episode of the cart pole what keeps it up for long."""
    if isinstance(env.action_space, gymnasium.spaces.Box):
        return rng.uniform(-2.5, 2.5, 1).astype(np.float32)
    state = env.unwrapped.state
    return int(state[2] + state[3] > 0) if episode % 2 else int(rng.integers(2))


@pytest.mark.parametrize("name", CHANGES)
def test_the_same_actions_give_gymnasiums_states_rewards_and_ends(name: str) -> None:
    ours, original = pair(name)
    rng = np.random.default_rng(0)
    steps = 0
    for episode in range(20):
        first, _ = ours.reset(seed=episode)
        original.reset(seed=0)
        original.unwrapped.state = ours.unwrapped.state.copy()
        assert ours.observation_space.contains(first)
        over = False
        while not over:
            action = an_action(ours, rng, episode)
            seen, reward, *ends, _ = ours.step(action)
            seen_there, reward_there, *ends_there, _ = original.step(action)
            state = np.asarray(original.unwrapped.state)
            assert np.abs(ours.unwrapped.state - state).max() < 1e-12 * max(
                1.0, np.abs(state).max()
            )
            assert np.abs(seen - seen_there).max() < 1e-6
            assert abs(reward - reward_there) <= REWARD_TOLERANCE[CHANGES[name][0]]
            assert ends == ends_there
            original.unwrapped.state = ours.unwrapped.state.copy()  # falling multiplies last bits
            over = any(ends)
            steps += 1
    assert steps > 200


def test_whole_episodes_are_gymnasiums() -> None:
    for id, original_id in ORIGINALS.items():
        ours, original = gymnasium.make(id), gymnasium.make(original_id)
        rng = np.random.default_rng(1)
        for episode in range(20):
            ours.reset(seed=episode)
            original.reset(seed=0)
            original.unwrapped.state = ours.unwrapped.state.copy()
            over = False
            while not over:
                action = an_action(ours, rng, episode)
                seen, *_, terminated, truncated, _ = ours.step(action)
                seen_there = original.step(action)[0]
                over = terminated or truncated
            np.testing.assert_allclose(seen, seen_there, atol=1e-6)


@pytest.mark.parametrize("id", ORIGINALS)
def test_a_negative_sign_is_the_mirrored_action(id: str) -> None:
    one, mirrored = gymnasium.make(id), gymnasium.make(id, sign=-1)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(one.reset(seed=3)[0], mirrored.reset(seed=3)[0])
    for _ in range(8):
        action = an_action(one, rng, 0)
        other = -action if isinstance(action, np.ndarray) else 1 - action
        seen, there = one.step(action), mirrored.step(other)
        np.testing.assert_array_equal(seen[0], there[0])
        assert seen[1] == there[1]


@pytest.mark.parametrize("id", ORIGINALS)
def test_a_random_sign_is_drawn_in_every_reset_and_changes_nothing_else(id: str) -> None:
    def moved(sign: Any, seed: int) -> bytes:
        env = gymnasium.make(id, sign=sign)
        first = env.reset(seed=seed)[0]
        action = env.action_space.high if id == PENDULUM else 1
        return first.tobytes() + b"".join(env.step(action)[0].tobytes() for _ in range(3))

    drawn, states = [], []
    for seed in range(200):
        both = [moved(1, seed), moved(-1, seed)]
        drawn.append(both.index(moved("random", seed)))
        states.append(np.frombuffer(both[0], np.float32, 4 if id == CART_POLE else 3))
    assert 70 < sum(drawn) < 130
    # the state tells nothing about it
    assert np.abs(np.corrcoef(np.array(states).T, drawn)[-1, :-1]).max() < 5 / np.sqrt(200)


@pytest.mark.parametrize(("id", "bounds"), [(CART_POLE, [0.05] * 4), (PENDULUM, [np.pi, 1.0])])
def test_initial_states_are_uniform_and_independent(id: str, bounds: list[float]) -> None:
    env = gymnasium.make(id)
    states = []
    for seed in range(4000):
        env.reset(seed=seed)
        states.append(env.unwrapped.state.copy())
    drawn = np.array(states) / bounds
    assert np.abs(drawn).max() <= 1.0
    assert len(np.unique(drawn[:, 0])) == 4000
    # five standard errors
    assert np.abs(drawn.mean(axis=0)).max() < 5 / np.sqrt(3 * 4000)
    assert np.abs((drawn**2).mean(axis=0) - 1 / 3).max() < 5 * np.sqrt(4 / 45 / 4000)
    products = np.corrcoef(np.concatenate([drawn.T, np.roll(drawn.T, 1, axis=1)]))
    assert np.abs(products - np.eye(len(products))).max() < 5 / np.sqrt(4000)


@pytest.mark.parametrize("id", ORIGINALS)
def test_resets_without_a_seed_follow_the_last_seed_as_gymnasium_has_it(id: str) -> None:
    def episodes(seed: int) -> list[bytes]:
        env = gymnasium.make(id)
        return [env.reset(seed=seed)[0].tobytes()] + [env.reset()[0].tobytes() for _ in range(5)]

    assert episodes(1) == episodes(1)
    assert len({*episodes(1), *episodes(2)}) == 12


def test_options_of_a_reset_hold_for_that_reset_alone() -> None:
    env = gymnasium.make(CART_POLE)
    usual = env.reset(seed=1)[0]
    assert env.reset(seed=1, options={"low": 0.1, "high": 0.11})[0].min() >= 0.1
    np.testing.assert_array_equal(env.reset(seed=1)[0], usual)
    env = gymnasium.make(PENDULUM)
    usual = env.reset(seed=1)[0]
    env.reset(seed=1, options={"x_init": 0.01, "y_init": 0.0})
    assert abs(env.unwrapped.state[0]) <= 0.01
    assert env.unwrapped.state[1] == 0.0
    np.testing.assert_array_equal(env.reset(seed=1)[0], usual)


@pytest.mark.parametrize(
    ("id", "kwargs", "message"),
    [
        (CART_POLE, {"pole_length": 0}, "pole_length = 0: expected a number above 0"),
        (CART_POLE, {"pole_mass": -0.1}, "pole_mass = -0.1"),
        (CART_POLE, {"cart_mass": float("inf")}, "cart_mass = inf"),
        (CART_POLE, {"gravity": -1}, "gravity = -1: expected a number of at least 0"),
        (CART_POLE, {"force": True}, "force = True"),
        (CART_POLE, {"start": -0.1}, "start = -0.1"),
        (CART_POLE, {"sign": 2}, "sign = 2: expected 1, -1 or 'random'"),
        (CART_POLE, {"sign": "left"}, "sign = 'left'"),
        (CART_POLE, {"sign": True}, "sign = True"),
        (CART_POLE, {"sign": np.array([1, 1])}, r"sign = array\(\[1, 1\]\): expected 1, -1"),
        (CART_POLE, {"start": 10**400}, "start = a huge number: expected a number of at least 0"),
        (PENDULUM, {"length": "long"}, "length = 'long'"),
        (PENDULUM, {"mass": float("nan")}, "mass = nan"),
        (PENDULUM, {"max_torque": [2.0]}, r"max_torque = \[2.0\]"),
        (PENDULUM, {"sign": [1]}, r"sign = \[1\]"),
    ],
)
def test_a_value_that_makes_no_world_is_a_clear_error(
    id: str, kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        gymnasium.make(id, **kwargs)


def test_episodes_begin_as_far_from_upright_as_asked_for() -> None:
    near, far = gymnasium.make(CART_POLE), gymnasium.make(CART_POLE, start=0.15)
    for seed in range(20):
        near.reset(seed=seed)
        far.reset(seed=seed)
        np.testing.assert_allclose(far.unwrapped.state, 3 * near.unwrapped.state, rtol=1e-12)


def test_zero_gravity_is_a_world() -> None:
    env = gymnasium.make(CART_POLE, gravity=0)
    env.reset(seed=0)
    assert np.isfinite(env.step(1)[0]).all()


@pytest.mark.parametrize("id", ORIGINALS)
def test_pictures_are_gymnasiums(id: str) -> None:
    ours = gymnasium.make(id, render_mode="rgb_array")
    original = gymnasium.make(ORIGINALS[id], render_mode="rgb_array")
    ours.reset(seed=1)
    original.reset(seed=1)
    original.unwrapped.state = ours.unwrapped.state.copy()
    action = an_action(ours, np.random.default_rng(0), 0)
    ours.step(action)
    original.step(action)
    np.testing.assert_array_equal(ours.render(), original.render())
    ours.close()
    original.close()


@pytest.mark.parametrize("id", ORIGINALS)
def test_a_deep_copy_goes_on_from_the_same_state_in_memory_of_its_own(id: str) -> None:
    env, other = gymnasium.make(id), gymnasium.make(id)
    action = env.action_space.sample()
    for same in (env, other):
        same.reset(seed=3)
        same.step(action)
    copied = copy.deepcopy(env)
    for _ in range(3):  # of which the copy must not notice anything
        env.step(action)
    env.reset(seed=4)
    for _ in range(4):
        ours, expected = copied.step(action), other.step(action)
        assert ours[0].tobytes() == expected[0].tobytes()
        assert ours[1:] == expected[1:]
        assert list(copied.unwrapped.state) == list(other.unwrapped.state)


@pytest.mark.parametrize("name", CHANGES)
def test_gymnasiums_attributes_are_those_of_this_world(name: str) -> None:
    ours, original = (env.unwrapped for env in pair(name))
    for key in ("gravity", "masscart", "masspole", "total_mass", "length", "polemass_length"):
        if hasattr(original, key):
            assert getattr(ours, key) == pytest.approx(getattr(original, key))
    for key in ("g", "m", "l", "max_torque"):
        assert getattr(ours, key, None) == getattr(original, key, None)
    assert getattr(ours, "force_mag", None) == pytest.approx(
        abs(original.force_mag) if hasattr(original, "force_mag") else None
    )


@pytest.mark.parametrize("id", ORIGINALS)
def test_a_state_that_is_set_is_stepped_from(id: str) -> None:
    ours, original = gymnasium.make(id), gymnasium.make(ORIGINALS[id])
    for env in (ours, original):
        env.reset(seed=0)
        env.unwrapped.state = np.array([0.1, -0.2, 0.05, 0.3][: len(env.unwrapped.state)])
    action = an_action(ours, np.random.default_rng(0), 0)
    np.testing.assert_allclose(ours.step(action)[0], original.step(action)[0], atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*You are calling")
def test_steps_after_the_end_of_an_episode_are_not_rewarded_until_the_next() -> None:
    rewards = []
    for env in pair("cart pole"):
        env.reset(seed=1)
        env.unwrapped.state = np.zeros(4)
        rewards.append([env.step(1)[1] for _ in range(20)])
        env.reset(seed=1)
        rewards[-1].append(env.step(1)[1])
    ours, originals = rewards
    assert ours == originals
    assert 0.0 in ours
