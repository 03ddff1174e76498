"""The check at the start of a training at length: of environment and policy together, and who is the culprit."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from esd.config.policies import PolicyConfig
from esd.config.settings import Config, EnvironmentConfig
from esd.doctor.machine import Check, failed, note, ok
from esd.episodes.check_at_start import check_purity, why_impure
from esd.episodes.purity import THOROUGH
from esd.episodes.rollout import Rollout
from esd.errors import EsdError, UsageError
from esd.evolution.algorithm import Algorithm
from esd.evolution.state import RunState, make_strategy, start
from esd.policies.static import StaticSettings


def many_episodes(config: Config) -> Iterator[Check]:
    """Environment and policy: what the check at the start is too short for."""
    name = "many episodes and members"
    with contextlib.closing(Rollout(config)) as rollout:
        try:
            check_purity(rollout, *_at_start(rollout), THOROUGH)
        except EsdError as error:
            yield failed(name, str(error))
        else:
            yield ok(name, "give the same results in any order")


def culprit(config: EnvironmentConfig) -> Iterator[Check]:
    """Which one it is of an environment and its wrappers, if a network meets a leak, too.

    Args:
        config: of one variant, which leaks.
    """
    policy = PolicyConfig("static", StaticSettings(hidden=(8,)))
    whole = Config(env=dataclasses.replace(config, variants=()), policy=policy)
    with contextlib.suppress(UsageError), contextlib.closing(Rollout(whole)) as rollout:
        text = why_impure(rollout, *_at_start(rollout), THOROUGH)
        if text:
            yield note("culprit", text)


def _at_start(rollout: Rollout) -> tuple[Algorithm, RunState]:
    config, policy = rollout.config, rollout.policy
    algorithm = make_strategy(config, policy.layout)
    h0 = policy.initial_parameters(config.seed)
    return algorithm, start(algorithm, h0, rollout.observation_size)
