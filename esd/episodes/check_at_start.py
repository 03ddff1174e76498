"""What every training makes sure of before its first generation: that its episodes are pure (law 1)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from esd.config.kinds import POLICIES
from esd.config.settings import Config
from esd.episodes import culprit, purity, stateful_wrappers
from esd.episodes.purity import Difference, Plan, Player
from esd.episodes.rollout import Rollout
from esd.errors import RunError
from esd.evolution.algorithm import Algorithm
from esd.evolution.global_generators import seed_global_generators
from esd.evolution.state import RunState

CHECKED_SINCE = 2  # the format of a run; older ones go on as they were begun
ELSEWHERE = 1  # global generators stand elsewhere when objects are made on another rank


def is_checked(config: Config) -> bool:
    """Whether a run with this config has to be pure."""
    return config.format >= CHECKED_SINCE and not config.run.allow_drift


def check_purity(
    rollout: Rollout, algorithm: Algorithm, state: RunState, plan: Plan | None = None
) -> str:
    """Play episodes again behind different histories, and make sure that they are the same.

    Args:
        rollout: environment and policy.
        algorithm: makes the members that are played.
        state: at the start of the run, whose h is ``policy.initial_parameters`` of the run's seed.
        plan: how much to play; None: what a start can afford.

    Returns:
        A hash of what the episodes gave, which other processes should have, too.

    Raises:
        UsageError: if a wrapper is known to keep statistics of the episodes before.
        RunError: if an episode or h_0 depends on anything but its seeds; it names the culprit.
    """
    for environment in rollout.environments.made():
        stateful_wrappers.refuse_in(environment, rollout.config.env.id)

    if plan is None:
        anew = rollout.environments.made_anew
        plan = purity.AT_START_MADE_ANEW if anew else purity.AT_START
    # what is built in is compared by its tests, and a second object of it may be large
    if _is_own(rollout):
        _check_initial_parameters(rollout, state.h)
    why, gave = _examined(rollout, algorithm, state, plan)
    if why:
        raise RunError(f"{why}. {culprit.ACCEPT}")
    return gave


def why_impure(rollout: Rollout, algorithm: Algorithm, state: RunState, plan: Plan) -> str:
    """What makes an episode depend on anything but its seeds: the culprit, and what helps; empty if nothing does."""
    return _examined(rollout, algorithm, state, plan)[0]


def _examined(
    rollout: Rollout, algorithm: Algorithm, state: RunState, plan: Plan
) -> tuple[str, str]:
    """What ``why_impure`` and ``check_purity`` return."""

    def make_player(other: Rollout, everywhere: bool) -> Player:
        return Player(other, algorithm, state, everywhere)

    player = make_player(rollout, False)
    found = next(_found(rollout, player, _is_own(rollout), plan), None)
    why = "" if found is None else culprit.explain(rollout, make_player, found, plan)
    return why, player.gave


def _is_own(rollout: Rollout) -> bool:
    """Whether the policy is of a kind of the user's own."""
    return rollout.config.policy.kind not in POLICIES.built_in


def _found(rollout: Rollout, player: Player, own_policy: bool, plan: Plan) -> Iterator[Difference]:
    """What differs, in these objects and in new ones."""
    yield from purity.differences(player, plan)
    if own_policy:
        seed_global_generators(ELSEWHERE)
        new_policy = player.of(rollout.with_new_policy())
        yield from purity.new_object_differs(player, new_policy, plan.steps)
    if rollout.config.env.rebuild != "never":
        yield from _in_new_environments(rollout, player, plan)


def _in_new_environments(rollout: Rollout, player: Player, plan: Plan) -> list[Difference]:
    """What differs in new environments.

    None if they raise: an environment may not bear a second one, such as a simulator that listens on a port.
    """
    seed_global_generators(ELSEWHERE)
    try:
        with contextlib.closing(rollout.with_new_environments()) as new:
            return list(purity.new_object_differs(player, player.of(new), plan.steps))
    except Exception:
        return []


def _check_initial_parameters(rollout: Rollout, h0: npt.NDArray[np.float32]) -> None:
    """Make sure that h_0 depends on the seed alone."""
    seed = rollout.config.seed
    seed_global_generators(ELSEWHERE)
    for policy in (rollout.policy, rollout.with_new_policy().policy):
        again = np.asarray(policy.initial_parameters(seed), np.float32)
        if again.tobytes() != h0.tobytes():
            raise RunError(
                f"policy.kind = {rollout.config.policy.kind!r}: initial_parameters({seed}) gave two different "
                "vectors, so runs could not be reproduced. Draw from np.random.default_rng(seed), with the "
                f"argument seed. {culprit.ACCEPT}"
            )
