"""Law 1: an evaluation is a pure function of (config, state, generation, member), on every environment."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from esd.config.settings import Config
from esd.config.tables import parse
from esd.episodes.checked import BrokenEnvironmentError
from esd.episodes.environments import Outcome
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd.errors import UsageError
from esd.evolution.noise import Purpose
from tests.helpers.configs import PRESETS, REMEMBERING, of_table, remembering, small

ENVIRONMENTS = {
    **{preset: small(preset, max_steps=40) for preset in PRESETS},
    "hidden sign": of_table(env={"id": "esd/HiddenCartPole-v0", "kwargs": {"sign": "random"}}),
    "hidden pendulum": of_table(env={"id": "esd/HiddenPendulum-v0", "kwargs": {"sign": "random"}}),
    "associative recall": of_table(
        env={"id": "esd/AssociativeRecall-v0", "kwargs": {"cue_noise": 0.1, "cues": 8}}
    ),
    "T-maze": of_table(env={"id": "esd/TMaze-v0", "kwargs": {"forced": False}}),
    "repeating cards": of_table(
        env={"id": "esd/RepeatPrevious-v0", "kwargs": {"num_decks": 2, "k": 9}}
    ),
    "lunar lander": of_table(env={"id": "LunarLander-v3", "max_steps": 60}),
    "fast car": of_table(
        env={"id": "esd/FastCarRacing-v3", "max_steps": 40},
        policy={"kind": "static", "hidden": [4]},
    ),
    "bipedal walker": of_table(env={"id": "BipedalWalker-v3", "max_steps": 60}),
    "global randomness": of_table(env={"id": "tests.helpers.user_code:GlobalRandomness-v0"}),
    "a leaky one, rebuilt": of_table(
        env={"id": "tests.helpers.user_code:Leaky-v0", "rebuild": "always"}
    ),
    "a wrapped one": of_table(
        env={
            "id": "CartPole-v1",
            "wrappers": [
                "gymnasium.wrappers:TimeAwareObservation",
                {"id": "tests.helpers.user_code:Doubled", "kwargs": {"factor": 3.0}},
            ],
        }
    ),
    **{f"{policy}, compiled": remembering(policy) for policy in REMEMBERING},
    **{
        f"{policy}, step by step": of_table(
            env={"id": "Pendulum-v1", "max_steps": 60}, policy=settings
        )
        for policy, settings in REMEMBERING.items()
    },
}


def outcome(rollout: Rollout, config: Config, member: int) -> tuple[Outcome, Any]:
    """Evaluate a member whose parameters are its own, as bits."""
    h = rollout.policy.initial_parameters(member)
    result = rollout.evaluate(h, rollout.member_seeds(3, member))
    observed = rollout.observed(result)
    return result, None if observed is None else observed.tobytes()


@pytest.fixture(params=ENVIRONMENTS)
def config(request: pytest.FixtureRequest) -> Config:
    """Every environment that comes along, and some that users bring."""
    return ENVIRONMENTS[request.param]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_member_gives_the_same_bits_first_last_twice_and_elsewhere(config: Config) -> None:
    here, elsewhere = Rollout(config), Rollout(config)
    first = outcome(here, config, 5)
    others = [outcome(here, config, member) for member in (1, 2, 8)]
    assert outcome(here, config, 5) == first
    assert outcome(here, config, 5) == first
    assert [outcome(elsewhere, config, member) for member in (1, 2, 8)] == others
    assert outcome(elsewhere, config, 5) == first
    assert len({o.returns for o, _ in [first, *others]}) > 1, (
        "all members are alike: nothing was compared"
    )
    here.close()
    elsewhere.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("rebuild", ["auto", "never"])
def test_a_box2d_world_leaks_unless_it_is_rebuilt(rebuild: str) -> None:
    config = of_table(env={"id": "BipedalWalker-v3", "max_steps": 60, "rebuild": rebuild})
    one, other = Rollout(config), Rollout(config)
    outcome(one, config, 5)
    results = [[outcome(rollout, config, m) for m in range(8)] for rollout in (one, other)]
    assert (results[0] == results[1]) == (rebuild == "auto")


def test_a_leaky_environment_is_caught_by_this_very_test() -> None:
    config = of_table(env={"id": "tests.helpers.user_code:Leaky-v0"})
    rollout = Rollout(config)
    assert outcome(rollout, config, 5) != outcome(rollout, config, 5)


@pytest.mark.parametrize("policy", ["hebbian", *REMEMBERING])
def test_an_episode_after_a_crash_gives_the_same_bits(policy: str) -> None:
    config = of_table(
        env={"id": "tests.helpers.user_code:Failing-v0", "kwargs": {"how": "raise", "share": 0.6}},
        policy=REMEMBERING.get(policy, {"hidden": [6]}),
    )
    rollout = Rollout(config)
    results: dict[int, Outcome] = {}
    crashes = 0
    for member in [*range(12), *reversed(range(12))]:
        try:
            result, _ = outcome(rollout, config, member)
        except BrokenEnvironmentError:
            crashes += 1
            continue
        assert results.setdefault(member, result) == result
    assert crashes > 2
    assert len(results) > 2


@pytest.mark.parametrize(
    ("shared", "equal"),
    [("none", (False, False)), ("pair", (True, False)), ("generation", (True, True))],
)
def test_common_random_numbers_are_shared_as_configured(
    shared: str, equal: tuple[bool, bool]
) -> None:
    rollout = Rollout(
        of_table(es={"common_random_numbers": shared}, env={"episodes_per_member": 3})
    )
    seeds = [rollout.member_seeds(0, member) for member in range(4)]
    assert (seeds[0] == seeds[1], seeds[0] == seeds[2]) == equal
    assert len(set(seeds[0])) == 3
    assert rollout.member_seeds(1, 0) != seeds[0]


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"kind": "tests.helpers.user_code:NoPolicy"}, "NoPolicy"),
        (
            {"kind": "tests.helpers.user_code:LackingPolicy"},
            "layout, initial_parameters, load, reset, act",
        ),
        ({"kind": "tests.helpers.user_code:SmallModule", "kwargs": {"width": 3}}, "width"),
        ({"kind": "no_such_module:Policy"}, "no_such_module"),
    ],
)
def test_a_policy_that_cannot_be_made_is_a_clear_error(
    policy: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Rollout(parse({"policy": policy}, "test"))


@pytest.mark.parametrize("episodes", [1, 100, 5000])
def test_however_many_members_seeds_are_drawn_at_once_they_are_a_member_s_own(
    episodes: int,
) -> None:
    config = small(
        "cartpole", f"env.episodes_per_member={episodes}", "es.common_random_numbers=none"
    )
    with contextlib.closing(Rollout(config)) as rollout:
        for member in (0, 41, 7, 64, 40):
            alone = EpisodeSeeds.consecutive(
                config.seed, Purpose.TRAIN_EPISODE, 3, range(member, member + 1), [0] * episodes
            )
            assert rollout.member_seeds(3, member) == alone[0]
