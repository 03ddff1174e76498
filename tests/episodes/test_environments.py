"""The environment's side of an episode: its seeds, its ends, what it gives, and what can't be made."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esd.config.settings import EnvironmentConfig
from esd.episodes.making import make_environment
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.errors import UsageError
from esd.evolution.noise import Purpose
from esd.evolution.observations import ObservationStatistics
from tests.helpers.configs import of_table


def test_consecutive_episodes_have_the_seeds_they_have_one_by_one() -> None:
    for count in (1, 2, 5):
        several = EpisodeSeeds.consecutive(7, Purpose.TRAIN_EPISODE, 3, range(4, 7), range(count))
        for owner, seeds in zip(range(4, 7), several, strict=True):
            assert seeds == [
                EpisodeSeeds.named(7, Purpose.TRAIN_EPISODE, 3, owner, e, e) for e in range(count)
            ]


@pytest.mark.parametrize("sharing", ["none", "pair", "generation"])
def test_members_have_the_seeds_of_their_owner_in_any_order_of_asking(sharing: str) -> None:
    config = of_table(
        env={"id": "CartPole-v1", "episodes_per_member": 3},
        es={"common_random_numbers": sharing},
        population=70,
        seed=5,
    )
    rollout = Rollout(config)
    of = {"none": lambda m: m, "pair": lambda m: m // 2, "generation": lambda m: 0}[sharing]
    for generation, member in ((0, 0), (0, 69), (0, 15), (0, 16), (3, 16), (3, 0), (0, 17)):
        assert rollout.member_seeds(generation, member) == [
            EpisodeSeeds.named(5, Purpose.TRAIN_EPISODE, generation, of(member), episode)
            for episode in range(3)
        ]
    other = rollout.with_new_environments(dataclasses.replace(config, seed=6))
    assert other.member_seeds(0, 17) != rollout.member_seeds(0, 17)


def test_the_three_streams_of_randomness_share_no_seed() -> None:
    streams = [
        {EpisodeSeeds.named(0, purpose, 0, 0, episode) for episode in range(200)}
        for purpose in (Purpose.TRAIN_EPISODE, Purpose.SELECT_EPISODE, Purpose.TEST_EPISODE)
    ]
    assert len(set().union(*streams)) == 600


def test_the_return_is_the_mean_over_episodes_and_steps_are_summed() -> None:
    rollout = Rollout(of_table())
    h = rollout.policy.initial_parameters(0)
    seeds = [EpisodeSeeds(1, 2), EpisodeSeeds(3, 4)]
    single = [rollout.evaluate(h, [s]) for s in seeds]
    both = rollout.evaluate(h, seeds)
    assert both.returns[0] == (single[0].returns[0] + single[1].returns[0]) / 2
    assert both.steps == single[0].steps + single[1].steps == both.returns[0] * 2
    assert both.episodes == 2


def test_max_steps_and_negative_rewards_end_an_episode() -> None:
    pendulum = {"id": "Pendulum-v1"}  # its rewards are never positive
    assert Rollout(of_table(env=pendulum)).evaluate(*played(pendulum)).steps == 200
    limited = {**pendulum, "max_steps": 7}
    assert Rollout(of_table(env=limited)).evaluate(*played(limited)).steps == 7
    impatient = {**pendulum, "stop_after_negative": 21}
    assert Rollout(of_table(env=impatient)).evaluate(*played(impatient)).steps == 21


def played(env: dict[str, Any]) -> tuple[np.ndarray, list[EpisodeSeeds]]:
    """Parameters and seeds of one episode."""
    return Rollout(of_table(env=env)).policy.initial_parameters(0), [EpisodeSeeds(1, 1)]


def test_a_nan_reward_makes_the_member_fail_and_nothing_else() -> None:
    config = of_table(env={"id": "tests.helpers.user_code:Failing-v0", "kwargs": {"share": 1.0}})
    rollout = Rollout(config)
    result = rollout.evaluate(rollout.policy.initial_parameters(0), [EpisodeSeeds(1, 1)])
    assert math.isnan(result.returns[0])
    assert result.status == 1
    assert result.steps == 5


def test_an_output_that_is_not_finite_ends_the_episode_without_an_action() -> None:
    rollout = Rollout(of_table(env={"id": "Pendulum-v1"}, policy={"kind": "static", "hidden": [4]}))
    h = np.full(rollout.policy.layout.size, np.nan, np.float32)
    result = rollout.evaluate(h, [EpisodeSeeds(1, 1)])
    assert (result.steps, result.status) == (0, 1)


def test_observation_normalization_is_frozen_and_collects_every_observation_seen() -> None:
    config = of_table(env={"id": "Pendulum-v1", "normalize_observations": True, "max_steps": 30})
    rollout = Rollout(config)
    rollout.use_statistics(ObservationStatistics.empty(3))
    h = rollout.policy.initial_parameters(0)
    result = rollout.evaluate(h, [EpisodeSeeds(1, 1)])
    observed = rollout.observed(result)
    assert observed is not None
    count, sums, squares = observed[0], observed[1:4], observed[4:]
    assert count == 30
    assert squares[0] + squares[1] == pytest.approx(30)  # cos² + sin² = 1 at each step
    folded = ObservationStatistics.empty(3).fold(np.array([count]), sums[None], squares[None])
    rollout.use_statistics(folded)
    again = rollout.evaluate(h, [EpisodeSeeds(1, 1)])
    assert again != result, "the statistics had no effect"
    assert rollout.evaluate(h, [EpisodeSeeds(1, 1)]) == again


@pytest.mark.parametrize("stepwise", [False, True])
@pytest.mark.parametrize("id", ["Pendulum-v1", "esd/HiddenPendulum-v0"])
def test_an_observation_that_no_action_follows_is_not_counted_and_not_summed(
    id: str, stepwise: bool
) -> None:
    env = {"id": id, "normalize_observations": True}
    rollout = Rollout(of_table(env=env, policy={"kind": "static", "hidden": [4]}))
    rollout.use_statistics(ObservationStatistics.empty(3))
    rollout.load([(0, np.full(rollout.policy.layout.size, np.nan, np.float32))])
    observed = rollout.observed(
        rollout.play([EpisodeSeeds(1, 1), EpisodeSeeds(2, 2)], None, stepwise)
    )
    assert observed is not None
    assert observed.tolist() == [0.0] * 7


def test_an_episode_without_a_finite_return_leaves_the_sums_of_the_others_alone() -> None:
    env = {"id": "tests.helpers.user_code:Failing-v0", "kwargs": {"share": 0.5}}
    rollout = Rollout(of_table(env={**env, "normalize_observations": True}))
    rollout.use_statistics(ObservationStatistics.empty(3))
    rollout.load([(0, rollout.policy.initial_parameters(0))])
    seeds = [EpisodeSeeds(k, k) for k in range(12)]
    sound = [seed for seed in seeds if math.isfinite(rollout.play([seed]).returns[0])]
    assert 2 < len(sound) < 10
    both = [rollout.observed(rollout.play(some)) for some in (seeds, sound)]
    assert both[0] is not None
    assert both[1] is not None
    assert both[0].tolist() == both[1].tolist()
    assert both[0][0] == 5 * len(sound)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"id": "CartPole-v9"}, "CartPole-v9"),
        ({"id": "CartPoole-v1"}, "CartPole-v1"),
        ({"id": "no_such_module:Env-v0"}, "no_such_module"),
        ({"id": "CartPole-v1", "kwargs": {"wheels": 3}}, "wheels"),
        (
            {"id": "CartPole-v1", "wrappers": ["gymnasium.wrappers:TimeAwareObservatio"]},
            "TimeAwareObservation",
        ),
        ({"id": "CartPole-v1", "wrappers": ["no_such_module:Wrapper"]}, "no_such_module"),
        (
            {"id": "CartPole-v1", "wrappers": ["esd_envs:ChangedBody"]},
            "CartPoleEnv is not a MuJoCo",
        ),
        ({"id": "Hopper-v5", "wrappers": ["esd_envs:ChangeBody"]}, "mean 'ChangedBody'"),
        ({"id": "esd/HiddenCartPole-v0", "kwargs": {"sign": 2}}, "sign = 2: expected"),
        ({"id": "tests.helpers.user_code:Endless-v0"}, "env.max_steps"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_an_environment_that_cannot_be_made_is_a_clear_error(
    env: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as error:
        Rollout(of_table(env=env))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero (broken_environments.py, line 1)"),
        ("def (", "SyntaxError: invalid syntax (broken_environments.py, line 1)"),
        ("raise SystemExit(5)", "SystemExit: 5 (broken_environments.py, line 1)"),
    ],
)
def test_an_environments_module_that_raises_gets_one_line(
    source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_environments.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError) as caught:
        make_environment(EnvironmentConfig(id="broken_environments:Mine-v0"))
    expected = f"env.id = 'broken_environments:Mine-v0': creating it raised {message}"
    assert str(caught.value) == expected
