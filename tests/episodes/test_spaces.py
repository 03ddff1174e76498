"""Observations and actions of every supported space, through a real environment that checks them."""

from __future__ import annotations

import math
import re

import hypothesis
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import strategies as st

from esd.episodes.evaluator import OneByOne
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.episodes.spaces import ActionDecoder, ObservationFlattener, action_numbers
from esd.errors import UsageError
from esd.evolution.records import Records
from esd.evolution.state import make_strategy, start
from esd.problems.episodes import make_player
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
    "multi-binary": spaces.MultiBinary(3),
    "multi-binary matrix": spaces.MultiBinary([2, 3]),
    "integers": spaces.Box(-2, 7, (2, 2), np.int64),
    "bytes": spaces.Box(0, 255, (3,), np.uint8),
    "dict": spaces.Dict(
        {
            "wheel": spaces.Box(-1.0, 1.0, (2,)),
            "a gear": spaces.Discrete(3, start=1),
            "lights": spaces.Tuple(
                (spaces.MultiBinary(2), spaces.Dict({"left": spaces.Discrete(2)}))
            ),
        }
    ),
    "tuple": spaces.Tuple((spaces.MultiDiscrete([2, 3]), spaces.Box(0.0, 2.0, (1,), np.float64))),
    "dict of bounded boxes": spaces.Dict(
        {"x": spaces.Box(-2.0, 2.0, (2,)), "n": spaces.Box(0, 4, (1,), np.int32)}
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
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Graph(spaces.Box(-1, 1, (2,)), None),
        spaces.Text(3),
        spaces.Tuple((spaces.Discrete(2), spaces.Dict({"name": spaces.Text(3)}))),
        spaces.OneOf([spaces.Discrete(2), spaces.Box(-1, 1, (2,))]),
    ],
    ids=["sequence", "graph", "text", "text in a dict in a tuple", "one of"],
)
def test_an_unsupported_action_space_is_refused_by_name(space: spaces.Space) -> None:
    with pytest.raises(UsageError, match=type(space).__name__) as caught:
        ActionDecoder(space, "Env-v0")
    assert "supported: Box, Discrete, MultiDiscrete, MultiBinary, and Dict or Tuple" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(-(2**25), 2**25, (2,), np.int64), "bounds of at most ±16,777,216"),
        (spaces.Box(np.iinfo(np.int64).min, np.iinfo(np.int64).max - 2, (2,), np.int64), "±16,777,216"),
        (spaces.Box(-3e38, 3e38, (2,)), "too far apart for float32: use Box(-np.inf, np.inf"),
    ],
)  # fmt: skip
def test_bounds_that_no_output_can_be_scaled_to_are_refused(
    space: spaces.Space, message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        ActionDecoder(space, "Env-v0")


@st.composite
def boxes(draw: st.DrawFn) -> spaces.Box:
    """Boxes of any type: bounded, half bounded, unbounded, and with equal bounds."""
    dtype = np.dtype(draw(st.sampled_from(["f2", "f4", "f8", "i1", "u1", "i4", "i8", "?"])))
    if dtype.kind == "f":
        bound: st.SearchStrategy[float] = st.floats(allow_nan=False, width=8 * dtype.itemsize)  # type: ignore[arg-type]
        bound |= st.sampled_from([0.1, 0.7, -3.3, math.inf, -math.inf]).map(
            lambda x: float(dtype.type(x))
        )
    elif dtype.kind == "b":
        bound = st.integers(0, 1)
    else:
        limits, most = np.iinfo(dtype), 1 << 24
        bound = st.integers(max(limits.min, -most), min(limits.max, most))
    size = draw(st.integers(1, 4))
    pairs = [sorted((draw(bound), draw(bound))) for _ in range(size)]
    pairs = [(a, a) if draw(st.booleans()) and math.isfinite(a) else (a, b) for a, b in pairs]
    hypothesis.assume(all(a < math.inf and b > -math.inf for a, b in pairs))
    low, high = (np.array(ends).astype(dtype) for ends in zip(*pairs, strict=True))
    shape = draw(st.sampled_from([(size,), (1, size)]))
    return spaces.Box(low.reshape(shape), high.reshape(shape), dtype=dtype.type)


@pytest.mark.filterwarnings("error")
@hypothesis.given(boxes(), st.booleans(), st.data())
@hypothesis.settings(deadline=None, max_examples=500)
def test_every_action_is_finite_and_in_its_box(
    space: spaces.Box, squashed: bool, data: st.DataObject
) -> None:
    try:
        decoder = ActionDecoder(space, "test")
    except UsageError:  # its bounds are too far apart
        hypothesis.reject()
    decoder.outputs_are_squashed(squashed)
    numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
    numbers |= st.sampled_from([-1.0, 0.0, 1.0, -50.0, 50.0])
    outputs = data.draw(st.lists(numbers, min_size=decoder.size, max_size=decoder.size))
    action = decoder(np.array(outputs, np.float32))
    assert action in space
    assert action.dtype == space.dtype
    assert np.isfinite(action).all()


def test_actions_of_a_box_reach_its_own_bounds_in_the_type_of_the_space() -> None:
    low, high = np.array([0.7, -0.1, -3.3, -math.inf]), np.array([math.inf, 0.1, -3.3, 0.1])
    decoder = ActionDecoder(spaces.Box(low, high, dtype=np.float64), "test")
    assert decoder.tables is None  # compiled episodes know float32 alone
    decoder.outputs_are_squashed(True)
    assert decoder(np.full(4, -1, np.float32)).tolist() == [0.7, -0.1, -3.3, -1.0]
    assert decoder(np.full(4, 1, np.float32)).tolist() == [1.0, 0.1, -3.3, 0.1]
    number = ActionDecoder(spaces.Box(0.7, math.inf, (), np.float64), "test")
    assert number(np.zeros(1, np.float32)) == np.array(0.7)
    assert number(np.zeros(1, np.float32)).shape == ()
    half = ActionDecoder(spaces.Box(-math.inf, math.inf, (2,), np.float16), "test")
    assert half(np.array([1e6, -1e6], np.float32)).tolist() == [65504.0, -65504.0]


@pytest.mark.parametrize("bound", [1.0, 0.5, math.inf])
def test_bounds_that_float32_has_leave_the_compiled_decoder_as_it_is(bound: float) -> None:
    decoder = ActionDecoder(spaces.Box(-bound, bound, (3,), np.float64), "test")
    assert decoder.tables is not None
    same = ActionDecoder(spaces.Box(-bound, bound, (3,), np.float32), "test")
    outputs = np.array([-50, 0.3, 2], np.float32)
    assert decoder(outputs).tolist() == same(outputs).tolist()


@pytest.mark.filterwarnings("error")
def test_a_bound_beyond_float32_is_none() -> None:
    decoder = ActionDecoder(spaces.Box(-1e300, 1e300, (2,), np.float64), "test")
    assert not decoder.bounded
    assert decoder(np.array([3e38, -7], np.float32)).tolist() == [np.float32(3e38), -7]


def test_each_output_is_a_bit_of_a_multi_binary() -> None:
    decoder = ActionDecoder(ACTIONS["multi-binary matrix"], "test")
    assert (decoder.size, decoder.bounded, decoder.tables) == (6, False, None)
    action = decoder(np.array([1, -1, 0, 1e-9, math.inf, -math.inf], np.float32))
    assert action.tolist() == [[1, 0, 0], [1, 1, 0]]
    assert action.dtype == np.int8
    assert decoder(np.array([1, 1, 1, 1, 1, math.nan], np.float32)) is None


def test_integers_of_a_box_are_rounded_and_reach_both_bounds() -> None:
    decoder = ActionDecoder(spaces.Box(0, 4, (5,), np.int32), "test")
    decoder.outputs_are_squashed(True)
    assert decoder.bounded
    action = decoder(np.array([-1, -0.7, 0, 0.1, 1], np.float32))
    assert action.tolist() == [0, 1, 2, 2, 4]
    assert action.dtype == np.int32
    assert decoder(np.full(5, math.nan, np.float32)) is None


def test_the_outputs_of_a_dict_go_to_its_parts_in_gymnasiums_order() -> None:
    space = ACTIONS["dict"]
    assert isinstance(space, spaces.Dict)
    decoder = ActionDecoder(space, "test")
    assert (decoder.size, decoder.bounded) == (spaces.flatdim(space), False)
    # one number of each part is the largest of it: the action is what Gymnasium makes of the same vector
    parts = {"wheel": [0.0, 0.0], "a gear": [0.0, 0.0, 1.0], "lights": [1.0, 0.0, 0.0, 1.0]}
    flat = np.concatenate([parts[key] for key in space.spaces]).astype(np.float32)
    action, expected = decoder(flat), spaces.unflatten(space, flat)
    assert list(action) == list(expected)
    np.testing.assert_equal(action, expected)
    assert action["a gear"] == 3
    assert action["lights"][1] == {"left": 1}
    assert decoder(np.full(decoder.size, math.nan, np.float32)) is None


def test_a_dict_of_bounded_boxes_is_bounded_and_squashed_as_one() -> None:
    decoder = ActionDecoder(ACTIONS["dict of bounded boxes"], "test")
    assert decoder.bounded
    space = ACTIONS["dict of bounded boxes"]
    assert isinstance(space, spaces.Dict)
    parts = {"n": [1.0], "x": [-0.5, 0.25]}
    outputs = np.concatenate([parts[key] for key in space.spaces]).astype(np.float32)
    decoder.outputs_are_squashed(True)
    assert decoder.squashed
    action = decoder(outputs)
    assert action["x"].tolist() == [-1.0, 0.5]
    assert action["n"].tolist() == [4]
    decoder.outputs_are_squashed(False)
    np.testing.assert_allclose(decoder(outputs)["x"], 2 * np.tanh([-0.5, 0.25]), atol=1e-6)


@pytest.mark.parametrize("action", ["dict", "tuple", "multi-binary", "integers"])
def test_lockstep_plays_the_same_episodes_with_such_actions(action: str) -> None:
    config = with_objects(
        of_table(env={"id": "tests.helpers.user_code:Spaces-v0"}, batch_members=3, population=4),
        observation_space=OBSERVATIONS["dict"],
        action_space=ACTIONS[action],
    )
    rollout = Rollout(config)
    algorithm = make_strategy(config, rollout.policy.layout)
    state = start(algorithm, rollout.policy.initial_parameters(0), 0)
    tables = []
    for player in (OneByOne(rollout, algorithm), make_player(rollout, algorithm, 1, 0)):
        records = Records(4, 1, 0)
        player.fill(state, iter(range(5)), records)
        player.close()
        tables.append(records.table)
    assert (tables[0][:, 1] == 5).all()
    np.testing.assert_array_equal(tables[0], tables[1])


def test_an_action_becomes_numbers_part_by_part() -> None:
    action = {"a": np.array([[1, 2], [3, 4]]), "b": (5, np.array([True]))}
    assert action_numbers(action).tolist() == [1, 2, 3, 4, 5, 1]


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


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(5, start=-1),
        spaces.MultiDiscrete([3, 2]),
        spaces.MultiBinary(4),
        spaces.Box(-1.0, 1.0, (3,), np.float32),
        spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(-1.0, 1.0, (2,), np.float64)}),
        spaces.Tuple([spaces.Discrete(2), spaces.MultiBinary(2)]),
    ],
    ids=lambda space: type(space).__name__,
)
def test_normalizing_one_observation_leaves_nothing_in_the_next(space: spaces.Space) -> None:
    flattener = ObservationFlattener(space, "it", normalized=True)
    size = flattener.size
    mean, inverse = np.linspace(-1.0, 2.0, size), np.linspace(0.5, 3.0, size)
    space.seed(0)
    for _ in range(8):
        observation = space.sample()
        raw = np.asarray(spaces.flatten(space, observation), flattener.buffer.dtype)
        expected = np.clip((raw.astype(np.float64) - mean) * inverse, -10.0, 10.0)
        assert flattener.take(observation)
        sums = np.zeros((2, size))
        found = flattener.normalize(flattener.buffer, (mean, inverse), sums)
        assert np.array_equal(found, expected.astype(np.float32))
        assert np.array_equal(sums[0], raw)
