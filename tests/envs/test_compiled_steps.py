"""Compiled steps of Gymnasium's environments beside the environments' own: the same bits in every number."""

from __future__ import annotations

import ctypes
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import esd_envs  # noqa: F401  # registers its environments
from esd_envs import compiled_steps
from esd_envs.compiled_steps import KNOWN, CompiledStep, NotCompiledError, compiled_step

C_RESET = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, *[ctypes.c_void_p] * 3)
C_STEP = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 5)
MUJOCO = ("Hopper", "Walker2d", "Swimmer", "HalfCheetah", "Ant", "Humanoid", "HumanoidStandup")

CASES: list[tuple[str, dict[str, Any]]] = [
    ("CartPole-v1", {}),
    ("CartPole-v1", {"sutton_barto_reward": True}),
    ("Pendulum-v1", {}),
    ("Pendulum-v1", {"g": 3.7}),
    ("MountainCar-v0", {}),
    ("MountainCar-v0", {"goal_velocity": 0.02}),
    ("MountainCarContinuous-v0", {}),
    ("MountainCarContinuous-v0", {"goal_velocity": 0.01}),
    ("Acrobot-v1", {}),
    ("FrozenLake-v1", {}),
    ("FrozenLake-v1", {"map_name": "8x8", "is_slippery": False}),
    ("CliffWalking-v1", {"is_slippery": True}),
    ("Taxi-v4", {}),
    ("Taxi-v4", {"is_rainy": True}),
    ("HalfCheetah-v5", {}),
    (
        "HalfCheetah-v5",
        {"exclude_current_positions_from_observation": False, "ctrl_cost_weight": 0.3, "frame_skip": 2},
    ),
    ("Hopper-v5", {}),
    ("Hopper-v5", {"terminate_when_unhealthy": False, "healthy_state_range": (-3.0, 2.0)}),
    ("Walker2d-v5", {}),
    ("Walker2d-v5", {"healthy_z_range": (1.0, 1.3), "forward_reward_weight": 2.5}),
    ("Swimmer-v5", {}),
    ("Ant-v5", {}),
    (
        "Ant-v5",
        {"include_cfrc_ext_in_observation": False, "contact_force_range": (-0.3, 0.2), "main_body": 3},
    ),
    ("Ant-v5", {"terminate_when_unhealthy": False, "contact_cost_weight": 0.7}),
    ("esd/DamagedAnt-v0", {}),
    ("esd/DamagedAnt-v0", {"leg": "back_left", "fraction": 0.0, "observation": 105}),
    ("esd/DamagedAnt-v0", {"leg": "front_left", "ctrl_cost_weight": 0.5}),
    ("Humanoid-v5", {}),
    ("Humanoid-v5", {"include_cinert_in_observation": False, "contact_cost_range": (0.0, 1e-4)}),
    ("HumanoidStandup-v5", {"include_cvel_in_observation": False}),
    ("Reacher-v5", {}),
    ("Pusher-v5", {}),
    ("InvertedPendulum-v5", {}),
    ("InvertedDoublePendulum-v5", {}),
]  # fmt: skip


class Pair:
    """An environment played by its compiled step beside another one played by its own."""

    def __init__(self, name: str, kwargs: dict[str, Any]) -> None:
        self.env = gymnasium.make(name, disable_env_checker=True, **kwargs)
        self.reference: Any = gymnasium.make(name, disable_env_checker=True, **kwargs).unwrapped
        step = compiled_step(self.env.unwrapped)
        assert step is not None
        self.step: CompiledStep = step
        self._call = C_STEP(step.step_address)
        self._reward = np.zeros(1)

    def flat(self, observation: Any) -> Any:
        space = self.reference.observation_space
        return np.asarray(spaces.flatten(space, observation), self.step.observation.dtype)

    def reset(self, seed: int) -> None:
        observation, _ = self.env.reset(seed=seed)
        expected, _ = self.reference.reset(seed=seed)
        self.step.observation[:] = self.flat(observation)
        self.step.begin()
        assert np.array_equal(self.flat(expected), self.step.observation)

    def act(self, action: Any) -> bool:
        """Act in both; returns whether the episode is over."""
        given = np.atleast_1d(np.asarray(action, np.float32))
        arrays = (given, self.step.parameters, self.step.state, self.step.observation, self._reward)
        over = bool(self._call(*(array.ctypes.data for array in arrays)))
        observation, reward, terminated, _, _ = self.reference.step(action)
        assert np.array_equal(self.flat(observation), self.step.observation)
        assert float(reward) == self._reward[0]
        assert over == terminated
        return over

    def reset_in_c(self, seed: int) -> None:
        """Reset by the C function; the reference by its own."""
        expected, _ = self.reference.reset(seed=seed)
        arrays = (self.step.parameters, self.step.state, self.step.observation)
        C_RESET(self.step.reset_address)(seed, *(array.ctypes.data for array in arrays))
        assert np.array_equal(self.flat(expected), self.step.observation)
        assert self.step.state[: len(self.reference.state)].tolist() == list(self.reference.state)


def actions(space: Any, episode: int) -> Any:
    """Endless actions: random, random and held, or as far as they go."""
    random = np.random.default_rng(episode)
    while True:
        if isinstance(space, spaces.Discrete):
            action: Any = int(random.integers(space.n))
        elif episode % 3 == 2:
            action = np.where(random.random(space.shape) < 0.5, space.low, space.high)
        else:
            action = random.uniform(space.low, space.high).astype(np.float32)
            action *= np.float32(1.0 if episode % 2 else 0.2)
        for _ in range(10 if episode % 3 == 1 else 1):
            yield action


def requires(name: str) -> None:
    if name.partition("-")[0] in MUJOCO or name.startswith(
        ("Inverted", "Reacher", "Pusher", "esd/Dam")
    ):
        pytest.importorskip("mujoco")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "kwargs"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)]
)
def test_a_compiled_step_is_the_step_of_the_environment(name: str, kwargs: dict[str, Any]) -> None:
    requires(name)
    pair = Pair(name, kwargs)
    for episode in range(6):
        pair.reset(episode)
        for _, action in zip(range(150), actions(pair.env.action_space, episode), strict=False):
            if pair.act(action):
                break


RESET_IN_C = ("CartPole-v1", "Pendulum-v1", "MountainCar-v0", "MountainCarContinuous-v0")


@pytest.mark.parametrize("name", RESET_IN_C)
def test_a_compiled_reset_is_the_reset_of_the_environment(name: str) -> None:
    pair = Pair(name, {})
    assert pair.step.reset_address
    for seed in (*range(200), 2**31 - 1):
        pair.step.state[:] = pair.step.observation[:] = np.nan
        pair.reset_in_c(seed)
        for _, action in zip(range(20), actions(pair.env.action_space, seed), strict=False):
            if pair.act(action):
                break


def test_what_draws_otherwise_resets_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Acrobot-v1", "Taxi-v4", "HalfCheetah-v5"):
        requires(name)
        assert Pair(name, {}).step.reset_address == 0
    assert Pair("CartPole-v1", {}).step.reset_address
    compiled_steps.uniforms_agree.cache_clear()
    monkeypatch.setattr(np.random, "PCG64", np.random.MT19937)
    assert Pair("CartPole-v1", {}).step.reset_address == 0
    monkeypatch.undo()
    compiled_steps.uniforms_agree.cache_clear()


def test_every_known_environment_has_a_case() -> None:
    classes = set()
    for name, kwargs in CASES:
        requires(name)
        kind = type(gymnasium.make(name, **kwargs).unwrapped)
        classes.add(f"{kind.__module__}:{kind.__qualname__}")
    assert classes == set(KNOWN)


def test_a_mountain_car_reaches_its_goal() -> None:
    for name in ("MountainCar-v0", "MountainCarContinuous-v0"):
        pair = Pair(name, {})
        pair.reset(0)
        reached = False
        for _ in range(400):
            ahead = pair.step.state[1] >= 0.0
            action = (
                2 * ahead
                if name == "MountainCar-v0"
                else np.array([1.0 if ahead else -1.0], np.float32)
            )
            reached = pair.act(int(action) if name == "MountainCar-v0" else action)
            if reached:
                break
        assert reached


def test_an_acrobot_swings_up() -> None:
    pair = Pair("Acrobot-v1", {})
    pair.reset(0)
    for _ in range(500):
        if pair.act(2 if pair.step.state[3] >= 0.0 else 0):
            return
    pytest.fail("it did not get there")


def test_a_subclass_is_not_known() -> None:
    from gymnasium.envs.classic_control.cartpole import CartPoleEnv

    class Heavier(CartPoleEnv):
        def step(self, action: Any) -> Any:
            return super().step(1 - action)

    assert compiled_step(Heavier()) is None


def test_another_release_of_gymnasium_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gymnasium, "__version__", "99.0")
    with pytest.raises(NotCompiledError, match=r"Gymnasium 99\.0"):
        compiled_step(gymnasium.make("CartPole-v1").unwrapped)


def test_another_sine_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_steps.elementary_functions_agree.cache_clear()
    sine = np.sin
    monkeypatch.setattr(np, "sin", lambda v: np.nextafter(sine(v), 2.0))
    with pytest.raises(NotCompiledError, match="sine"):
        compiled_step(gymnasium.make("CartPole-v1").unwrapped)
    monkeypatch.undo()
    compiled_steps.elementary_functions_agree.cache_clear()


@pytest.mark.parametrize(
    ("name", "kwargs", "reason"),
    [
        ("Taxi-v4", {"fickle_passenger": True}, "fickle_passenger"),
        ("esd/DamagedAnt-v0", {"leg": "front_left", "damage_step": 5}, "damage_step"),
    ],
)
def test_what_changes_in_the_middle_is_not_compiled(
    name: str, kwargs: dict[str, Any], reason: str
) -> None:
    requires(name)
    with pytest.raises(NotCompiledError, match=reason):
        compiled_step(gymnasium.make(name, **kwargs).unwrapped)
