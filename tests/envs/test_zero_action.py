"""``ZeroAction``: the arm that does nothing."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from esd.config.settings import EnvironmentConfig, Wrapper
from esd.episodes.making import make_environment
from esd.errors import UsageError
from esd_envs import ZeroAction
from tests.helpers.configs import of_table
from tests.helpers.user_code import Spaces

OBSERVATIONS = spaces.Box(-1.0, 1.0, (3,))
CASES = {
    "Box": (spaces.Box(-1.0, 1.0, (2, 3)), np.zeros((2, 3), np.float32)),
    "Box without zero": (
        spaces.Box(np.float32([0.5, -2.0]), np.float32([1.0, -1.0])),
        np.float32([0.5, -1.0]),
    ),
    "Box without bounds": (spaces.Box(-np.inf, np.inf, (2,)), np.zeros(2, np.float32)),
    "Discrete": (spaces.Discrete(4), 0),
    "Discrete from 3 on": (spaces.Discrete(4, start=3), 3),
    "MultiDiscrete": (spaces.MultiDiscrete([3, 2], start=[0, 5]), np.array([0, 5])),
    "MultiBinary": (spaces.MultiBinary(3), np.zeros(3, np.int8)),
}


class Recording(Spaces):
    """Keeps the actions that reach it."""

    def step(self, action: Any) -> Any:
        self.action = action
        return super().step(action)  # it checks that the space contains it


@pytest.mark.parametrize("name", CASES)
def test_the_zero_action_is_played_whatever_is_given(name: str) -> None:
    space, expected = CASES[name]
    env = Recording(OBSERVATIONS, space)
    wrapped = ZeroAction(env)
    assert wrapped.action_space == space
    wrapped.reset(seed=0)
    kept = []
    for _ in range(2):
        wrapped.step(space.sample())
        np.testing.assert_array_equal(env.action, expected)
        kept.append(env.action)
    assert kept[0] is not kept[1] or np.isscalar(kept[0]), "an environment may keep its action"


def test_parts_of_dict_and_tuple_are_zero() -> None:
    space = spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Tuple([spaces.Box(1.0, 2.0, (1,))])})
    env = Recording(OBSERVATIONS, space)
    wrapped = ZeroAction(env)
    wrapped.reset(seed=0)
    wrapped.step(None)
    assert env.action == {"a": 0, "b": (np.float32([1.0]),)}


def test_an_action_space_without_zero_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="has no zero action"):
        ZeroAction(Spaces(OBSERVATIONS, spaces.Text(3)))
    gymnasium.register("Talking-v0", lambda: Spaces(OBSERVATIONS, spaces.Text(3)))
    config = EnvironmentConfig(id="Talking-v0", wrappers=(Wrapper("esd_envs:ZeroAction"),))
    with pytest.raises(UsageError, match=r"esd_envs:ZeroAction with .* has no zero action"):
        make_environment(config)


def test_two_policies_have_the_same_episodes_when_neither_may_act() -> None:
    env = {"id": "Pendulum-v1", "wrappers": ["esd_envs:ZeroAction"], "max_steps": 20}
    made = make_environment(of_table(env=env).env)
    plain = make_environment(of_table(env={"id": "Pendulum-v1"}).env)
    made.reset(seed=1)
    plain.reset(seed=1)
    for _ in range(5):
        np.testing.assert_array_equal(
            made.step(made.action_space.sample())[0], plain.step(np.zeros(1, np.float32))[0]
        )
