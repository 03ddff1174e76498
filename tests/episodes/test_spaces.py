"""Observations and actions of every supported space, through a real environment that checks them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gymnasium import spaces

from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.episodes.spaces import ActionDecoder, ObservationFlattener
from esd.errors import UsageError
from tests.helpers.configs import of_table, with_objects

OBSERVATIONS = {
    "vector": spaces.Box(-1, 1, (4,)),
    "float64 vector": spaces.Box(-1, 1, (4,), np.float64),
    "image": spaces.Box(0, 255, (5, 4, 3), np.uint8),
    "discrete": spaces.Discrete(5, start=2),
    "multi-discrete": spaces.MultiDiscrete([3, 4]),
    "multi-binary": spaces.MultiBinary(6),
    "dict": spaces.Dict(
        {
            "a": spaces.Box(-1, 1, (2,)),
            "b": spaces.Dict({"c": spaces.Discrete(3), "d": spaces.Box(0, 1, (2, 2))}),
        }
    ),
    "tuple": spaces.Tuple((spaces.Discrete(2), spaces.Box(-1, 1, (3,)))),
}
ACTIONS = {
    "discrete": spaces.Discrete(4),
    "discrete from −3": spaces.Discrete(4, start=-3),
    "multi-discrete": spaces.MultiDiscrete([2, 3, 4]),
    "multi-discrete matrix": spaces.MultiDiscrete(
        np.array([[2, 3], [4, 5]]), start=np.array([[1, 0], [-2, 7]])
    ),
    "bounded": spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32)),
    "bounded matrix, float64": spaces.Box(-1.5, 2.5, (2, 2), np.float64),
    "unbounded": spaces.Box(-math.inf, math.inf, (3,)),
    "half bounded": spaces.Box(
        np.array([0, -math.inf], np.float32), np.array([math.inf, 1], np.float32)
    ),
}


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("action", ["discrete", "bounded"])
def test_every_observation_space_can_be_played(observation: str, action: str) -> None:
    assert_playable(OBSERVATIONS[observation], ACTIONS[action])


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("policy", ["hebbian", "static"])
def test_every_action_space_can_be_played(action: str, policy: str) -> None:
    assert_playable(OBSERVATIONS["vector"], ACTIONS[action], policy)


def assert_playable(
    observation: spaces.Space, action: spaces.Space, policy: str = "hebbian"
) -> None:
    """Play five steps in an environment that asserts every action to be in its space, twice with the same bits."""
    config = of_table(
        env={"id": "tests.helpers.user_code:Spaces-v0"}, policy={"kind": policy, "hidden": [6]}
    )
    rollout = Rollout(with_objects(config, observation_space=observation, action_space=action))
    h = rollout.policy.initial_parameters(0) * np.float32(5.0)
    first = rollout.evaluate(h, [EpisodeSeeds(3, 4)])
    assert (first.steps, first.status) == (5, 0)
    assert rollout.evaluate(h, [EpisodeSeeds(3, 4)]) == first


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_observations_are_flattened_as_gymnasium_flattens_them(name: str) -> None:
    space = OBSERVATIONS[name]
    space.seed(1)
    flattener = ObservationFlattener(space, "test")
    for _ in range(3):
        sample = space.sample()
        expected = np.asarray(spaces.flatten(space, sample), np.float32)
        np.testing.assert_array_equal(flattener(sample), expected)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Graph(spaces.Box(-1, 1, (2,)), None),
        spaces.Text(3),
        spaces.Dict({"speed": spaces.Box(-1, 1, (2,)), "name": spaces.Text(3)}),
        spaces.OneOf([spaces.Discrete(2), spaces.Box(-1, 1, (2,))]),
    ],
    ids=["sequence", "graph", "text", "text in a dict", "one of"],
)
def test_an_unsupported_observation_space_is_refused_by_name(space: spaces.Space) -> None:
    with pytest.raises(UsageError, match=type(space).__name__):
        ObservationFlattener(space, "Env-v0")


@pytest.mark.parametrize(
    "space",
    [
        spaces.MultiBinary(3),
        spaces.Dict({"a": spaces.Discrete(2)}),
        spaces.Box(0, 9, (2,), np.int64),
    ],
    ids=["multi-binary", "dict", "integer box"],
)
def test_an_unsupported_action_space_is_refused_by_name(space: spaces.Space) -> None:
    with pytest.raises(UsageError, match=type(space).__name__):
        ActionDecoder(space, "Env-v0")


def test_outputs_are_scaled_to_the_bounds_of_a_box() -> None:
    decoder = ActionDecoder(ACTIONS["bounded"], "test")
    decoder.outputs_are_squashed(True)
    assert decoder.bounded
    np.testing.assert_array_equal(decoder(np.array([-1, -1], np.float32)), [-2, 0])
    np.testing.assert_array_equal(decoder(np.array([0, 1], np.float32)), [0, 10])
    decoder.outputs_are_squashed(False)
    np.testing.assert_allclose(
        decoder(np.array([0.3, -9], np.float32)), [2 * math.tanh(0.3), 0], atol=1e-6
    )


def test_the_first_of_equal_logits_is_chosen_and_nan_is_no_action() -> None:
    decoder = ActionDecoder(spaces.Discrete(3, start=5), "test")
    assert decoder(np.array([1, 2, 2], np.float32)) == 6
    assert decoder(np.array([1, math.nan, 2], np.float32)) is None
    several = ActionDecoder(ACTIONS["multi-discrete"], "test")
    np.testing.assert_array_equal(
        several(np.array([0, 1, 5, 3, 4, 0, 0, 0, 1], np.float32)), [1, 0, 3]
    )
    assert several(np.array([0, 1, 5, 3, 4, 0, 0, 0, math.nan], np.float32)) is None
    box = ActionDecoder(ACTIONS["unbounded"], "test")
    assert box(np.array([0, 1, math.inf], np.float32)) is None


def test_an_action_is_new_memory_each_time() -> None:
    decoder = ActionDecoder(ACTIONS["bounded"], "test")
    first = decoder(np.zeros(2, np.float32))
    kept = first.copy()
    decoder(np.ones(2, np.float32))
    np.testing.assert_array_equal(first, kept)
