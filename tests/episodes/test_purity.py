"""Before a training begins, its episodes are played again behind other histories: what is impure is found and named."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import wrappers

from esd.config.settings import Config, Wrapper
from esd.episodes import purity
from esd.episodes.check_at_start import check_purity
from esd.episodes.purity import digest_of
from esd.episodes.rollout import Rollout
from esd.errors import EsdError, RunError, UsageError
from esd.evolution.state import make_strategy, start
from esd.problems.make import make_problem
from tests.helpers.configs import of_table, with_objects
from tests.helpers.impure import Impure

CART_POLE = {"id": "CartPole-v1"}
PURE = ""


def verdict(config: Config) -> str:
    """What a training with these settings says at its start; nothing if it goes on."""
    Impure.episodes = 0
    try:
        with_problem = make_problem(config)
        evaluator = with_problem.evaluator(make_strategy(config, with_problem.layout), 1, 0)
        evaluator.canary(with_problem.initial_parameters(config.seed), 3)
    except EsdError as error:
        text = str(error)
        assert "\n" not in text
        assert len(text) <= 1000
        return text
    return PURE


def leaking(**kwargs: Any) -> dict[str, Any]:
    """An environment that leaks."""
    return {"id": "tests.helpers.impure:Leaking-v0", "kwargs": kwargs}


OUTSIDE = 'env.rebuild = "always" does not help'
ANEW = 'Set env.rebuild = "always"'


@pytest.mark.parametrize(
    ("kwargs", "what", "helps"),
    [
        ({"leak": "none"}, PURE, ""),
        ({"leak": "episodes"}, "a different observation after reset", ANEW),
        ({"leak": "episodes", "into": "reward"}, "a different reward in step 1", ANEW),
        ({"leak": "episodes", "into": "end"}, "a different observation in step", ANEW),
        ({"leak": "ended"}, "repeated after other episodes", ANEW),
        ({"leak": "every tenth"}, "repeated after other episodes", ANEW),
        ({"leak": "steps"}, "a different observation", ANEW),
        ({"leak": "late", "length": 200}, "a different observation in step 101", ANEW),
        ({"leak": "constructor"}, "repeated in a new object", OUTSIDE),
        ({"leak": "global constructor"}, "repeated in a new object", ANEW),
        ({"leak": "class"}, "a different observation after reset", OUTSIDE),
        ({"leak": "time"}, "a different observation after reset", OUTSIDE),
        ({"leak": "generator"}, "a different observation after reset", ANEW),
    ],
)
def test_an_environment_that_leaks_is_named_with_what_helps(
    kwargs: dict[str, Any], what: str, helps: str
) -> None:
    text = verdict(of_table(env=leaking(**kwargs)))
    assert bool(text) == bool(what), text
    assert what in text
    assert helps in text
    if what:
        assert "the environment itself (Leaking)" in text


@pytest.mark.parametrize("leak", ["episodes", "generator", "global constructor"])
def test_what_is_recommended_helps(leak: str) -> None:
    assert ANEW in verdict(of_table(env=leaking(leak=leak)))
    assert verdict(of_table(env={**leaking(leak=leak), "rebuild": "always"})) == PURE


@pytest.mark.parametrize("how", ["object", "class", "unfinished", "unseeded", "none"])
def test_the_environments_that_doctor_finds_are_found_at_start(how: str) -> None:
    config = of_table(env={"id": "tests.helpers.impure:Impure-v0", "kwargs": {"how": how}})
    assert bool(verdict(config)) == (how != "none")


@pytest.mark.parametrize("how", ["observation", "reward", "action", "noise", "none"])
def test_a_wrapper_between_others_is_named(how: str) -> None:
    between = [
        "tests.helpers.user_code:Doubled",
        {"id": "tests.helpers.impure:Counting", "kwargs": {"how": how}},
        "gymnasium.wrappers:FlattenObservation",
    ]
    text = verdict(of_table(env={**CART_POLE, "wrappers": between}))
    assert ("the wrapper Counting is not a pure function" in text) == (how != "none")
    assert (OUTSIDE in text) == (how == "noise")


@pytest.mark.parametrize(
    ("how", "advice"),
    [
        ("none", PURE),
        ("global", PURE),
        ("view", PURE),
        ("keeps", PURE),
        ("memory", "Its memory outlives the episode"),
        ("load", "It depends on the member that was loaded before"),
        ("kept best", "It depends on the member that was loaded before"),
        ("class", "keeps state outside of its object"),
        ("module", "It uses a random generator that reset(seed) does not seed"),
        ("unseeded", "It uses a random generator that reset(seed) does not seed"),
        ("constructor", "in the constructor, use a fixed seed"),
        ("time", "reads the clock"),
        ("late", "Let reset clear everything"),
        ("episodes", "Let reset clear everything"),
        ("initial", "initial_parameters"),
        ("global initial", "initial_parameters"),
    ],
)
def test_a_policy_that_is_impure_is_named_with_what_helps(how: str, advice: str) -> None:
    kind = {"kind": "tests.helpers.impure_policies:ImpurePolicy", "kwargs": {"how": how}}
    text = verdict(of_table(env=CART_POLE, policy=kind))
    assert bool(text) == bool(advice), text
    assert advice in text
    if advice:
        assert text.startswith("policy.kind = 'tests.helpers.impure_policies:ImpurePolicy'")


@pytest.mark.parametrize(
    ("module", "advice"),
    [
        ("LongMemory", "a method reset() that clears it"),
        ("HalfClearedMemory", "let reset clear everything"),
        ("ClearedMemory", PURE),
        ("RandomBuffer", "in the constructor, use a fixed seed"),
    ],
)
def test_a_torch_module_with_a_memory_needs_a_reset(module: str, advice: str) -> None:
    kind = {"kind": f"tests.helpers.impure_policies:{module}"}
    text = verdict(of_table(env=CART_POLE, policy=kind))
    assert bool(text) == bool(advice), text
    assert advice in text


def test_a_stateful_wrapper_is_refused_by_name_before_it_is_built() -> None:
    for module in ("gymnasium.wrappers", "gymnasium.wrappers.vector", "gym.wrappers"):
        text = verdict(of_table(env={**CART_POLE, "wrappers": [f"{module}:NormalizeObservation"]}))
        assert "set env.normalize_observations = true" in text
    text = verdict(
        of_table(env={**CART_POLE, "wrappers": ["stable_baselines3.common.vec_env:VecNormalize"]})
    )
    assert "set env.normalize_observations = true" in text
    variants = [{"name": "a", "wrappers": ["gymnasium.wrappers:NormalizeReward"]}, {"name": "b"}]
    assert "es.shaping" in verdict(of_table(env={**CART_POLE, "variants": variants}))


@pytest.mark.parametrize(
    ("id", "named"),
    [
        ("OwnWrappers", "NormalizeObservation"),
        ("Normalized", "NormalizeReward"),
        ("Specified", "NormalizeObservation"),
    ],
)
def test_a_stateful_wrapper_is_refused_wherever_it_stands(
    id: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purity.Player, "play", pytest.fail)  # nothing is played
    text = verdict(of_table(env={"id": f"tests.helpers.impure:{id}-v0"}))
    assert f"wrapper {named} inside of it" in text


class NormalizeReward(gymnasium.RewardWrapper):
    """Of one's own, and pure."""

    def reward(self, reward: Any) -> float:
        return float(reward) / 10.0


class NormalizeObservation(wrappers.NormalizeObservation):
    """Not refused by name, and impure."""


def test_a_wrapper_of_ones_own_is_judged_by_what_it_does() -> None:
    assert verdict(of_table(env={**CART_POLE, "wrappers": [f"{__name__}:NormalizeReward"]})) == PURE
    text = verdict(of_table(env={**CART_POLE, "wrappers": [f"{__name__}:NormalizeObservation"]}))
    assert "the wrapper NormalizeObservation is not a pure function" in text
    assert "set env.normalize_observations = true" in text


def test_drift_that_is_allowed_and_runs_of_the_first_format_are_not_refused() -> None:
    env = {**CART_POLE, "wrappers": ["gymnasium.wrappers:NormalizeObservation"]}
    assert verdict(of_table(env=env, run={"allow_drift": True})) == PURE
    # what it gave before: its returns are the same in so few steps, whatever is observed
    old = dataclasses.replace(of_table(env=leaking(leak="late")), format=1)
    assert verdict(old) == PURE


def test_nothing_is_left_in_an_environment_that_was_looked_at() -> None:
    rollout = Rollout(of_table(env={**CART_POLE, "wrappers": ["tests.helpers.user_code:Doubled"]}))
    h0 = rollout.policy.initial_parameters(0)
    algorithm = make_strategy(rollout.config, rollout.policy.layout)
    check_purity(rollout, algorithm, start(algorithm, h0, 0))
    assert rollout.environments.watch is None
    env: Any = next(rollout.environments.made())
    while isinstance(env, gymnasium.Wrapper):
        assert not isinstance(env, purity.Probe)
        env = env.env


class DropsTheSeed(gymnasium.Wrapper):
    """A common mistake."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Forget the seed."""
        return self.env.reset(options=options)


def test_a_wrapper_that_loses_the_seed_is_named_and_not_the_environment() -> None:
    wrappers = ["tests.helpers.user_code:Doubled", f"{__name__}:DropsTheSeed"]
    text = verdict(of_table(env={**CART_POLE, "wrappers": wrappers}))
    assert "the wrapper DropsTheSeed calls reset() of what it wraps without the seed" in text
    assert "call self.env.reset(seed=seed, options=options)" in text
    kept = [wrappers[0], "gymnasium.wrappers:FlattenObservation"]
    assert verdict(of_table(env={**CART_POLE, "wrappers": kept})) == PURE


class Takes(gymnasium.Wrapper):
    """Its reset takes a seed by its place."""

    def reset(self, seed: int | None = None, options: Any = None) -> Any:  # type: ignore[override]
        return self.env.reset(seed=seed, options=options)


class Sparing(gymnasium.Wrapper):
    """Its reset knows no options."""

    def reset(self, seed: int | None = None) -> Any:  # type: ignore[override]
        return self.env.reset(seed)  # type: ignore[misc]


def test_an_environment_gets_what_it_would_get_unobserved() -> None:
    own = [f"{__name__}:Takes", f"{__name__}:Sparing"]
    assert verdict(of_table(env={**CART_POLE, "wrappers": own})) == PURE
    counting = [*own, "tests.helpers.impure:Counting"]
    text = verdict(of_table(env={**CART_POLE, "wrappers": counting}))
    assert "the wrapper Counting" in text


class Once(gymnasium.Env):
    """A simulator on a port: there is only one of it."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
    action_space = gymnasium.spaces.Discrete(2)
    made = 0

    def __init__(self, raises: bool = True) -> None:
        Once.made += 1
        if Once.made > 1 and raises:
            raise OSError("address already in use")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(2, np.float32), self.np_random.random(), False, False, {}


gymnasium.register("Once-v0", entry_point=Once, max_episode_steps=20)


@pytest.mark.parametrize(("rebuild", "made"), [("auto", 2), ("never", 1)])
def test_an_environment_that_cannot_be_there_twice_is_trained_on(rebuild: str, made: int) -> None:
    Once.made = 0
    assert verdict(of_table(env={"id": f"{__name__}:Once-v0", "rebuild": rebuild})) == PURE
    assert Once.made == made


def test_a_variant_that_leaks_is_named() -> None:
    variants = [{"name": "sound"}, {"name": "broken", "kwargs": {"leak": "episodes"}}]
    text = verdict(of_table(env={**leaking(), "variants": variants}))
    assert "variant 'broken'" in text


def test_compiled_functions_that_keep_something_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Returns and steps of so short an episode tell nothing."""
    config = of_table(env={"id": "esd/HiddenCartPole-v0"})
    assert verdict(config) == PURE
    monkeypatch.setattr(
        "esd.episodes.environments.Environments.left_behind",
        lambda self, variant, calls=[]: bytes([calls.append(0) or len(calls)]),
    )
    assert "by its compiled functions" in verdict(config)


def test_all_bits_of_whatever_an_environment_returns_are_compared() -> None:
    zeros = np.zeros((2, 3), np.float32)
    last = zeros.copy()
    last[1, 2] = np.nextafter(np.float32(0), np.float32(1))
    different = [
        zeros, last, zeros.reshape(3, 2), zeros.astype(np.float64), {"a": zeros}, {"a": last}, {"b": zeros},
        (zeros, 1), (zeros, 2), [last], 1.5, np.float32(1.5), None, True, "a", b"b", -0.0, 0.0,
        {"a": {"b": (1, last)}}, np.array([None, 1.0], object), np.array([None, 2.0], object),
    ]  # fmt: skip
    assert len({digest_of(value) for value in different}) == len(different)
    assert digest_of({"a": 1, "b": zeros}) == digest_of({"b": zeros.copy(), "a": 1})
    assert digest_of(torch.tensor([1.0])) == digest_of(np.array([1.0], np.float32))
    assert digest_of(float("nan")) == digest_of(float("nan"))
    assert digest_of(object()) == digest_of(object())
    endless: list[Any] = []
    endless.append(endless)
    assert isinstance(digest_of(endless), int)


def doubled(value: Any) -> Any:
    return value * 2


REFUSED, RENDERS, NO_FIT = "refused", {"render_mode": "rgb_array"}, "does not fit"
BOX = gymnasium.spaces.Box(-np.inf, np.inf, (3,))
TORQUE = gymnasium.spaces.Box(-2.0, 2.0, (1,))
# every wrapper of Gymnasium by what it needs around a pendulum, and what is said of it
OF_GYMNASIUM: dict[str, Any] = {
    "AddRenderObservation": {"render_only": True},
    "AddWhiteNoise": {"probability_of_noise_per_pixel": 0.2},
    "ArrayConversion": NO_FIT,  # returns torch's or JAX's arrays
    "AtariPreprocessing": NO_FIT,
    "Autoreset": {},
    "ClipAction": {},
    "ClipReward": {"min_reward": -1.0, "max_reward": 0.0},
    "DelayObservation": {"delay": 2},
    "DiscretizeAction": {"bins": 5},
    "DiscretizeObservation": {"bins": 5},
    "DtypeObservation": {"dtype": np.float64},
    "FilterObservation": NO_FIT,  # of dicts
    "FlattenObservation": {},
    "FrameStackObservation": {"stack_size": 3},
    "GrayscaleObservation": NO_FIT,
    "HumanRendering": NO_FIT,
    "JaxToNumpy": NO_FIT,
    "JaxToTorch": NO_FIT,
    "MaxAndSkipObservation": {"skip": 3},
    "NormalizeObservation": REFUSED,
    "NormalizeReward": REFUSED,
    "NumpyToTorch": NO_FIT,
    "ObstructView": {"obstructed_pixels_ratio": 0.2, "obstruction_width": 10},
    "OrderEnforcing": {},
    "PassiveEnvChecker": {},
    "RecordEpisodeStatistics": {},
    "RecordVideo": NO_FIT,  # needs moviepy; it writes files and changes nothing
    "RenderCollection": NO_FIT,  # keeps pictures and changes nothing
    "RepeatAction": {"num_repeats": 2},
    "RescaleAction": {"min_action": -1.0, "max_action": 1.0},
    "RescaleObservation": {"min_obs": 0.0, "max_obs": 1.0},
    "ReshapeObservation": {"shape": (3, 1)},
    "ResizeObservation": NO_FIT,
    "StickyAction": {"repeat_action_probability": 0.5},
    "TimeAwareObservation": {},
    "TimeLimit": {"max_episode_steps": 30},
    "TransformAction": {"func": functools.partial(np.clip, a_min=-1, a_max=1), "action_space": TORQUE},
    "TransformObservation": {"func": doubled, "observation_space": BOX},
    "TransformReward": {"func": doubled},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")  # of Gymnasium's own
@pytest.mark.parametrize("name", OF_GYMNASIUM)
def test_every_wrapper_of_gymnasium_is_judged_rightly(name: str) -> None:
    needs = OF_GYMNASIUM[name]
    if needs == NO_FIT:
        return
    config = of_table(env={"id": "Pendulum-v1"})
    around = [Wrapper(f"gymnasium.wrappers:{name}", {} if needs == REFUSED else needs)]
    env = config.env
    if name in (
        "AddRenderObservation",
        "AddWhiteNoise",
        "ObstructView",
    ):  # pictures as observations
        env = dataclasses.replace(env, kwargs=RENDERS, max_steps=20)
        seen = Wrapper("gymnasium.wrappers:AddRenderObservation", {"render_only": True})
        around = [*(one for one in around if one.id != seen.id), seen]
    config = dataclasses.replace(config, env=dataclasses.replace(env, wrappers=tuple(around)))
    rollout = Rollout(config)
    algorithm = make_strategy(config, rollout.policy.layout)
    state = start(algorithm, rollout.policy.initial_parameters(0), 0)
    if needs == REFUSED:
        with pytest.raises(UsageError, match=name):
            check_purity(rollout, algorithm, state)
        # and rightly so
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("esd.episodes.stateful_wrappers.LIBRARIES", ())
            with pytest.raises(RunError, match=f"the wrapper {name} is not a pure function"):
                check_purity(rollout, algorithm, state)
    else:
        check_purity(rollout, algorithm, state)


def test_no_wrapper_of_gymnasium_is_left_out() -> None:
    missing = {name for name in wrappers.__all__ if name != "vector"} - set(OF_GYMNASIUM)
    assert not missing


def test_an_end_that_has_no_truth_is_refused_as_it_is_in_training() -> None:
    ends = {"of": "terminated", "change": lambda env: np.array([False, False])}
    text = verdict(with_objects(of_table(env={"id": "tests.helpers.odd:Odd-v0"}), **ends))
    assert text == (
        "env.id = 'tests.helpers.odd:Odd-v0', step 3: terminated is a numpy.ndarray of shape (2,) and dtype bool: "
        "expected a bool"
    )
