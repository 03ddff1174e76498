"""Settings that somebody has named although they do nothing in a config: allowed, but worth a word."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from esd.config.kinds import ALGORITHMS, OPTIMIZERS
from esd.config.policies import PolicyConfig
from esd.config.settings import Config, EvolutionSettings
from esd.config.tables import flatten, to_table


def without_effect(named: Mapping[str, Any], config: Config) -> Iterator[str]:
    """A line for settings that do nothing, but for those that are as they would be anyway: a file may list all.

    Args:
        named: the settings to look at, flat: ``es.momentum`` and so on.
        config: all settings.
    """
    of_kind = dataclasses.replace(config.policy, settings=type(config.policy.settings)())
    defaults = flatten(to_table(dataclasses.replace(Config(), policy=of_kind)))
    for keys, used, because in _conditions(config):
        idle = [key for key in keys if key in named and named[key] != defaults.get(key)]
        if idle and not used:
            yield f"{', '.join(idle)}: no effect {because}"


Condition = tuple[tuple[str, ...], bool, str]


def _conditions(config: Config) -> Iterator[Condition]:
    """Settings, whether they are used, and why they aren't if they are not."""
    yield from _of_evolution(config.es)
    yield from _of_policy(config.policy)
    run = config.run
    several = len(config.value_names) > 1
    reduces = several or config.variants.reduce == "mean_of_ranks"  # ranks differ from returns
    what = "objective.values" if config.objective.named else "[[env.variants]] that are not unseen"
    yield ("variants.reduce",), reduces, f"with fewer than two {what}"
    center = ("run.center_episodes", "run.target_return")
    yield center, run.center_every > 0, "with run.center_every = 0"


def _of_evolution(es: EvolutionSettings) -> Iterator[Condition]:
    optimizer = getattr(es, "optimizer", "")
    yield tuple(f"es.{name}" for name in es.unused()), False, f"with es.optimizer = {optimizer!r}"
    # one of the user's may do with them what it wants
    if es.algorithm in ALGORITHMS.built_in and (optimizer or "sgd") in OPTIMIZERS.built_in:
        for name in ("sigma", "learning_rate"):
            decays = getattr(es, f"{name}_decay", 1.0) < 1.0
            yield (f"es.{name}_min",), decays, f"with es.{name}_decay = 1"


def _of_policy(policy: PolicyConfig) -> Iterator[Condition]:
    """Of esd's own kinds: another's settings of these names may mean something else."""
    settings = policy.settings
    if policy.kind == "hebbian":
        yield ("policy.average",), settings.every > 1, "with policy.every = 1"
        yield ("policy.assignment",), settings.rules > 0, "with policy.rules = 0"
        yield (
            ("policy.freeze_after",),
            settings.freeze_after >= settings.every,
            "other than that the network never learns, since its first update follows step "
            f"{settings.every} (policy.every)",
        )
        scheme = settings.initial_weights
        drawn = scheme not in ("ones", "zeros", "coevolved")
        because = f"with policy.initial_weights = {scheme!r}, which are not drawn"
        yield ("policy.draw_weights",), drawn, because
    if policy.kind in ("reformer", "gru"):
        yield ("policy.head_rate",), settings.head != "linear", "with policy.head = 'linear'"
    if policy.kind == "reformer":
        of_lsh = ("policy.hashes", "policy.buckets", "policy.cap", "policy.hash_seed")
        yield of_lsh, settings.attention == "lsh", "with policy.attention = 'full'"
        yield ("policy.gate_bias",), settings.gate, "with policy.gate = false"
