"""What an environment returns or raises: each wrong answer is one line that names environment, call, step and value."""

from __future__ import annotations

import dataclasses
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from esd.config.plugins import their_traceback
from esd.config.settings import Variant
from esd.episodes.checked import BrokenEnvironmentError
from esd.episodes.spaces import ObservationFlattener
from tests.helpers.configs import of_table
from tests.helpers.odd_configs import (
    BITS,
    BOTH,
    DISCRETE,
    IMAGE,
    ODD,
    SEEDS,
    SEVERAL,
    VECTOR,
    always,
    config_of,
    played,
    said,
)

BYTES = spaces.Box(0, 255, (2,), np.uint8)


@pytest.mark.parametrize(
    ("space", "value", "message"),
    [
        (None, 0.5, "the observation is 0.5 (float): expected shape (2, 3) and dtype float32"),
        (
            None,
            np.zeros((3, 2), np.float32),
            "the observation is a numpy.ndarray of shape (3, 2) and dtype float32: expected shape (2, 3) and dtype "
            "float32",
        ),
        (VECTOR, np.zeros(4), "a numpy.ndarray of shape (4,) and dtype float64: expected shape (3,)"),
        (VECTOR, np.zeros((3, 1)), "shape (3, 1)"),
        (VECTOR, np.float32(0.5), "the observation is 0.5 (numpy.float32): expected shape (3,)"),
        (VECTOR, None, "the observation is None: expected shape (3,) and dtype float32"),
        (VECTOR, np.array([1, None, 2]), "dtype object"),
        (VECTOR, [1.0, None, 2.0], "[1.0, None, 2.0] (list)"),
        (VECTOR, [1.0, [2.0], 3.0], "[1.0, [2.0], 3.0] (list)"),
        (VECTOR, "012", "'012' (str)"),
        (VECTOR, np.array(["0", "1", "2"]), "dtype <U1"),
        (VECTOR, np.zeros(3, complex), "dtype complex128"),
        (VECTOR, np.zeros(3, "datetime64[s]"), "dtype datetime64"),
        (VECTOR, {"a": 1.0}, "{'a': 1.0} (dict)"),
        (VECTOR, np.ma.masked_array([1.0, 2.0, 3.0], [0, 1, 0]), "masked"),
        (VECTOR, torch.zeros(3, requires_grad=True), "a torch.Tensor of shape (3,)"),
        (VECTOR, np.array([[1.0, 2.0, 3.0]]), "shape (1, 3)"),
        (IMAGE, np.zeros((4, 4, 3), np.float32), "dtype float32: expected shape (4, 4, 3) and dtype uint8"),
        (IMAGE, np.zeros((3, 4, 4), np.uint8), "shape (3, 4, 4)"),
        (BYTES, [0, -1], "has -1 in it: expected integers from 0 to 255, which uint8 can hold"),
        (BYTES, (256, 0), "the observation has 256 in it: expected integers from 0 to 255"),
        (DISCRETE, -1, "the observation is -1: expected an integer from 0 to 2"),
        (DISCRETE, 3, "the observation is 3: expected an integer from 0 to 2"),
        (DISCRETE, 1.0, "1.0 (float): expected an integer from 0 to 2"),
        (DISCRETE, np.array([1]), "shape (1,)"),
        (DISCRETE, None, "None: expected an integer"),
        (SEVERAL, np.array([3, 10]), "has 3 in it: expected an integer from 0 to 2 there"),
        (SEVERAL, np.array([0, 3]), "has 3 in it: expected an integer from 10 to 13 there"),
        (SEVERAL, np.array([0]), "expected integers of shape (2,)"),
        (SEVERAL, np.array([0.5, 10]), "dtype float64"),
        (BITS, np.array([0, 2]), "has 2 in it: expected zeros and ones"),
        (BITS, np.array([0, 1, 0]), "of shape (2,)"),
        (BOTH, {"a": np.zeros(3)}, "the observation lacks ['b']: expected ['a', 'b']"),
        (BOTH, {"a": np.zeros(3), "b": (0, np.zeros(2, int)), "c": 1}, "has ['c'] too"),
        (BOTH, {"a": np.zeros(3), "b": (0,)}, "the observation['b'] is (0,) (tuple): expected a tuple of 2 parts"),
        (BOTH, {"a": np.zeros(3), "b": (7, np.zeros(2, int))}, "the observation['b'][0] is 7"),
        (BOTH, {"a": np.zeros(2), "b": (0, np.zeros(2, int))}, "the observation['a'] is a numpy.ndarray"),
        (BOTH, np.zeros(3), "expected a dict with ['a', 'b']"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("at", [0, 3, 9])
def test_an_observation_that_does_not_fit_its_space_is_refused_with_both(
    space: Any, value: Any, message: str, at: int
) -> None:
    text = said(config_of(at=at, change=always(value), of="observation", observation_space=space))
    assert text.startswith("reset: " if at == 0 else f"step {at}: ")
    assert message in text


@pytest.mark.parametrize(
    ("space", "value", "flat"),
    [
        (VECTOR, [1, 2.5, -3], [1, 2.5, -3]),
        (VECTOR, (np.float32(1), 2, True), [1, 2, 1]),
        (VECTOR, np.arange(6)[::2], [0, 2, 4]),
        (VECTOR, np.array([1.0, 2.0, 30.0]), [1, 2, 30]),  # beyond its bounds, as many are
        (VECTOR, np.arange(3, dtype=np.float16), [0, 1, 2]),
        (VECTOR, torch.tensor([1.0, 2.0, 3.0]), [1, 2, 3]),
        (VECTOR, np.ma.masked_array([1.0, 2.0, 3.0]), [1, 2, 3]),
        (spaces.Box(-1.0, 1.0, ()), np.float32(0.5), [0.5]),
        (spaces.Box(-1.0, 1.0, ()), 0.5, [0.5]),
        (spaces.Box(0, 255, (2, 2), np.uint8), [[1, 2], [3, 255]], [1, 2, 3, 255]),
        (spaces.Box(-1.0, 1.0, (2, 2)), np.array([[1.0, 2.0], [3.0, 4.0]]).T, [1, 3, 2, 4]),
        (DISCRETE, np.int8(2), [0, 0, 1]),
        (DISCRETE, np.array(1), [0, 1, 0]),
        (DISCRETE, True, [0, 1, 0]),
        (SEVERAL, [2, 13], [0, 0, 1, 0, 0, 0, 1]),
        (BITS, np.array([True, False]), [1, 0]),
        (
            BOTH,
            {"b": [1, (0, 1)], "a": [7, 8, 9]},
            [7, 8, 9, 0, 1, 0, 0, 1],
        ),
    ],
)
def test_what_fits_is_taken_whatever_holds_it(space: Any, value: Any, flat: list[float]) -> None:
    flattener = ObservationFlattener(space, "test")
    for _ in range(3):  # the second time another way
        assert flattener.take(value)
        assert flattener.buffer.tolist() == flat
        flattener.take(space.sample())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("space", [VECTOR, spaces.Box(-1.0, 1.0, (3, 1)), BOTH])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1e300])
def test_a_number_that_float32_has_not_makes_the_member_fail_with_the_reason(
    space: Any, number: float
) -> None:
    value: Any = np.array([0.5, number, 0.5])
    if space is BOTH:
        value = {"a": value, "b": (0, np.zeros(2, np.int8))}
    elif space is not VECTOR:
        value = value[:, None]
    config = config_of(at=3, change=always(value), of="observation", observation_space=space)
    outcome = played(config)
    assert (outcome.status, outcome.steps) == (1, 3)
    assert math.isnan(outcome.returns[0])
    found = np.float32(min(number, np.inf)) if number < 1e300 or math.isnan(number) else math.inf
    assert outcome.failure == (
        f"env.id = '{ODD}:Odd-v0', step 3: the observation is not finite: number 1 of its {spaces.flatdim(space)} "
        f"(counted from 0) is {found} as float32"
    )


def test_the_last_observation_may_be_nan_as_when_physics_has_exploded() -> None:
    config = config_of(at=9, change=always(np.full((2, 3), np.nan, np.float32)), of="observation")
    assert played(config).returns == (9.0,)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "the reward is None: expected one real number"),
        (1j, "the reward is 1j (complex)"),
        (np.complex64(1), "(numpy.complex64)"),
        ("3", "the reward is '3' (str)"),
        ({"agent": 1.0}, "the reward is {'agent': 1.0} (dict)"),
        (np.ones(1), "of shape (1,) and dtype float64: expected one real number; return float(reward[0])"),
        (np.ones(2), "of shape (2,)"),
        ([1.0], "[1.0] (list)"),
        (torch.ones(1), "a torch.Tensor of shape (1,)"),
        (Decimal("0.5"), "(decimal.Decimal)"),
        (10**400, "expected one real number (int too large to convert to float)"),
    ],
)  # fmt: skip
def test_a_reward_that_is_no_real_number_is_refused(value: Any, message: str) -> None:
    text = said(config_of(change=always(value), of="reward"))
    assert text.startswith("step 3: ")
    assert message in text


@pytest.mark.parametrize(
    "value",
    [7, True, np.bool_(True), np.float32(7), np.int64(7), np.array(7.0), torch.tensor(7.0), Fraction(7)],
)  # fmt: skip
def test_a_reward_may_be_any_real_number(value: Any) -> None:
    assert played(config_of(change=always(value), of="reward")).returns == (8.0 + float(value),)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float32(math.nan)])
def test_a_reward_that_is_not_finite_makes_the_member_fail_with_the_reason(number: float) -> None:
    outcome = played(config_of(change=always(number), of="reward"), SEEDS)
    assert (outcome.status, outcome.steps) == (1, 27)  # as ever, the episode goes on
    assert outcome.failure == f"env.id = '{ODD}:Odd-v0', step 3: the reward is {float(number)}"


@pytest.mark.parametrize("of", ["terminated", "truncated"])
@pytest.mark.parametrize("value", [None, 0, 1, "no", 0.0, np.zeros(2, bool), np.int8(0)])
def test_an_end_that_is_no_bool_is_refused(of: str, value: Any) -> None:
    text = said(config_of(change=always(value), of=of))
    assert text.startswith(f"step 3: {of} is ")
    assert text.endswith(": expected a bool")


@pytest.mark.parametrize("value", [np.bool_(True), np.array(True), torch.tensor(True)])
def test_an_end_may_be_a_bool_of_numpy_or_torch(value: Any) -> None:
    assert played(config_of(change=always(value), of="truncated")).steps == 3


@pytest.mark.parametrize(
    ("at", "change", "message"),
    [
        (0, lambda env: env.observation(), "reset: returned a numpy.ndarray of shape (2, 3)"),
        (0, lambda env: np.zeros(2), "reset: returned a numpy.ndarray of shape (2,)"),
        (0, lambda env: (env.observation(), None), "reset: returned None as info"),
        (0, lambda env: (env.observation(), {}, {}), "expected the pair (observation, info)"),
        (0, lambda env: None, "reset: returned None: expected the pair (observation, info)"),
        (3, lambda env: (env.observation(), 1.0, False, {}), "step 3: returned 4 values: expected 5 values"),
        (3, lambda env: (1, 2, 3, 4, 5, 6), "step 3: returned 6 values: expected 5 values"),
        (3, lambda env: None, "step 3: returned None: expected 5 values"),
        (3, lambda env: env.observation(), "step 3: returned a numpy.ndarray of shape (2, 3)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("format", [1, 2])
def test_the_older_api_is_named(at: int, change: Any, message: str, format: int) -> None:
    config = config_of(at=at, change=change, format=format)
    if format == 1 and at == 0 and ("(2," in message or "as info" in message):
        return  # as those runs took it
    if at == 0:
        assert message in said(config)
        return
    # Gymnasium's TimeLimit, which a registered environment is in, sees the answer first
    registered = said(config)
    assert registered.startswith("step 3: raised ")
    assert (
        "; step has to return 5 values, observation, reward, terminated, truncated and info"
        in registered
    )
    bare = dataclasses.replace(config.env, id=f"{ODD}:Odd", max_steps=20)
    with pytest.raises(BrokenEnvironmentError) as caught:
        played(dataclasses.replace(config, env=bare))
    assert message in str(caught.value)


def test_info_has_to_be_a_dict_at_the_end() -> None:
    text = said(config_of(at=9, change=always(["all"]), of="info"))
    assert text == "step 9: info is ['all'] (list): expected a dict"


def test_every_episode_is_checked_not_only_the_first() -> None:
    config = config_of(change=always(np.zeros((3, 2), np.float32)), of="observation", first=2)
    assert played(config, SEEDS[:2]).returns == (9.0,)
    assert "of shape (3, 2)" in said(config, SEEDS)


def test_spaces_that_change_at_a_reset_are_refused() -> None:
    def change(env: Any) -> Any:
        env.action_space = spaces.Discrete(5)
        return env.observation()

    text = said(config_of(at=0, change=change, of="observation"))
    assert text.startswith("reset: changed action_space from Discrete(2) to Discrete(5)")


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (0.5, True),  # for all of its six numbers
        (np.zeros((3, 2), np.float32), True),
        (np.full((2, 3), np.nan), True),
        (np.zeros(5), False),
        (None, True),  # a NaN
        ("text", False),
    ],
)
def test_runs_of_the_first_format_are_played_as_they_were(value: Any, taken: bool) -> None:
    config = config_of(change=always(value), of="observation", format=1)
    if taken:
        assert played(config).failure == "" or "the policy's outputs" in played(config).failure
    else:
        assert "the observation is" in said(config)


@pytest.mark.parametrize(
    "error",
    [
        AssertionError("too fast"), OSError(5, "no joystick"), RuntimeError("physics"), KeyError("speed"),
        ValueError("a\nb"), StopIteration(3), SystemExit(0), NotImplementedError(), ImportError("no such engine"),
        RecursionError("deep"), MemoryError(), Exception("x" * 5000), GeneratorExit(), BaseException("theirs"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("at", [0, 4])
@pytest.mark.parametrize("format", [1, 2])
def test_whatever_an_environment_raises_is_one_line_with_its_place(
    error: BaseException, at: int, format: int
) -> None:
    config = config_of(at=at, change=always(error), format=format)
    text = said(config)
    assert text.startswith(f"{'step 4' if at else 'reset'}: raised {type(error).__name__}")
    assert "(odd.py, line " in text
    assert " ".join(str(error).split())[:40] in text
    with pytest.raises(BrokenEnvironmentError) as caught:
        played(config)
    assert caught.value.__cause__ is error
    assert "in answered" in their_traceback(error)
    assert "environments.py" not in their_traceback(error)


def test_an_interrupt_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt):
        played(config_of(change=always(KeyboardInterrupt())))


def test_a_missing_module_is_named_with_the_command_that_may_install_it() -> None:
    error = ModuleNotFoundError("No module named 'moviepy.video'", name="moviepy.video")
    text = said(config_of(change=always(error)))
    assert "No module named 'moviepy.video'" in text
    assert text.endswith("; install the missing package, such as with pip install moviepy")
    error = ModuleNotFoundError("No module named 'pygame'", name="pygame")
    text = said(config_of(change=always(error)))
    assert text.endswith("; install it with pip install 'esd-mpi[box2d]'")


def test_a_reset_without_a_seed_is_told_the_signature() -> None:
    with pytest.raises(
        BrokenEnvironmentError, match="unexpected keyword argument 'seed'"
    ) as caught:
        played(of_table(env={"id": f"{ODD}:Deaf", "max_steps": 5}))
    assert str(caught.value).endswith("reset(self, *, seed=None, options=None)")


def test_a_wrapper_that_raises_is_named() -> None:
    config = of_table(env={"id": f"{ODD}:Odd-v0", "wrappers": [f"{ODD}:Blaming"]})
    with pytest.raises(BrokenEnvironmentError) as caught:
        played(config)
    assert str(caught.value).startswith(
        f"env.id = '{ODD}:Odd-v0' in {ODD}:Blaming, step 1: raised KeyError: 'speed' (odd.py, line "
    )


def test_a_variant_is_named() -> None:
    env = dataclasses.replace(
        config_of(change=always(None), of="reward").env, variants=(Variant("left"),)
    )
    with pytest.raises(BrokenEnvironmentError, match="Odd-v0', variant 'left', step 3: the reward"):
        played(dataclasses.replace(of_table(), env=env))


def test_a_close_that_raises_is_a_warning(capfd: pytest.CaptureFixture[str]) -> None:
    assert played(config_of("Closing-v0")).returns == (9.0,)
    told = capfd.readouterr().err
    assert told.startswith(
        f"esd: env.id = '{ODD}:Closing-v0', close: raised OSError: the window is gone (odd.py, line "
    )
    assert told.count("\n") == 1
    capfd.readouterr()
    rebuilt = dataclasses.replace(config_of("Closing-v0").env, rebuild="always")
    assert played(dataclasses.replace(of_table(), env=rebuilt)).returns == (9.0,)
