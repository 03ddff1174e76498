"""Wrappers of known libraries that remember episodes before, and what to use instead of each.

They are refused by name, before anything is played. What is not known by name is found by playing (``purity``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium

from esd.config.settings import EnvironmentConfig
from esd.errors import UsageError

LIBRARIES = ("gymnasium", "gym", "stable_baselines3", "shimmy", "supersuit", "tianshou", "torchrl")
INSTEAD = {
    "NormalizeObservation": "remove it and set env.normalize_observations = true, whose statistics are part of the "
    "run and the same on all ranks",
    "NormalizeReward": "remove it: es.shaping ranks the returns of a generation, so the scale of rewards does not "
    "matter (TransformReward multiplies by a constant)",
    "VecNormalize": "remove it and set env.normalize_observations = true; rewards need no scale, because es.shaping "
    "ranks returns",
}


def instead_of(name: str) -> str:
    """What to use instead of a class, whatever its module; empty if nothing is known."""
    return INSTEAD.get(name, "")


def refuse_named(config: EnvironmentConfig) -> None:
    """Refuse what a config names, before any of it is built: some can't even be built around one environment.

    Raises:
        UsageError: naming the first stateful wrapper.
    """
    of_variants = (wrapper for variant in config.trained for wrapper in variant.wrappers)
    for wrapper in (*config.wrappers, *of_variants):
        module, _, name = wrapper.id.partition(":")
        if _is_stateful(module, name):
            raise UsageError(_text(f"env.wrappers: {wrapper.id}", name))


def refuse_in(environment: gymnasium.Env[Any, Any], id: str) -> None:
    """Refuse what stands anywhere in an environment that was made.

    Args:
        environment: with all of its wrappers.
        id: under which it was made.

    Raises:
        UsageError: naming the outermost stateful wrapper.
    """
    for one in _within(environment, set()):
        name = type(one).__name__
        if _is_stateful(type(one).__module__, name):
            raise UsageError(_text(f"env.id = {id!r}: wrapper {name} inside of it", name))


def _within(environment: Any, seen: set[int]) -> Iterator[Any]:
    """An environment and those in it: below its wrappers, and kept by an environment in an attribute."""
    if id(environment) in seen or not isinstance(environment, gymnasium.Env):
        return
    seen.add(id(environment))
    yield environment
    for inner in list(getattr(environment, "__dict__", {}).values()):
        yield from _within(inner, seen)


def _is_stateful(module: str, name: str) -> bool:
    return module.partition(".")[0] in LIBRARIES and name in INSTEAD


def _text(what: str, name: str) -> str:
    return (
        f"{what}: keeps statistics over all episodes of its process, so a member's return depends on earlier "
        f"members and on the number of ranks; {INSTEAD[name]}"
    )
