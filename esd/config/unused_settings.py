"""Settings that somebody has named although they do nothing in a config: allowed, but worth a word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from esd.config.settings import Config
from esd.config.tables import flatten, to_table


def without_effect(named: Mapping[str, Any], config: Config) -> Iterator[str]:
    """A line for settings that do nothing, but for those that are as they would be anyway: a file may list all.

    Args:
        named: the settings to look at, flat: ``es.momentum`` and so on.
        config: all settings.
    """
    defaults = flatten(to_table(Config()))
    for keys, used, because in _conditions(config):
        idle = [key for key in keys if key in named and named[key] != defaults.get(key)]
        if idle and not used:
            yield f"{', '.join(idle)}: no effect {because}"


def _conditions(config: Config) -> Iterator[tuple[tuple[str, ...], bool, str]]:
    """Settings, whether they are used, and why they aren't if they are not."""
    es, run = config.es, config.run
    unused = tuple(f"es.{name}" for name in es.unused())
    yield unused, False, f"with es.optimizer = {getattr(es, 'optimizer', '')!r}"
    policy = config.policy.settings
    averages = getattr(policy, "every", 2) > 1
    yield ("policy.average",), averages, "with policy.every = 1"
    shares = getattr(policy, "rules", 1) > 0
    yield ("policy.assignment",), shares, "with policy.rules = 0"
    several = len(config.value_names) > 1
    reduces = several or config.variants.reduce == "mean_of_ranks"  # ranks differ from returns
    what = "objective.values" if config.objective.named else "[[env.variants]] that are not unseen"
    yield ("variants.reduce",), reduces, f"with fewer than two {what}"
    center = ("run.center_episodes", "run.target_return")
    yield center, run.center_every > 0, "with run.center_every = 0"
