"""popgym's environments: pure, with a step limit, and a hint for who hasn't installed it."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

import esd_envs
from esd.doctor import purity
from esd.doctor.machine import Verdict
from esd.episodes.making import make_environment
from esd.episodes.rollout import Rollout
from esd.errors import UsageError
from esd_envs.popgym_worlds import IDS, MAX_EPISODE_STEPS, register
from tests.helpers.configs import of_table

gymnasium.register_envs(esd_envs)
installed = pytest.mark.skipif(
    importlib.util.find_spec("popgym") is None,
    reason="plays popgym's environments: pip install 'esd-mpi[popgym]'",
)
# one of each kind: Discrete, Tuple and MultiDiscrete observations, MultiDiscrete actions, and a Box
KINDS = ("RepeatPreviousMedium", "AutoencodeEasy", "CountRecallHard", "ConcentrationEasy", "MineSweeperEasy",
         "NoisyPositionOnlyPendulumEasy")  # fmt: skip


@pytest.fixture
def registry() -> Iterator[dict[str, Any]]:
    """Gymnasium's, as it was when the test has ended."""
    before = dict(gymnasium.registry)
    yield gymnasium.registry
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


def test_without_popgym_its_worlds_say_what_to_install(
    registry: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for id in IDS:
        registry.pop(id)
    monkeypatch.setitem(sys.modules, "popgym", None)  # can't be imported
    register()
    env = of_table(env={"id": "popgym-RepeatPreviousEasy-v0"}).env
    with pytest.raises(UsageError, match=r"pip install 'esd-mpi\[popgym\]'"):
        make_environment(env)
    env = of_table(env={"id": "popgym:popgym-RepeatPreviousEasy-v0"}).env
    with pytest.raises(UsageError, match=r"needs popgym; install it with pip install"):
        make_environment(env)


@installed
def test_all_of_popgyms_ids_are_known_and_have_a_limit_that_cuts_none() -> None:
    known = {id: spec for id, spec in gymnasium.registry.items() if id.startswith("popgym-")}
    assert set(known) == set(IDS)
    longest = 0
    for id, spec in known.items():
        assert spec.max_episode_steps == MAX_EPISODE_STEPS
        env = gymnasium.make(id, disable_env_checker=True).unwrapped
        env.action_space.seed(0)
        env.reset(seed=0)
        steps, over = 0, False
        while not over:
            *_, terminated, truncated, _ = env.step(env.action_space.sample())
            steps, over = steps + 1, terminated or truncated
            assert steps < MAX_EPISODE_STEPS
        longest = max(longest, steps)
    assert longest == 831  # of RepeatFirstHard


@installed
@pytest.mark.parametrize("name", KINDS)
def test_the_doctor_finds_nothing_to_say_against_them(name: str) -> None:
    config = of_table(env={"id": f"popgym-{name}-v0"})
    checks = list(purity.examine(config.env, steps=150))
    assert [check for check in checks if check.state is not Verdict.OK] == []
    rollout = Rollout(config)
    outcome = rollout.evaluate(rollout.policy.initial_parameters(1), rollout.member_seeds(0, 1))
    assert math.isfinite(outcome.returns[0])
    rollout.close()


@installed
@pytest.mark.parametrize("name", ["MineSweeperEasy", "ConcentrationEasy"])
def test_popgyms_wrappers_fit_where_gymnasiums_limit_is_left_out(name: str) -> None:
    env = {
        "id": f"popgym-{name}-v0",
        "kwargs": {"max_episode_steps": -1},
        "max_steps": 1000,
        "wrappers": ["popgym.wrappers:PreviousAction"],
    }
    checks = list(purity.examine(of_table(env=env).env, steps=50))
    assert [check for check in checks if check.state is not Verdict.OK] == []


@installed
@pytest.mark.parametrize("prefix", ["", "popgym:"])
def test_a_perfect_memory_repeats_what_was_before(prefix: str) -> None:
    env = gymnasium.make(f"{prefix}popgym-RepeatPreviousEasy-v0")
    for seed in range(5):
        seen = [env.reset(seed=seed)[0]]
        total, over = 0.0, False
        while not over:
            card, reward, over, *_ = env.step(np.int64(seen[-4] if len(seen) > 3 else 0))
            seen.append(card)
            total += reward
        assert total == pytest.approx(1.0)
        assert len(seen) == 52
