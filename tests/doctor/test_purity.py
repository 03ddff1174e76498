"""An environment's purity is examined: each way of breaking law 1 is found, and told with what to do."""

from __future__ import annotations

import dataclasses
import functools
import sys
from typing import Any

import pytest
from gymnasium import spaces

from esd.config.settings import Config, EnvironmentConfig
from esd.doctor import purity
from esd.doctor.machine import Check, Verdict
from esd.doctor.many_episodes import many_episodes
from esd.doctor.recorded_episodes import EpisodeHash
from esd.episodes.check_at_start import check_purity
from esd.episodes.rollout import Rollout
from esd.errors import UsageError
from esd.evolution.state import make_strategy, start
from esd_envs.hidden import HiddenCartPole
from tests.helpers.configs import of_table, with_objects
from tests.helpers.impure import Impure

OF_ONE_OBJECT = (
    "twice",
    "after others",
    "after an abandoned episode",
    "after an exception in step",
    "many times",
)


def environment(id: str, **more: Any) -> EnvironmentConfig:
    """A user's environment."""
    module = "impure" if id == "Impure" else "user_code"
    config: Config = of_table(env={"id": f"tests.helpers.{module}:{id}-v0", **more})
    return config.env


def examined(config: EnvironmentConfig, lockstep: bool = False) -> dict[str, Check]:
    """What is found, by name."""
    return {check.name: check for check in purity.examine(config, 30, lockstep)}


@functools.cache
def impure(how: str, rebuild: str = "auto") -> dict[str, Check]:
    """What is found of an environment that is impure in a given way."""
    Impure.episodes = 0  # as in a process of its own
    return examined(environment("Impure", kwargs={"how": how}, rebuild=rebuild))


@pytest.fixture
def _in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting Python takes longer than all the other checks; most tests don't ask for it."""
    monkeypatch.setattr(purity, "in_a_fresh_process", purity.hash_of_episode)


def names(found: dict[str, Check], state: Verdict) -> set[str]:
    """The checks that ended in a state."""
    return {name for name, check in found.items() if check.state is state}


def test_a_pure_environment_passes_every_check() -> None:
    found = impure("none")
    assert names(found, Verdict.OK) == set(found)
    assert {
        *OF_ONE_OBJECT,
        "a new object",
        "a new process",
        "two at the same time",
        "speed",
    } <= set(found)
    assert found["speed"].figures["steps_per_second"] > 0


@pytest.mark.parametrize(
    ("how", "failing"),
    [
        ("object", {*OF_ONE_OBJECT}),
        ("class", {*OF_ONE_OBJECT, "a new object"}),
        ("unfinished", {"after an abandoned episode", "after an exception in step"}),
        ("exception", {"after an exception in step"}),
        ("unseeded", {*OF_ONE_OBJECT, "a new object", "a new process"}),
        ("reward", {"finite numbers"}),
        ("observation", {"finite numbers"}),
    ],
)
def test_every_leak_is_found_where_it_is(how: str, failing: set[str]) -> None:
    assert names(impure(how), Verdict.FAILED) == failing


@pytest.mark.usefixtures("_in_one_process")
def test_a_leak_into_every_sixtieth_episode_takes_the_doctor() -> None:
    rare = {"id": "tests.helpers.impure:Leaking-v0", "kwargs": {"leak": "every sixtieth"}}
    config = of_table(env=rare)
    rollout = Rollout(config)
    algorithm = make_strategy(config, rollout.policy.layout)
    check_purity(rollout, algorithm, start(algorithm, rollout.policy.initial_parameters(0), 0))
    found = examined(config.env)
    assert names(found, Verdict.FAILED) == {"many times"}
    assert "the environment itself (Leaking)" in found["culprit"].text
    assert 'set env.rebuild = "always"' in found["env.rebuild"].text
    (check,) = many_episodes(config)
    assert check.state is Verdict.FAILED
    assert "the environment itself (Leaking)" in check.text


@pytest.mark.usefixtures("_in_one_process")
def test_the_wrapper_that_leaks_is_named() -> None:
    wrapper = {"id": "tests.helpers.impure:Counting"}
    found = examined(of_table(env={"id": "CartPole-v1", "wrappers": [wrapper]}).env)
    assert "the wrapper Counting" in found["culprit"].text
    assert "culprit" not in impure("none")


def test_stateful_wrappers_are_refused_by_name() -> None:
    for env in (
        {"id": "CartPole-v1", "wrappers": ["gymnasium.wrappers:NormalizeObservation"]},
        {"id": "tests.helpers.impure:Specified-v0"},
    ):
        found = examined(of_table(env=env).env)
        assert names(found, Verdict.FAILED) == {"wrappers"}
        assert "set env.normalize_observations = true" in found["wrappers"].text


@pytest.mark.parametrize("how", ["none", "memory", "rare"])
def test_a_policy_is_examined_at_length(how: str) -> None:
    kind = {"kind": "tests.helpers.impure_policies:ImpurePolicy", "kwargs": {"how": how}}
    (check,) = many_episodes(of_table(env={"id": "CartPole-v1"}, policy=kind))
    assert (check.state is Verdict.OK) == (how == "none")
    assert (how == "none") or check.text.startswith("policy.kind")


def test_a_fresh_process_has_another_hash_seed_and_the_same_episodes() -> None:
    """The order of eight words in a set is another one in most processes."""
    ordered = environment("Impure", kwargs={"how": "process"})
    assert len({purity.in_a_fresh_process(ordered, 30) for _ in range(6)}) > 1
    pure = environment("Impure")
    assert purity.in_a_fresh_process(pure, 30) == purity.hash_of_episode(pure, 30)


def test_what_depends_on_the_process_alone_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purity, "in_a_fresh_process", lambda *_: EpisodeHash("another", 9))
    found = examined(environment("Impure"))
    assert names(found, Verdict.FAILED) == {"a new process"}
    assert "the order of a set" in found["a new process"].text


def test_a_process_that_fails_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert "ended with code 1" in examined(environment("Impure"))["a new process"].text


@pytest.mark.usefixtures("_in_one_process")
@pytest.mark.parametrize(
    ("how", "mends"), [("object", True), ("unfinished", True), ("class", False)]
)
def test_it_is_told_whether_making_the_environment_anew_mends_a_leak(how: str, mends: bool) -> None:
    advice = impure(how)["env.rebuild"]
    assert advice.state is Verdict.NOTE
    assert ('set env.rebuild = "always"' in advice.text) == mends
    assert ("outside of its object" in advice.text) != mends
    followed = impure(how, rebuild="always")
    assert (not names(followed, Verdict.FAILED)) == mends


def test_a_seed_that_changes_nothing_is_noted() -> None:
    assert "super().reset(seed=seed)" in impure("deaf")["seeds"].text
    assert impure("none")["seeds"].state is Verdict.OK


def test_the_first_number_that_is_not_finite_is_named() -> None:
    assert "the reward of step 5 is inf" in impure("reward")["finite numbers"].text
    assert "an observation has nan in it" in impure("observation")["finite numbers"].text


@pytest.mark.parametrize("how", ["raises", "closing"])
def test_what_an_environment_raises_is_told_and_nothing_is_raised(how: str) -> None:
    found = impure(how)
    (name,) = names(found, Verdict.FAILED)
    assert ("ZeroDivisionError" if how == "raises" else "the window is gone") in found[name].text


@pytest.mark.usefixtures("_in_one_process")
def test_an_environment_without_a_step_limit_is_told_so_and_examined_all_the_same() -> None:
    found = examined(environment("Endless"))
    assert names(found, Verdict.FAILED) == {"step limit"}
    assert "env.max_steps" in found["step limit"].text
    assert "twice" in found
    assert not names(examined(environment("Endless", max_steps=20)), Verdict.FAILED)


@pytest.mark.usefixtures("_in_one_process")
def test_global_generators_and_shared_state_matter_only_in_lockstep() -> None:
    for id, where in (
        ("GlobalRandomness", {"its own random generator", "two at the same time"}),
        ("Shared", {"two at the same time"}),
    ):
        for lockstep, state in ((False, Verdict.NOTE), (True, Verdict.FAILED)):
            found = examined(environment(id), lockstep)
            assert names(found, state) == where
            assert names(found, Verdict.OK) == set(found) - where


def test_spaces_that_no_policy_fits_are_told() -> None:
    config = with_objects(
        of_table(env={"id": "tests.helpers.user_code:Spaces-v0"}),
        observation_space=spaces.Sequence(spaces.Discrete(3)),
        action_space=spaces.Text(3),
    )
    found = examined(config.env)
    assert names(found, Verdict.FAILED) == {"observations", "actions"}
    assert "Sequence" in found["observations"].text
    assert "Text" in found["actions"].text


def box2d(rebuild: str) -> dict[str, Check]:
    """What is found of an environment that keeps its Box2D world."""
    config: Config = of_table(env={"id": "BipedalWalker-v3", "rebuild": rebuild})
    return {check.name: check for check in purity.examine(config.env, 100)}


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # of Box2D's wrapper, while it is imported
def test_a_box2d_world_that_lives_on_is_found_and_one_made_anew_is_fine() -> None:
    left = box2d("never")
    assert "twice" in names(left, Verdict.FAILED)
    assert "Box2D" in left["created and closed"].text
    assert 'set env.rebuild = "always"' in left["env.rebuild"].text
    anew = box2d("auto")
    assert names(anew, Verdict.OK) == set(anew)
    assert "created again for every episode" in anew["created and closed"].text


def test_an_unknown_environment_is_wrong_use() -> None:
    with pytest.raises(UsageError, match="CartPole-v1"):
        list(purity.examine(dataclasses.replace(environment("Impure"), id="CartPol-v1")))


@pytest.mark.usefixtures("_in_one_process")
def test_examining_leaves_no_trace_function_behind() -> None:
    before = sys.gettrace()
    examined(environment("Impure"))
    assert sys.gettrace() is before


@pytest.mark.usefixtures("_in_one_process")
def test_compiled_episodes_are_compared_with_the_environments_own_step() -> None:
    own = {"id": "tests.episodes.test_compiled_episodes:Own-v0"}
    for kwargs, state in (({}, Verdict.OK), ({"different": True}, Verdict.FAILED)):
        config: Config = of_table(env={**own, "kwargs": kwargs})
        assert examined(config.env)["compiled episodes"].state is state
    assert "compiled episodes" not in impure("none")


@pytest.mark.usefixtures("_in_one_process")
def test_compiled_functions_that_show_something_else_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rewards and ends of one step are all the same, whatever is observed."""
    monkeypatch.setattr(HiddenCartPole, "step", seen_doubled(HiddenCartPole.step))
    config: Config = of_table(env={"id": "esd/HiddenCartPole-v0", "max_steps": 2})
    found = examined(config.env)
    assert names(found, Verdict.FAILED) == {"compiled episodes"}
    assert "2.0 2" in found["compiled episodes"].text


def seen_doubled(step: Any) -> Any:
    """A step that shows twice what it should."""

    def doubled(self: HiddenCartPole, action: Any) -> Any:
        observation, *others = step(self, action)
        return (2.0 * observation, *others)

    return doubled


@pytest.mark.usefixtures("_in_one_process")
def test_an_offer_that_cannot_be_called_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    made = HiddenCartPole.__init__

    def spoilt(self: HiddenCartPole, **kwargs: Any) -> None:
        made(self, **kwargs)
        self.compiled.step_address = 0

    monkeypatch.setattr(HiddenCartPole, "__init__", spoilt)
    config: Config = of_table(env={"id": "esd/HiddenCartPole-v0"})
    check = examined(config.env)["compiled episodes"]
    assert check.state is Verdict.FAILED
    assert "step_address is 0" in check.text
