"""Which settings h depends on, as one hash, and how two configs differ in them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from esd.config.settings import (
    Config,
)
from esd.config.tables import flatten, to_table
from esd.errors import shown

# a device has the bits of the CPU, but for a torch module, whose last bits may differ (docs/devices.md)
NOT_OF_H = (
    "generations",
    "device",
    "batch_members",
    "env.compiled",  # both ways have the same bits
    # what the clock or a dead process decided about a member is in the journal
    "env.episode_seconds",
    "env.on_failure",
    "objective.max_seconds",
    "objective.on_failure",
    "objective.check_at_start",
)


def settings_of_h(config: Config) -> dict[str, Any]:
    """The flat settings that h depends on: everything but ``generations``, the device, [run] and unseen variants."""
    flat = flatten(to_table(config, version=1))
    if config.format == 1:  # those runs know of no formats
        del flat["format"]
    if "env.variants" in flat:
        flat["env.variants"] = [v for v in flat["env.variants"] if not v["unseen"]]
    return {k: v for k, v in flat.items() if k not in NOT_OF_H and not k.startswith("run.")}


def identity(config: Config) -> str:
    """Hash of the settings that h depends on; two configs with the same one give the same h."""
    return identity_of(settings_of_h(config))


def identity_of(settings: dict[str, Any]) -> str:
    """Hash of what ``settings_of_h`` gave."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def differences_that_matter(stored: Config, asked: Config) -> list[str]:
    """Where two configs would give a different h, one text per key."""
    old, new = settings_of_h(stored), settings_of_h(asked)
    before, now = old.pop("env.variants", []), new.pop("env.variants", [])
    # with the younger settings, which are no part of an identity where they have their defaults
    had, has = flatten(to_table(stored)), flatten(to_table(asked))
    return _differences_of_variants(before, now) + [
        f"{key} = {shown(has.get(key, 'unset'))}, but the run has {shown(had.get(key, 'unset'))}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]


def _differences_of_variants(stored: list[Any], asked: list[Any]) -> list[str]:
    """How the bodies that a run is trained on differ from those asked for, by their names: none if they don't."""
    old, new = ({variant["name"]: variant for variant in variants} for variants in (stored, asked))
    found = [f"{name!r} is not in the run" for name in new if name not in old]
    found += [f"{name!r} of the run is missing" for name in old if name not in new]
    found += [
        f"{name!r} has {key} = {shown(new[name][key])}, but the run has {shown(old[name][key])}"
        for name in new
        if name in old
        for key in new[name]
        if new[name][key] != old[name][key]
    ]
    if not found and stored != asked:
        found = [f"in the run the order is {', '.join(map(repr, old))}"]
    return [f"env.variants trained on: {', '.join(found)}"] if found else []
