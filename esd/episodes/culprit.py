"""Who makes an episode depend on what was played before, and what to do about it: found by experiment.

``purity`` finds that an episode differs, and whether the policy or the environment was first to differ. Here new
objects are made and watched between all wrappers, and the remedies are tried before they are recommended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
from gymnasium.wrappers import OrderEnforcing, TimeLimit

from esd.episodes.purity import (
    ENVIRONMENT,
    MEMBER,
    OTHER_MEMBER,
    POLICY,
    Difference,
    Event,
    Plan,
    Player,
    difference_between,
    differences,
    new_object_differs,
)
from esd.episodes.rollout import Rollout
from esd.episodes.stateful_wrappers import instead_of

SEED_TO_FOLLOW = 20_240_501  # any but what a wrapper might choose by itself
ACCEPT = "To continue anyway, without reproducible results: run.allow_drift = true"
UNREACHABLE = (
    "it uses a random generator that reset(seed) does not seed, reads the clock, or keeps state outside of its "
    "object (in a class, a module or a file)"
)

MakePlayer = Callable[[Rollout, bool], Player]


def explain(rollout: Rollout, make_player: MakePlayer, found: Difference, plan: Plan) -> str:
    """One line: the culprit, what differed, and what helps.

    Args:
        rollout: whose episodes differed.
        make_player: from a rollout, and whether to look between all wrappers.
        found: the difference.
        plan: what was played.
    """
    if found.event.who == POLICY:
        return _of_policy(rollout, make_player, found)
    closer = _between_wrappers(rollout, make_player, plan)
    if closer is not None and closer.event.who == POLICY:
        return _of_policy(rollout, make_player, closer)
    return _of_environment(rollout, make_player, found, closer, plan)


def _between_wrappers(rollout: Rollout, make_player: MakePlayer, plan: Plan) -> Difference | None:
    """The same differences in new objects, now with the name of the wrapper; None if they don't come again."""
    try:
        with contextlib.closing(rollout.with_new_environments()) as new:
            return next(differences(make_player(new, True), plan), None)
    except Exception:  # it may not bear a second object, or somebody between its wrappers
        return None


def _what(found: Difference) -> str:
    event = found.event
    step = event.step + (event.what == "output")  # it comes before the step that is made of it
    where = f"in step {step}" if step else "after reset"
    return f"the same episode, {found.history}, had a different {event.what} {where}"


def _of_environment(
    rollout: Rollout,
    make_player: MakePlayer,
    found: Difference,
    closer: Difference | None,
    plan: Plan,
) -> str:
    """What is said of an environment or a wrapper; ``closer`` is what was seen between the wrappers."""
    config = rollout.config.env
    known = closer is not None or list(_own_wrappers(rollout, found.variant)) == []
    found = closer or found
    who = found.event.who
    variant = config.trained[found.variant]
    id = variant.id or config.id
    where = f"env.id = {id!r}" + (f", variant {variant.name!r}" if variant.name else "")
    is_environment = who == ENVIRONMENT
    made = list(rollout.environments.made())[found.variant]
    name = type(made.unwrapped).__name__
    culprit = f"the environment itself ({name})" if is_environment else f"the wrapper {who}"
    if not known:
        culprit = f"the environment ({name}) or one of its wrappers"
    text = f"{where}: {culprit} is not a pure function of seed and actions: {_what(found)}, after the same actions"
    if instead := instead_of(who):
        return f"{text}. {instead[0].upper()}{instead[1:]}"
    if is_environment and (wrapper := _wrapper_that_loses_the_seed(rollout, found.variant)):
        return (
            f"{where}: the wrapper {wrapper} calls reset() of what it wraps without the seed, so {_what(found)}. In "
            "its reset(), call self.env.reset(seed=seed, options=options)"
        )
    milliseconds = _rebuilding_helps(rollout, make_player, plan)
    mend = "let its reset() set everything that its step() changes"
    if milliseconds is not None:
        return (
            f'{text}. Set env.rebuild = "always": with this setting the episodes are the same, at a cost of '
            f"{milliseconds:.3g} ms per episode. It is better to {mend}"
        )
    if config.rebuild == "always" or _new_environments_differ(rollout, make_player, plan):
        return (
            f'{text}. env.rebuild = "always" does not help: {UNREACHABLE}. Draw random numbers from self.np_random, '
            "which reset(seed=seed) seeds, and keep state in the object"
        )
    return f"{text}. {mend[0].upper()}{mend[1:]}"


def _wrapper_that_loses_the_seed(rollout: Rollout, variant: int) -> str | None:
    """The name of the outermost wrapper whose reset(seed) does not pass the seed on; None if the seed arrives."""
    seeds: list[Any] = []

    def watched(reset: Callable[..., Any]) -> Callable[..., Any]:
        def watching(*positional: Any, **named: Any) -> Any:
            seeds.append(named.get("seed"))
            return reset(*positional, **named)

        return watching

    layers: list[Any] = []
    try:
        with contextlib.closing(rollout.with_new_environments()) as new:
            env: Any = list(new.environments.made())[variant]
            while True:
                layers.append(env)
                env.reset = watched(env.reset)  # each is called by the one around it
                if not isinstance(env, gymnasium.Wrapper):
                    break
                env = env.env
            layers[0].reset(seed=SEED_TO_FOLLOW)
    except Exception:  # it may not bear a second object, or somebody in its place
        return None
    for outer, seed in zip(layers, seeds[1:], strict=False):
        if seed != SEED_TO_FOLLOW:
            return type(outer).__name__
    return None


def _own_wrappers(rollout: Rollout, variant: int) -> Iterator[str]:
    """The wrappers around a variant's environment but for those that Gymnasium puts around all."""
    env: Any = list(rollout.environments.made())[variant]
    while isinstance(env, gymnasium.Wrapper):
        if type(env) not in (TimeLimit, OrderEnforcing):
            yield type(env).__name__
        env = env.env


def _rebuilding_helps(rollout: Rollout, make_player: MakePlayer, plan: Plan) -> float | None:
    """Milliseconds of making the environment for an episode, if that makes episodes pure; None if it doesn't."""
    config = rollout.config
    if config.env.rebuild == "always":
        return None
    always = dataclasses.replace(config, env=dataclasses.replace(config.env, rebuild="always"))
    try:
        with (
            contextlib.closing(rollout.with_new_environments(always)) as one,
            contextlib.closing(rollout.with_new_environments(always)) as other,
        ):
            players = make_player(one, False), make_player(other, False)
            if any(True for _ in differences(players[0], plan)):
                return None
            if any(True for _ in new_object_differs(*players, plan.steps)):
                return None
            began = time.perf_counter()
            rollout.with_new_environments(always).close()
            return 1000.0 * (time.perf_counter() - began) / len(rollout.variants)
    except Exception:  # it can't be made twice, or ends in an error when it is
        return None


def _new_environments_differ(rollout: Rollout, make_player: MakePlayer, plan: Plan) -> bool:
    """Whether two new objects play different first episodes."""
    try:
        with (
            contextlib.closing(rollout.with_new_environments()) as one,
            contextlib.closing(rollout.with_new_environments()) as other,
        ):
            players = make_player(one, False), make_player(other, False)
            return any(True for _ in new_object_differs(*players, plan.steps))
    except Exception:
        return False


def _of_policy(rollout: Rollout, make_player: MakePlayer, found: Difference) -> str:
    """What is said of a policy."""
    text = (
        f"policy.kind = {rollout.config.policy.kind!r}: the policy is not a pure function of its parameters, seed and "
        f"observations: {_what(found)}, after the same observations"
    )
    try:
        return f"{text}. {_advice(rollout, make_player, found)}"
    except Exception:  # a second object can't be made
        return f"{text}. Let reset(seed) clear everything that act changes"


def _advice(rollout: Rollout, make_player: MakePlayer, found: Difference) -> str:
    steps, variant = max(found.event.step + 1, 2), found.variant
    one, other = (make_player(rollout.with_new_policy(), False) for _ in range(2))
    for player in (one, other):
        player.load(MEMBER)
    first = one.play(variant, 0, steps)
    if _is_policys(difference_between(first, other.play(variant, 0, steps))):
        return (
            f"{UNREACHABLE[0].upper()}{UNREACHABLE[1:]}. Draw random numbers from a generator that reset(seed) "
            "creates from its seed; in the constructor, use a fixed seed"
        )
    module = getattr(one.rollout.policy, "module", None)
    if _is_policys(difference_between(first, one.play(variant, 0, steps))):
        if module is not None and not hasattr(module, "reset"):
            return (
                "Its memory outlives the episode: give the module a method reset() that clears it, called at the "
                "start of every episode"
            )
        return "Its memory outlives the episode: let reset clear everything that acting changes"
    one.load(OTHER_MEMBER)
    one.play(variant, 1, steps)
    another = make_player(rollout.with_new_policy(), False)
    another.load(OTHER_MEMBER)
    for player in (one, another):
        player.load(MEMBER)
    if any(
        _is_policys(difference_between(first, p.play(variant, 0, steps))) for p in (one, another)
    ):
        return (
            "It depends on the member that was loaded before: let load(parameters) overwrite everything that it "
            "sets, and everything computed from it"
        )
    return "Let reset clear everything that acting changes, and load overwrite everything that loading sets"


def _is_policys(event: Event | None) -> bool:
    return event is not None and event.who == POLICY
