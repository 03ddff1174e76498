"""Whole episodes of environments that know nothing of it, played compiled: the bits of their own steps."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from esd.episodes.environments import Outcome
from esd.episodes.rollout import Rollout
from esd.errors import UsageError
from esd.evolution.observations import ObservationStatistics
from esd_envs.compiled_classic import cart_pole, state
from esd_envs.kernels.gymnasium_classic import step_cart_pole
from tests.helpers.configs import of_table

CHANGED = "esd_envs.changed_body:ChangedBody"
LIMIT = "gymnasium.wrappers:TimeLimit"
WORLDS: list[dict[str, Any]] = [
    {"id": "CartPole-v1"},
    {"id": "Pendulum-v1", "stop_after_negative": 30},
    {"id": "MountainCarContinuous-v0", "max_steps": 50},
    {"id": "FrozenLake-v1"},
    {"id": "HalfCheetah-v5", "max_steps": 50},
    {"id": "Hopper-v5"},
    {"id": "Ant-v5", "max_steps": 50},
    {"id": "Humanoid-v5", "wrappers": [{"id": CHANGED, "kwargs": {"mass": {"torso": 2.0}}}]},
    {"id": "Walker2d-v5", "wrappers": [{"id": LIMIT, "kwargs": {"max_episode_steps": 9}}]},
]


def both(config: Any, statistics: ObservationStatistics | None = None) -> Outcome:
    """Play episodes compiled, step by step and compiled again; all have to have the same bits."""
    rollout = Rollout(config)
    assert rollout.compiled
    if statistics is not None:
        rollout.use_statistics(statistics)
    rollout.load([(0, rollout.policy.initial_parameters(3))])
    seeds = rollout.member_seeds(1, 4)
    results = []
    for stepwise in (False, True, False):
        outcome = rollout.play(seeds, stepwise=stepwise)
        observed = rollout.observed(outcome)
        results.append((repr(outcome), b"" if observed is None else observed.tobytes()))
    rollout.close()
    assert results[0] == results[1] == results[2]
    return outcome


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world["id"])
@pytest.mark.parametrize("kind", ["hebbian", "static"])
@pytest.mark.parametrize("normalize", [False, True])
def test_an_episode_has_the_bits_of_the_environments_own_steps(
    world: dict[str, Any], kind: str, normalize: bool
) -> None:
    if "v5" in world["id"]:
        pytest.importorskip("mujoco")
    env = {**world, "episodes_per_member": 3, "normalize_observations": normalize}
    config = of_table(env=env, policy={"kind": kind, "hidden": [8]})
    size = Rollout(config).interface.observation_size
    learned = ObservationStatistics(10.0, np.full(size, 0.5), np.full(size, 2.0))
    outcome = both(config, learned if normalize else None)
    assert outcome.steps > 3


def test_the_results_of_a_damaged_ant_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mujoco")
    env = {"id": "esd/DamagedAnt-v0", "kwargs": {"leg": "front_left"}, "max_steps": 20}
    rollout = Rollout(of_table(env=env))
    assert rollout.compiled
    rollout.load([(0, rollout.policy.initial_parameters(3))])
    told = []
    for stepwise in (False, True):
        rollout.play(rollout.member_seeds(1, 4), stepwise=stepwise)
        info = rollout.environments.info
        told.append((info["distance"], info["speed"]))
    assert told[0] == told[1]
    assert told[0][0] != 0.0


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({"id": "CartPole-v1", "wrappers": [{"id": LIMIT, "kwargs": {"max_episode_steps": 3000}}]}, "TimeLimit"),
        ({"id": "CartPole-v1", "wrappers": [{"id": "tests.helpers.user_code:Doubled"}]}, "Doubled"),
        ({"id": "HalfCheetah-v5", "wrappers": [{"id": CHANGED, "kwargs": {"sensor_noise": 0.1}}]}, "ChangedBody"),
        ({"id": "esd/DamagedAnt-v0", "kwargs": {"leg": "front_left", "damage_step": 9}}, "damage_step"),
    ],
)  # fmt: skip
def test_what_changes_steps_is_played_step_by_step(env: dict[str, Any], why: str) -> None:
    if not env["id"].startswith("CartPole"):
        pytest.importorskip("mujoco")
    rollout = Rollout(of_table(env=env))
    assert not rollout.compiled
    assert why in rollout.environments.why_stepwise(0)


def test_compiled_steps_can_be_switched_off() -> None:
    rollout = Rollout(of_table(env={"id": "CartPole-v1", "compiled": "never"}))
    assert not rollout.compiled


class Offer:
    """What a user's environment offers: a cart pole's step with a reset of its own."""

    def __init__(self, env: Any) -> None:
        self._env = env
        self.parameters = np.array(cart_pole(env))
        self.state = np.zeros(4)
        self.observation = np.zeros(4, np.float32)
        self.step_address = step_cart_pole.address

    def begin(self) -> None:
        state(self._env, self.parameters, self.state)


class Heavy(gymnasium.envs.classic_control.CartPoleEnv):  # type: ignore[name-defined]
    """A user's environment: a subclass, which is not one that is known."""

    wrong: tuple[str, Any] | None = None

    def __init__(self, wide: bool = False) -> None:
        super().__init__()
        self.masspole = 0.7
        self.total_mass = self.masspole + self.masscart
        self.polemass_length = self.masspole * self.length
        if wide:
            self.observation_space = spaces.Box(-9.0, 9.0, (4,), np.float64)
        self.compiled = Offer(self)
        if self.wrong is not None:
            setattr(self.compiled, *self.wrong)


gymnasium.register("Heavy-v0", entry_point=Heavy, max_episode_steps=60)
HEAVY = {"id": "tests.episodes.test_gymnasium_steps:Heavy-v0"}


def test_a_users_environment_can_offer_its_step_and_keep_its_reset() -> None:
    config = of_table(env={**HEAVY, "episodes_per_member": 4})
    assert both(config).steps > 8


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("observation", np.zeros(3, np.float32)), r"float32 \[3\], expected a float32 vector of 4"),
        (("observation", np.zeros(4)), r"compiled.observation is float64 \[4\], expected a float32"),
        (("step_address", 0), "compiled.step_address is 0, expected the address"),
        (("state", None), "compiled.state is None, expected a float64 vector"),
    ],
)  # fmt: skip
def test_an_offer_that_cannot_be_called_is_a_clear_error(
    wrong: tuple[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Heavy, "wrong", wrong)
    with pytest.raises(UsageError, match=message):
        Rollout(of_table(env=HEAVY))
