"""What an environment returns or raises: each wrong answer is one line that names environment, call, step and value."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from esd.config.identity import identity, settings_of_h
from esd.config.plugins import their_traceback
from esd.config.settings import Config, EnvironmentConfig, Variant
from esd.config.tables import apply_settings, parse, to_table
from esd.episodes.checked import BrokenEnvironmentError
from esd.episodes.environments import Outcome
from esd.episodes.making import make_environment
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.episodes.spaces import ActionDecoder, ObservationFlattener
from esd.errors import UsageError
from esd.problems.episodes import EpisodesProblem
from tests.helpers import odd
from tests.helpers.configs import of_table, with_objects

ODD = "tests.helpers.odd"
SEEDS = [EpisodeSeeds(k, k) for k in range(3)]


def config_of(id: str = "Odd-v0", format: int = 2, **kwargs: Any) -> Config:
    """A config with an odd environment, whose keywords no TOML file could hold."""
    table = of_table(env={"id": f"{ODD}:{id}"}, format=format)
    return with_objects(table, **kwargs)


def played(config: Config, seeds: list[EpisodeSeeds] = SEEDS[:1]) -> Outcome:
    """Play episodes."""
    rollout = Rollout(config)
    try:
        return rollout.evaluate(rollout.policy.initial_parameters(0), seeds)
    finally:
        rollout.close()


def said(config: Config, seeds: list[EpisodeSeeds] = SEEDS[:1]) -> str:
    """What is said of an environment that can't be played, less its name."""
    with pytest.raises(BrokenEnvironmentError) as caught:
        played(config, seeds)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 1000
    assert text.startswith(f"env.id = '{ODD}:Odd-v0', ")
    return text.removeprefix(f"env.id = '{ODD}:Odd-v0', ")


def always(value: Any) -> Callable[[Any], Any]:
    """Change an answer to a value."""
    return lambda env: value


VECTOR = spaces.Box(-1.0, 1.0, (3,))
DISCRETE = spaces.Discrete(3)
SEVERAL = spaces.MultiDiscrete([3, 4], start=[0, 10])
BITS = spaces.MultiBinary(2)
BOTH = spaces.Dict({"a": VECTOR, "b": spaces.Tuple((DISCRETE, BITS))})
IMAGE = spaces.Box(0, 255, (4, 4, 3), np.uint8)


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
        RecursionError("deep"), MemoryError(), Exception("x" * 5000),
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
    assert " ".join(str(error).split())[:200] in text
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


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "observation_space is missing"),
        ({"observation_space": None}, "observation_space is None, expected a space of gymnasium.spaces"),
        ({"observation_space": VECTOR}, "action_space is missing"),
        ({"observation_space": VECTOR, "action_space": 2}, "action_space is a int, expected a space"),
    ],
)  # fmt: skip
def test_an_environment_without_spaces_is_refused(kwargs: dict[str, Any], message: str) -> None:
    config = EnvironmentConfig(id=f"{ODD}:Spaceless", kwargs=kwargs, max_steps=5)
    with pytest.raises(UsageError, match=message):
        make_environment(config)


def empty_discrete() -> spaces.Discrete:
    """Gymnasium refuses it only when it is made."""
    space = spaces.Discrete(2)
    space.n = np.int64(0)
    return space


def box_of_nan() -> spaces.Box:
    """The same."""
    space = spaces.Box(-1.0, 1.0, (2,))
    space.low = np.full(2, np.nan, np.float32)
    return space


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (empty_discrete(), "n is 0"),
        (box_of_nan(), "its bounds are NaN"),
        (spaces.Box(-1.0, 1.0, (0,)), "it has no numbers at all"),
        (spaces.Box(-1.0, 1.0, (3, 0)), "it has no numbers at all"),
        (spaces.Dict({}), "it has no numbers at all"),
        (spaces.Text(3), "Text has no fixed number"),
        (spaces.Dict({"a": DISCRETE, "b": spaces.Sequence(DISCRETE)}), "Sequence has no fixed number"),
    ],
)  # fmt: skip
def test_a_space_without_numbers_is_refused_on_both_sides(space: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as first:
        ObservationFlattener(space, "Mine-v0")
    with pytest.raises(UsageError, match=message) as second:
        ActionDecoder(space, "Mine-v0")
    for error in (first, second):
        assert str(error.value).startswith("env.id = 'Mine-v0'")
        assert "supported: Box, Discrete" in str(error.value)
        assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        ({"id": f"{ODD}:Broken"}, "making it raised AssertionError: this wrapper needs a joystick (odd.py, line "),
        ({"id": f"{ODD}:Broken", "kwargs": {"how": "module"}}, "No module named 'no_such_module_of_anybody'"),
        ({"id": f"{ODD}:Vector"}, "a Vector is a batch of environments"),
        ({"id": f"{ODD}:not_an_environment"}, "not_an_environment() takes 0 positional arguments"),
        ({"id": f"{ODD}:NO_CLASS"}, "is 3 (int): expected a class"),
    ],
)  # fmt: skip
def test_a_wrapper_that_can_not_be_made_is_one_line(wrapper: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Rollout(of_table(env={"id": f"{ODD}:Odd-v0", "wrappers": [wrapper]}))
    assert message in str(caught.value)
    assert wrapper["id"] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_batch_of_environments_is_refused() -> None:
    for id in (f"{ODD}:Vector", "gymnasium.vector:SyncVectorEnv"):
        kwargs = {"env_fns": [lambda: odd.Odd()]} if "Sync" in id else {}
        with pytest.raises(UsageError, match="is a batch of environments; name the environment"):
            make_environment(EnvironmentConfig(id=id, kwargs=kwargs, max_steps=5))


@pytest.mark.parametrize("name", ["Odd", "factory"])
def test_a_class_or_a_function_needs_no_registration_but_a_step_limit(name: str) -> None:
    env = {"id": f"{ODD}:{name}", "kwargs": {"at": 5}}
    with pytest.raises(UsageError, match=r"no step limit of its own; set env\.max_steps"):
        Rollout(of_table(env=env))
    assert played(of_table(env={**env, "max_steps": 6})).returns == (6.0,)
    assert played(of_table(env={**env, "max_steps": 20})).returns == (9.0,)


def test_a_module_that_registers_no_such_environment_is_told_how() -> None:
    with pytest.raises(UsageError) as caught:
        make_environment(EnvironmentConfig(id=f"{ODD}:Od-v0"))
    text = str(caught.value)
    assert (
        "odd.py registers no environment 'Od-v0' and has no class or function of that name" in text
    )
    assert "gymnasium.register(id='Od-v0'" in text
    assert f'"{ODD}:MyEnv"' in text
    assert "Odd-v0" in text
    with pytest.raises(UsageError, match=r"gave 'an environment' \(str\), which lacks reset, step"):
        make_environment(EnvironmentConfig(id=f"{ODD}:not_an_environment"))


def test_an_unregistered_id_is_told_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        make_environment(EnvironmentConfig(id="MyVeryOwn-v0"))
    text = str(caught.value)
    assert "gymnasium.register(id=…)" in text
    assert '"module:Name-v0"' in text
    assert str(tmp_path) in text
    assert len(text) < 1000


def test_max_steps_beyond_the_environments_own_limit_is_refused_with_what_raises_it() -> None:
    beyond = of_table(env={"id": "CartPole-v1", "max_steps": 501})
    with pytest.raises(UsageError) as caught:
        EpisodesProblem(beyond)
    assert str(caught.value) == (
        "env.max_steps = 501: has no effect, since the environment 'CartPole-v1' itself ends an episode after 500 "
        "steps. Set env.kwargs.max_episode_steps = 501 in place of it to raise that limit, or env.max_steps to 500 or "
        "less"
    )
    raised = of_table(env={"id": "CartPole-v1", "kwargs": {"max_episode_steps": 501}})
    assert EpisodesProblem(raised).rollout.environments.step_limit(0) == 501
    both = of_table(
        env={"id": "CartPole-v1", "max_steps": 501, "kwargs": {"max_episode_steps": 501}}
    )
    assert EpisodesProblem(both).rollout.environments.step_limit(0) == 501
    inner = {"id": "gymnasium.wrappers:TimeLimit", "kwargs": {"max_episode_steps": 900}}
    wrapped = of_table(env={"id": "CartPole-v1", "max_steps": 700, "wrappers": [inner]})
    with pytest.raises(UsageError, match="after 500 steps"):
        EpisodesProblem(wrapped)
    old = of_table(env={"id": "CartPole-v1", "max_steps": 501}, format=1)
    assert EpisodesProblem(old).rollout.environments.step_limit(0) == 500


def test_options_are_passed_to_every_reset_and_changes_of_them_are_lost() -> None:
    env = {"id": f"{ODD}:Options-v0", "reset_options": {"pay": 2.0}}
    outcome = played(of_table(env=env), SEEDS)
    assert outcome.returns == (sum(2.0 + step for step in range(1, 10)),)
    env["reset_options"] = {"low": 0.0, "high": 0.0}
    still = Rollout(of_table(env={**env, "id": "CartPole-v1"}))
    observation = next(still.environments.play(SEEDS[:1], lambda seeds: None))
    assert observation.tolist() == [0.0] * 4


def test_options_are_no_part_of_the_identity_of_runs_without_any() -> None:
    plain = of_table(format=1)
    assert not any("reset_options" in key for key in settings_of_h(plain))
    optioned = parse(
        apply_settings(to_table(plain), ["env.reset_options={pay=1}", "format=2"]), "test"
    )
    assert settings_of_h(optioned)["env.reset_options.pay"] == 1
    assert identity(optioned) != identity(of_table())


def test_not_finite_in_every_episode_at_the_start_is_refused() -> None:
    def refusing(config: Config) -> None:
        rollout = Rollout(config)
        rollout.evaluate(rollout.policy.initial_parameters(0), SEEDS)
        rollout.environments.refuse_never_finite()

    bad = {"change": always(math.nan), "of": "reward"}
    with pytest.raises(BrokenEnvironmentError, match=r"step 3: the reward is nan\. No episode"):
        refusing(config_of(**bad))
    refusing(config_of(**bad, first=2))  # some were finite
    refusing(config_of(**bad, format=1))
