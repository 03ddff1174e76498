"""An environment that can't be made, or is made otherwise than asked for, is one line that says what to do."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from gymnasium import spaces

from esd.config.experiment_files import read_experiment
from esd.config.identity import identity, settings_of_h
from esd.config.kinds import POLICIES
from esd.config.settings import EnvironmentConfig
from esd.config.tables import apply_settings, parse, to_table
from esd.doctor import purity
from esd.doctor.machine import Verdict
from esd.episodes import making
from esd.episodes.making import make_environment
from esd.episodes.rollout import Rollout
from esd.episodes.spaces import ActionDecoder, ObservationFlattener
from esd.errors import UsageError
from esd.problems.episodes import EpisodesProblem
from tests.helpers import odd
from tests.helpers.configs import of_table
from tests.helpers.odd_configs import (
    DISCRETE,
    ODD,
    SEEDS,
    VECTOR,
    played,
)


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
        (spaces.Box(-1.0, 1.0, (0,)), "it has no numbers"),
        (spaces.Box(-1.0, 1.0, (3, 0)), "it has no numbers"),
        (spaces.Dict({}), "it has no numbers"),
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
        ({"id": f"{ODD}:Broken"}, "creating it raised AssertionError: this wrapper needs a joystick (odd.py, line "),
        ({"id": f"{ODD}:Broken", "kwargs": {"how": "module"}}, "No module named 'no_such_module_of_anybody'"),
        ({"id": f"{ODD}:Vector"}, "a Vector is a vector environment"),
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
        with pytest.raises(UsageError, match="is a vector environment; use the single environment"):
            make_environment(EnvironmentConfig(id=id, kwargs=kwargs, max_steps=5))


@pytest.mark.parametrize("name", ["Odd", "factory"])
def test_a_class_or_a_function_needs_no_registration_but_a_step_limit(name: str) -> None:
    env = {"id": f"{ODD}:{name}", "kwargs": {"at": 5}}
    with pytest.raises(UsageError, match=r"no step limit; set env\.max_steps"):
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
    with pytest.raises(
        UsageError, match=r"returned 'an environment' \(str\), which lacks reset, step"
    ):
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


def test_a_module_beside_the_experiments_file_is_named_and_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = EnvironmentConfig(id="module_beside_it:Reach", max_steps=5)
    with pytest.raises(UsageError) as caught:
        make_environment(config)
    assert str(caught.value).endswith(
        "module 'module_beside_it' can't be imported (No module named 'module_beside_it'); esd looked in the "
        f"working directory {tmp_path} and the installed packages"
    )
    (tmp_path / "my own").mkdir()
    (tmp_path / "my own/module_beside_it.py").write_text("raise SystemExit")
    (tmp_path / "my own/reach.toml").touch()
    read_experiment("my own/reach.toml")
    for make in (lambda: make_environment(config), lambda: POLICIES.find("module_beside_it:A")):
        with pytest.raises(UsageError) as caught:
            make()
        assert str(caught.value).endswith(
            f"module 'module_beside_it' is not found from {tmp_path}: module_beside_it.py lies in 'my own': run the "
            "command there (cd 'my own') or set PYTHONPATH='my own'"
        )


def test_arguments_of_another_environment_are_named_with_what_removes_them() -> None:
    with pytest.raises(UsageError) as caught:
        make_environment(EnvironmentConfig(id="CartPole-v1", kwargs={"friction": 1.0}))
    assert str(caught.value) == (
        "env.id = 'CartPole-v1': env.kwargs = {'friction': 1.0} does not fit this environment, which takes no argument "
        "'friction'. Remove it from env.kwargs (--set 'env.kwargs={}' removes all) or from the variant"
    )


def test_max_steps_beyond_the_environments_own_limit_is_refused_with_what_raises_it() -> None:
    beyond = of_table(env={"id": "CartPole-v1", "max_steps": 501})
    with pytest.raises(UsageError) as caught:
        EpisodesProblem(beyond)
    assert str(caught.value) == (
        "env.max_steps = 501: has no effect, since the environment 'CartPole-v1' itself ends an episode after 500 "
        "steps. Set env.kwargs.max_episode_steps = 501 instead to raise that limit, or set env.max_steps to "
        "500 or less"
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
    own = "gymnasium.envs.classic_control.cartpole:CartPoleEnv"  # a class has no limit of its own
    inner = {"id": "gymnasium.wrappers:TimeLimit", "kwargs": {"max_episode_steps": 5}}
    with pytest.raises(UsageError) as caught:
        EpisodesProblem(of_table(env={"id": own, "max_steps": 20, "wrappers": [inner]}))
    assert str(caught.value) == (
        "env.max_steps = 20: has no effect, since a TimeLimit in env.wrappers ends an episode after 5 steps. Set "
        "max_episode_steps = 20 in the kwargs of that wrapper, or remove it, or set env.max_steps to 5 or less"
    )
    old = of_table(env={"id": "CartPole-v1", "max_steps": 501}, format=1)
    assert EpisodesProblem(old).rollout.environments.step_limit(0) == 500


@pytest.mark.parametrize(
    ("keyword", "env"),
    [
        ("damage_step", {"id": "esd/DamagedAnt-v0", "kwargs": {"leg": "back_left"}}),
        (
            "at_step",
            {"id": "Hopper-v5", "wrappers": [{"id": "esd_envs:ChangedBody", "kwargs": {}}]},
        ),
    ],
)
def test_a_change_that_no_episode_lives_to_see_is_refused(
    keyword: str, env: dict[str, Any]
) -> None:
    given = env["wrappers"][0]["kwargs"] if "wrappers" in env else env["kwargs"]
    for step in (9, 10):
        given[keyword] = step
        problem = of_table(env={**env, "max_steps": 10})
        if step == 9:
            EpisodesProblem(problem)
            continue
        with pytest.raises(
            UsageError, match=f"{keyword} = 10 of .* has no effect, .* after 10 steps"
        ):
            EpisodesProblem(problem)


def test_options_are_passed_to_every_reset_and_changes_of_them_are_lost() -> None:
    env = {"id": f"{ODD}:Options-v0", "reset_options": {"pay": 2.0}}
    outcome = played(of_table(env=env), SEEDS)
    assert outcome.returns == (sum(2.0 + step for step in range(1, 10)),)
    env["reset_options"] = {"low": 0.0, "high": 0.0}
    (told,) = Rollout(of_table(env={**env, "id": "esd/HiddenCartPole-v0"})).how_played()
    assert told.endswith(
        "not in compiled code: env.reset_options are passed to its own reset in Python"
    )
    still = Rollout(of_table(env={**env, "id": "CartPole-v1"}))
    observation = next(still.environments.play(SEEDS[:1], lambda seeds: None, stepwise=True))
    assert observation.tolist() == [0.0] * 4


def test_options_are_no_part_of_the_identity_of_runs_without_any() -> None:
    plain = of_table(format=1)
    assert not any("reset_options" in key for key in settings_of_h(plain))
    optioned = parse(
        apply_settings(to_table(plain), ["env.reset_options={pay=1}", "format=2"]), "test"
    )
    assert settings_of_h(optioned)["env.reset_options.pay"] == 1
    assert identity(optioned) != identity(of_table())


def test_the_doctor_says_that_max_steps_does_nothing() -> None:
    config = EnvironmentConfig(id=f"{ODD}:Odd-v0", max_steps=500)
    limit = next(check for check in purity.examine(config, 30) if check.name == "step limit")
    assert limit.state is Verdict.FAILED
    assert "env.max_steps = 500: has no effect" in limit.text


def test_a_limit_of_a_wrapper_is_not_said_to_be_the_environments_own() -> None:
    wrapper = {"id": "gymnasium.wrappers:TimeLimit", "kwargs": {"max_episode_steps": 20}}
    with pytest.raises(
        UsageError, match=r"since a TimeLimit in env\.wrappers ends an episode after 20 steps"
    ):
        EpisodesProblem(of_table(env={"id": "CartPole-v1", "max_steps": 30, "wrappers": [wrapper]}))


@pytest.mark.parametrize(
    ("id", "versioned"),
    [
        ("CartPole", "CartPole-v1"),
        ("gymnasium:Pendulum", "gymnasium:Pendulum-v1"),
        ("esd/HiddenCartPole", "esd/HiddenCartPole-v0"),
    ],
)
def test_an_id_without_a_version_is_refused_in_new_runs_with_the_newest(
    id: str, versioned: str
) -> None:
    config = EnvironmentConfig(id=id)
    with pytest.raises(UsageError, match=rf'has no version; .* Use env\.id = "{versioned}"$'):
        make_environment(config)
    with pytest.warns(UserWarning, match="latest versioned environment"):
        assert make_environment(config, format=1).spec is not None


@pytest.mark.parametrize(
    ("id", "hint"),
    [
        ("./my_envs.py:Mine-v0", "; write the module as Python imports it: my_envs:Mine-v0"),
        ("envs/my_envs:Mine", "; write the module as Python imports it: envs.my_envs:Mine"),
        (
            ".my_envs:Mine-v0",
            "; relative names are not supported, write the full name of the module",
        ),
        (":Mine", ""),
    ],
)
def test_a_path_in_place_of_a_module_is_told_how_it_is_written(id: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_environment(EnvironmentConfig(id=id))
    assert str(caught.value) == (
        f"env.id = {id!r}: expected a Gymnasium id such as CartPole-v1, or module:Name-v0 or module:Class of your own"
        f"{hint}"
    )


def test_a_render_mode_that_the_environment_lacks_is_refused_in_new_runs() -> None:
    config = EnvironmentConfig(id="CartPole-v1", kwargs={"render_mode": "rgb"})
    with pytest.raises(UsageError, match="render_mode = 'rgb': expected one of human, rgb_array"):
        make_environment(config)
    assert make_environment(config, format=1).render_mode == "rgb"
    for mode in ("rgb_array", "rgb_array_list", None):
        make_environment(dataclasses.replace(config, kwargs={"render_mode": mode}))


def test_an_old_version_that_is_named_is_made_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make_environment(EnvironmentConfig(id="CartPole-v0")).spec is not None


def test_what_mujoco_says_of_gymnasiums_own_models_is_left_out_and_the_rest_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It would come once per model, variant and rank, and as MUJOCO_LOG.TXT in the working directory."""
    monkeypatch.chdir(tmp_path)
    env = parse(read_experiment("cheetah-bodies")[1], "cheetah-bodies").env
    (heavy,) = (variant for variant in env.variants if variant.name == "heavy torso")
    config = env.of_variant(heavy)
    make_environment(config).close()
    assert capfd.readouterr() == ("", "")
    assert not [*tmp_path.iterdir()]
    assert mujoco.get_mju_user_warning() is None, "it is as before"
    texts: list[str] = []
    mujoco.set_mju_user_warning(texts.append)
    try:
        make_environment(config).close()
        assert not texts
        with making._without_warnings_of_mujoco():
            mujoco.get_mju_user_warning()("the model is too stiff")
        assert texts == ["the model is too stiff"]
    finally:
        mujoco.set_mju_user_warning(None)
    with making._without_warnings_of_mujoco():
        mujoco.get_mju_user_warning()("the model is too stiff")
    assert capfd.readouterr().err == "esd: MuJoCo: the model is too stiff\n"
