"""Evaluation on the test stream: which episodes, on which bodies, by which rules."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from esd.config.settings import Config
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.errors import UsageError
from esd.evaluation import test_episodes
from esd.evaluation.stored import Conditions, conditions_of, describe, read, store, summary
from esd.evaluation.test_episodes import (
    Subject,
    VariantResult,
    choose,
    episode_seeds,
    evaluate,
    make_rollout,
)
from esd.evolution.noise import Purpose
from esd.evolution.state import RunState, make_strategy, start
from esd.mpi.comm import Alone, JobFailedError
from esd.policies.base import Interface
from esd.policies.registry import make_policy
from esd.run.folder import RunFolder
from tests.helpers.configs import of_table

BODIES: list[dict[str, Any]] = [
    {"name": "light", "kwargs": {"g": 2.0}},
    {"name": "heavy", "kwargs": {"g": 20.0}},
    {"name": "moon", "kwargs": {"g": 1.62}, "unseen": True},
]


def bodies(**env: Any) -> Config:
    return of_table(env={"id": "Pendulum-v1", "max_steps": 30, "variants": BODIES, **env})


def with_h(state: RunState, h: np.ndarray) -> RunState:
    return dataclasses.replace(state, evolution=dataclasses.replace(state.evolution, h=h))


def state_of(config: Config) -> RunState:
    policy = make_policy(config.policy, Interface(3, 1, True))
    return start(make_strategy(config, policy.layout), policy.initial_parameters(0), 0)


def played(config: Config, *settings: str, **options: Any) -> dict[str, VariantResult]:
    """Four test episodes of h_0, by variant."""
    subject = choose(config, options.pop("env", None), settings, options.pop("variants", ()))
    results = evaluate(Alone(), subject, state_of(config), 4, options.pop("seed", 0), **options)
    return {result.name: result for result in results}


def test_all_variants_are_played_and_labelled_seen_or_unseen() -> None:
    found = played(bodies())
    assert {name: result.seen for name, result in found.items()} == {
        "light": True,
        "heavy": True,
        "moon": False,
    }
    assert all(result.steps == 4 * 30 for result in found.values())
    assert len({tuple(result.returns) for result in found.values()}) == 3


def test_a_variants_episodes_dont_depend_on_which_others_are_asked_for() -> None:
    together = played(bodies())
    alone = played(bodies(), variants=["moon"])
    turned = played(bodies(), variants=["moon", "light", "moon"])
    assert list(alone) == ["moon"]
    assert list(turned) == ["moon", "light"]
    for name in turned:
        np.testing.assert_array_equal(turned[name].returns, together[name].returns)
    np.testing.assert_array_equal(alone["moon"].returns, together["moon"].returns)


def test_more_episodes_begin_with_the_same_ones_and_another_seed_has_others() -> None:
    config = bodies()
    subject = choose(config, None, [], ["light"])
    few = evaluate(Alone(), subject, state_of(config), 2, 0)[0].returns
    many = evaluate(Alone(), subject, state_of(config), 4, 0)[0].returns
    other = evaluate(Alone(), subject, state_of(config), 4, 1)[0].returns
    np.testing.assert_array_equal(few, many[:2])
    assert not np.isin(many, other).any()


def test_each_return_is_that_of_its_episode_played_alone() -> None:
    config = bodies()
    plain = Rollout(of_table(env={"id": "Pendulum-v1", "max_steps": 30, "kwargs": {"g": 20.0}}))
    h = state_of(config).h
    for episode, expected in enumerate(played(config)["heavy"].returns):
        seeds = episode_seeds(0, episode, 1)
        own = EpisodeSeeds(seeds.environment, seeds.policy)
        assert plain.evaluate(h, [own]).returns == (expected,)


def test_a_setting_makes_another_body_which_is_unseen() -> None:
    config = of_table(env={"id": "Pendulum-v1", "max_steps": 30})
    plain = played(config)["Pendulum-v1"]
    changed = played(config, "env.kwargs.g=3.0")["Pendulum-v1"]
    assert (plain.seen, changed.seen) == (True, False)
    assert changed.world["kwargs"] == {"g": 3.0}
    assert not np.array_equal(plain.returns, changed.returns)
    described = played(bodies(), 'env.variants=[{name = "x", kwargs = {g = 20.0}}]')
    assert described["x"].seen, "it is the heavy one by another name"


@pytest.mark.parametrize(
    ("env_id", "change", "seen"),
    [
        ("Pendulum-v1", 'env.kwargs.render_mode="rgb_array"', True),
        ("Pendulum-v1", 'env.wrappers=["gymnasium.wrappers:RecordEpisodeStatistics"]', True),
        (
            "Pendulum-v1",
            'env.wrappers=[{id = "gymnasium.wrappers:RecordVideo", kwargs = {video_folder = "x"}}]',
            True,
        ),
        ("Pendulum-v1", 'env.wrappers=["mine:RecordVideo"]', False),
        ("Pendulum-v1", 'env.wrappers=["gymnasium.wrappers:FlattenObservation"]', False),
        ("Pendulum-v1", "env.kwargs.width=300", False),
        ("Pendulum-v1", "env.reset_options={x_init = 1.0}", False),
        ("Ant-v5", "env.kwargs={width = 300, height = 200, camera_id = 1}", True),
        ("Ant-v5", "env.kwargs={width = 300, reset_noise_scale = 0.2}", False),
    ],
)
def test_a_body_that_is_drawn_or_recorded_is_still_the_one_that_was_trained(
    env_id: str, change: str, seen: bool
) -> None:
    subject = choose(of_table(env={"id": env_id}), None, [change], [])
    assert subject.seen(subject.variants[0]) is seen


@pytest.mark.parametrize(
    "setting",
    ["max_steps=9", "stop_after_negative=5", "kwargs={g = 3.0}", "reset_options={x_init = 1.0}"],
)
def test_a_world_has_all_that_its_returns_depend_on(setting: str) -> None:
    config = of_table(env={"id": "Pendulum-v1"})
    plain, changed = choose(config, None, [], []), choose(config, None, [f"env.{setting}"], [])
    assert plain.world(plain.variants[0]) != changed.world(changed.variants[0])


@pytest.mark.parametrize(
    ("returns", "mean", "std", "interval"),
    [
        ([3.0], 3.0, None, None),
        ([3.0, 3.0, 3.0], 3.0, 0.0, (3.0, 3.0)),
        ([1.0, 3.0], 2.0, np.sqrt(2.0), (2.0 - 12.7062047, 2.0 + 12.7062047)),
        ([np.nan, np.nan], None, None, None),
        ([1.0, np.nan], None, None, None),
        ([1.0, np.inf], None, None, None),
    ],
)
def test_what_a_few_returns_cannot_tell_is_null(
    returns: list[float],
    mean: float | None,
    std: float | None,
    interval: tuple[float, float] | None,
    tmp_path: Path,
) -> None:
    config = bodies()
    subject = choose(config, None, [], ["light"])
    result = VariantResult("light", True, {}, np.array(returns), 9, {}, {})
    conditions = Conditions("best", 0, len(returns))
    with np.errstate(invalid="ignore"):
        found = describe(RunFolder(tmp_path), subject, state_of(config), conditions, [result])
    for table in (found, found["variants"][0]):
        assert table["mean"] == mean
        assert table["std"] == (None if std is None else pytest.approx(std))
        assert table["interval_95"] == (None if interval is None else pytest.approx(interval))


def test_only_what_was_set_is_told_as_changed() -> None:
    single = of_table(env={"id": "Pendulum-v1"})
    changed = choose(single, None, ["env.kwargs.g=1.5"], []).settings
    assert changed == {"env.kwargs.g": 1.5}  # and not env.kwargs, which was empty
    with_g = of_table(env={"id": "Pendulum-v1", "kwargs": {"g": 2.0}})
    changed = choose(with_g, None, ["env.kwargs={}"], []).settings
    assert changed == {"env.kwargs": {}, "env.kwargs.g": None}


def test_settings_of_the_policy_change_the_episodes_but_not_the_body() -> None:
    free = played(bodies())["light"]
    frozen = played(bodies(), "policy.freeze_after=1")["light"]
    assert frozen.seen
    assert not np.array_equal(free.returns, frozen.returns)


def test_the_zero_action_gives_the_same_for_all_rules_on_a_body_that_stays_seen() -> None:
    zero = 'env.wrappers=["esd_envs:ZeroAction"]'
    evolved = played(bodies(), zero)
    random = played(bodies(), zero, rules="random")
    for name in evolved:
        np.testing.assert_array_equal(evolved[name].returns, random[name].returns)
    assert evolved["light"].seen
    assert not evolved["moon"].seen


def test_random_rules_are_new_in_every_episode_and_dont_depend_on_the_run() -> None:
    config = of_table(env={"id": "Pendulum-v1", "max_steps": 30})
    subject = choose(config, None, [], [])
    state = state_of(config)
    other = with_h(state, np.zeros_like(state.h))
    returns = [evaluate(Alone(), subject, s, 4, 0, "random")[0].returns for s in (state, other)]
    np.testing.assert_array_equal(*returns)
    rollout = make_rollout(subject, state)
    drawn = [
        rollout.policy.initial_parameters(
            EpisodeSeeds.named(0, Purpose.RANDOM_RULES, 0, 0, episode).policy
        )
        for episode in range(4)
    ]
    expected = [
        rollout.evaluate(h, [episode_seeds(0, episode, 0)]).returns[0]
        for episode, h in enumerate(drawn)
    ]
    assert returns[0].tolist() == expected
    assert len({h.tobytes() for h in drawn}) == 4


@pytest.mark.parametrize("broken", ["rules_of", "_told", "_check_network"])
def test_the_environments_are_closed_when_an_evaluation_fails(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Rollout] = []
    monkeypatch.setattr(Rollout, "close", lambda self: closed.append(self))

    def fails(*arguments: object) -> None:
        raise UsageError("something is wrong")

    monkeypatch.setattr(test_episodes, broken, fails)
    with pytest.raises(JobFailedError):
        played(bodies())
    assert len(closed) == 1


class Exploding(gymnasium.Wrapper):
    """Raises in the third step of the episode of a seed; tells a result in all others."""

    def __init__(self, env: gymnasium.Env, seed: int) -> None:
        super().__init__(env)
        self.metadata = {**env.metadata, "results": {"pole": "m"}}
        self._seed, self._explodes, self._steps = seed, False, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self._explodes, self._steps = seed == self._seed, 0
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        self._steps += 1
        if self._explodes and self._steps == 3:
            raise RuntimeError("the simulator exploded")
        observation, reward, ended, cut, info = super().step(action)
        return observation, reward, ended, cut, {**info, "pole": 1.0}


def test_an_episode_that_raises_is_named_or_has_no_result_if_it_is_to_rank_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seed = episode_seeds(0, 2, 0).environment
    exploding = {"id": f"{__name__}:Exploding", "kwargs": {"seed": seed}}
    whole, config = played(bodies()), bodies(wrappers=[exploding])
    with pytest.raises(JobFailedError) as stopped:
        played(config)
    text = str(stopped.value.__cause__)
    assert text.startswith("test episode 2 on 'light': env.id = 'Pendulum-v1'")
    assert "step 3: raised RuntimeError: the simulator exploded" in text
    assert text.endswith("""to count such an episode as failed: --set env.on_failure="worst\"""")
    found = played(config, 'env.on_failure="worst"')
    assert "test episode 2 failed: " in capsys.readouterr().err
    for name, own in whole.items():
        expected = own.returns.copy()
        expected[2] = np.nan
        np.testing.assert_array_equal(found[name].returns, expected)
        np.testing.assert_array_equal(found[name].results["pole"], [1.0, 1.0, np.nan, 1.0])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["es.sigma=1"], r"es.sigma=1: can't be changed in an evaluation: only env"),
        (["seed=1"], r"seed=1: can't be changed in an evaluation"),
        (["policy.kind=static"], r"policy.kind=static: can't be changed in an evaluation"),
        (["env.episodes_per_member=2"], r"use the option --episodes of esd eval"),
        (["env.normalize_observations=true"], r"the observations of the run"),
        (["env.kwargs.g=1"], r"env.kwargs.g=1: has no effect on variant 'light'"),
        (["env.kwargs={g=1}"], r"env.kwargs={g=1}: has no effect on variant 'light'"),
        (["env . kwargs.g=1"], r"can't be changed in an evaluation"),
        (["env.kwargs.g.x=1"], r"env.kwargs.g.x=1: has no effect on variant 'light'"),
        (["policy.freeze_after=-1"], r"policy.freeze_after = -1: expected"),
        (["policy.freezeafter=1"], r"did you mean 'freeze_after'"),
    ],
)
def test_a_setting_without_place_or_effect_is_refused_by_name(
    settings: list[str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        choose(bodies(), None, settings, [])


def test_an_id_that_a_variant_overrides_is_refused() -> None:
    config = bodies(variants=[{"name": "a", "id": "Pendulum-v1"}])
    with pytest.raises(UsageError, match="no effect on variant 'a'"):
        choose(config, "CartPole-v1", [], [])


def test_unknown_variants_are_named_beside_what_there_is() -> None:
    assert [v.name for v in choose(bodies(), None, [], ["m*", "light"]).variants] == [
        "moon",
        "light",
    ]
    with pytest.raises(UsageError, match="--variant mon: no such variant, did you mean 'moon'"):
        choose(bodies(), None, [], ["mon"])
    single = of_table(env={"id": "Pendulum-v1"})
    with pytest.raises(UsageError, match="the run has no variants"):
        choose(single, None, [], ["mon"])
    assert choose(single, None, [], ["Pendulum-v1"]) == choose(single, None, [], [])


@pytest.mark.parametrize("setting", ["policy.hidden=[5]", "policy.rule=ABCD", "policy.order=F"])
def test_a_setting_that_makes_another_network_is_refused_by_name(setting: str) -> None:
    config = bodies()
    subject = choose(config, None, [setting], [])
    with pytest.raises(UsageError, match=setting.partition("=")[0]):
        make_rollout(subject, state_of(config))


def test_an_environment_of_another_size_is_refused() -> None:
    config = of_table(env={"id": "Pendulum-v1"})
    with pytest.raises(UsageError, match="another size"):
        make_rollout(choose(config, "CartPole-v1", [], []), state_of(config))
    of_a_variant = ['env.variants=[{name = "cart", id = "CartPole-v1"}]']
    with pytest.raises(UsageError, match=r"env.id = 'CartPole-v1': .* another size"):
        make_rollout(choose(config, None, of_a_variant, []), state_of(config))


class Telling(gymnasium.Wrapper):
    """Tells how far it got."""

    def __init__(self, env: gymnasium.Env, result: str = "distance", declared: Any = None) -> None:
        super().__init__(env)
        self._result = result
        declared = declared or {"distance": "m", "seconds": "s"}
        self.metadata = {**env.metadata, "results": declared}

    def reset(self, **kwargs: Any) -> Any:
        self._steps = 0
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> Any:
        *answer, info = self.env.step(action)
        self._steps += 1
        told = {self._result: self._steps / 2, "seconds": np.float32(self._steps)}
        return *answer, {**info, **told}


def test_what_the_environment_tells_at_the_end_of_an_episode_is_reported_with_units() -> None:
    table = {
        "id": "Pendulum-v1",
        "max_steps": 7,
        "wrappers": ["tests.evaluation.test_test_episodes:Telling"],
    }
    result = played(of_table(env=table))["Pendulum-v1"]
    assert result.units == {"distance": "m", "seconds": "s"}
    assert result.results["distance"].tolist() == [3.5] * 4
    assert result.results["seconds"].tolist() == [7.0] * 4


def test_a_variant_with_results_beside_one_without() -> None:
    plain, telling = (
        {"name": "plain"},
        {"name": "t", "wrappers": ["tests.evaluation.test_test_episodes:Telling"]},
    )
    env = {"id": "Pendulum-v1", "max_steps": 7, "variants": [plain, telling]}
    found = played(of_table(env=env))
    assert found["plain"].results == {}
    assert set(found["t"].results) == {"distance", "seconds"}


def test_a_result_that_is_promised_but_not_told_is_an_error() -> None:
    wrapper = {"id": "tests.evaluation.test_test_episodes:Telling", "kwargs": {"result": "other"}}
    env = {"id": "Pendulum-v1", "max_steps": 7, "wrappers": [wrapper]}
    with pytest.raises(JobFailedError) as failure:
        played(of_table(env=env))
    assert "declares the result 'distance', but info after" in str(failure.value.__cause__)
    assert "seconds" not in str(failure.value.__cause__)


@pytest.mark.parametrize("declared", [["distance"], {"distance": None}, {"distance": 3}, {1: "m"}])
def test_declared_results_that_are_no_names_and_units_are_refused(declared: Any) -> None:
    wrapper = {
        "id": "tests.evaluation.test_test_episodes:Telling",
        "kwargs": {"declared": declared},
    }
    env = {"id": "Pendulum-v1", "max_steps": 7, "wrappers": [wrapper]}
    with pytest.raises(UsageError, match=r'metadata\["results"\] = .*expected a dict of names and'):
        Rollout(of_table(env=env))


def test_the_damaged_ant_tells_meters_and_meters_per_second() -> None:
    env = {"id": "esd/DamagedAnt-v0", "max_steps": 5}
    config = of_table(env=env)
    policy = make_policy(config.policy, Interface(27, 8, True))
    state = start(make_strategy(config, policy.layout), policy.initial_parameters(0), 0)
    (result,) = evaluate(Alone(), choose(config, None, [], []), state, 2, 0)
    assert result.units == {"distance": "m", "speed": "m/s"}
    # paid per m/s, steps of 0.05 s
    np.testing.assert_allclose(result.results["distance"], 0.05 * result.returns, atol=1e-9)
    np.testing.assert_allclose(result.results["speed"] * 0.25, result.results["distance"])


def stored(
    folder: RunFolder, subject: Subject, state: RunState, seed: int = 0, rules: str = "evolved"
) -> Path:
    settings = json.dumps(subject.settings, sort_keys=True)
    conditions = Conditions("last", seed, 4, rules, settings)
    results = evaluate(Alone(), subject, state, 4, seed, rules)
    return store(folder, describe(folder, subject, state, conditions, results))


@pytest.mark.parametrize("name", ["NormalizeObservation", "NormalizeReward"])
def test_a_wrapper_that_remembers_episodes_is_refused_as_in_training(name: str) -> None:
    config = of_table(env={"id": "Pendulum-v1", "max_steps": 7})
    asked = choose(config, None, [f"env.wrappers=['gymnasium.wrappers:{name}']"], [])
    with pytest.raises(UsageError, match=f"gymnasium.wrappers:{name}: keeps statistics over all"):
        make_rollout(asked, state_of(config))
    drifting = of_table(env={"id": "Pendulum-v1", "max_steps": 7}, run={"allow_drift": True})
    asked = choose(drifting, None, [f"env.wrappers=['gymnasium.wrappers:{name}']"], [])
    make_rollout(asked, state_of(drifting)).close()


def test_nothing_stored_is_overwritten_by_something_else_but_repeats_are(tmp_path: Path) -> None:
    config, folder = bodies(), RunFolder(tmp_path)
    state = state_of(config)
    other = with_h(state, state.h * np.float32(2.0))
    asked: list[tuple[Any, ...]] = [
        (choose(config, None, [], []), state, 0),
        (choose(config, None, [], []), state, 0, "random"),
        (choose(config, None, [], ["moon"]), state, 0),
        (choose(config, None, ["policy.freeze_after=2"], []), state, 0),
        (choose(config, None, ["env.max_steps=9"], []), state, 0),
        (
            choose(config, None, ['env.variants=[{name = "moon", kwargs = {g = 9.0}}]'], []),
            state,
            0,
        ),
        (choose(config, None, [], []), state, 1),
        (choose(config, None, [], []), other, 0),
    ]
    paths = [stored(folder, *case) for case in asked]
    assert len({*paths}) == len(asked)
    assert [stored(folder, *case) for case in asked] == paths
    found = read(folder)
    assert len(found) == len(asked)
    assert {conditions_of(f).settings for f in found} >= {"{}", '{"policy.freeze_after": 2}'}


def test_a_stored_evaluation_has_everything_and_its_summary_no_lists(tmp_path: Path) -> None:
    table = {
        "id": "Pendulum-v1",
        "max_steps": 7,
        "wrappers": ["tests.evaluation.test_test_episodes:Telling"],
    }
    config = of_table(env=table)
    path = stored(RunFolder(tmp_path), choose(config, None, [], []), state_of(config))
    found = json.loads(path.read_text("utf-8"))
    (variant,) = found["variants"]
    assert found["mean"] == variant["mean"] == pytest.approx(np.mean(variant["returns"]))
    assert found["std"] == variant["std"] == pytest.approx(np.std(variant["returns"], ddof=1))
    assert variant["interval_95"][0] < variant["mean"] < variant["interval_95"][1]
    assert variant["results"]["distance"] == {
        "mean": 3.5,
        "std": 0.0,
        "unit": "m",
        "episodes": [3.5] * 4,
    }
    assert found["steps"] == 28
    short = summary(found)
    assert "returns" not in short["variants"][0]
    assert short["variants"][0]["results"]["distance"] == {"mean": 3.5, "std": 0.0, "unit": "m"}


def test_the_mean_over_variants_takes_an_episode_as_one(tmp_path: Path) -> None:
    config = bodies()
    found = json.loads(
        stored(RunFolder(tmp_path), choose(config, None, [], []), state_of(config)).read_text()
    )
    returns = np.array([variant["returns"] for variant in found["variants"]])
    assert found["mean"] == pytest.approx(returns.mean())
    assert found["std"] == pytest.approx(returns.mean(axis=0).std(ddof=1))


def test_conditions_in_words_name_what_was_changed_and_nothing_else() -> None:
    settings = choose(of_table(env={"id": "Pendulum-v1"}), None, ["env.kwargs.g=1.6"], []).settings
    words = Conditions("best", 0, 5, "evolved", json.dumps(settings)).described()
    assert words == "best checkpoint, 5 test episodes per variant, seed 0, env.kwargs.g = 1.6"


def test_conditions_can_be_asked_for_by_their_own_options() -> None:
    config = bodies()
    asked = ["env.max_steps=9", 'env.wrappers=[{id = "a:B", kwargs = {x = [1, true]}}]']
    settings = choose(config, None, asked, []).settings
    options = Conditions("best", 3, 5, "random", json.dumps(settings, sort_keys=True)).options()
    again = [options[i + 1] for i, word in enumerate(options) if word == "--set"]
    assert choose(config, None, again, []).settings == settings
    assert options[:8] == [
        "--checkpoint", "best", "--episodes", "5", "--seed", "3", "--rules", "random"
    ]  # fmt: skip
