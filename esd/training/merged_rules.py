"""``esd train --from RUN --set policy.rules=…``: a run whose rules are those of another one, merged."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from esd.config.settings import Config
from esd.config.tables import to_table
from esd.errors import UsageError, shown
from esd.evolution.state import RunState
from esd.policies import shared_rules
from esd.policies.base import Interface
from esd.policies.hebbian import HebbianPolicy, HebbianSettings
from esd.run.folder import RunFolder


def merges(child: Config, parent: Config) -> bool:
    """Whether a run that starts from another one is to share that one's rules."""
    ours, theirs = child.policy.settings, parent.policy.settings
    return bool(
        isinstance(ours, HebbianSettings)
        and isinstance(theirs, HebbianSettings)
        and ours.rules not in (0, theirs.rules)
        and not (ours.convolutions or theirs.convolutions)
    )


def with_assignment(child: Config, parent: RunFolder, load: Callable[[], RunState]) -> Config:
    """The new run's settings, with the rule of each synapse: found by K-means, or the other run's.

    Args:
        child: the settings without it.
        parent: the run to start from.
        load: gives its state.

    Raises:
        UsageError: if that run's rules can't be those of the new one.
    """
    config = parent.config()
    _check_start(child, config, parent)
    ours, theirs = child.policy.settings, config.policy.settings
    if not merges(child, config):
        return with_assignment_of(child, config)
    coefficients = HebbianPolicy(parent.interface(config), theirs).coefficients(load().h)
    found = shared_rules.merged(coefficients, ours.rules, child.seed)
    return _assigned(child, shared_rules.encoded(found))


def with_assignment_of(config: Config, other: Config) -> Config:
    """Settings that assign no rules to synapses themselves, with another run's assignment of as many rules."""
    ours, theirs = config.policy.settings, other.policy.settings
    alike = _are_hebbian(config, other) and ours.rules == theirs.rules
    if alike and not ours.assignment:
        return _assigned(config, theirs.assignment)
    return config


def _assigned(child: Config, assignment: str) -> Config:
    settings = dataclasses.replace(child.policy.settings, assignment=assignment)
    return dataclasses.replace(child, policy=dataclasses.replace(child.policy, settings=settings))


def differences(
    ours: Config, theirs: Config, settings: Sequence[str] = ("rule", "hidden")
) -> list[str]:
    """In which settings Hebbian networks differ of which one shares rules: h has the same size in any of them."""
    if not _are_hebbian(ours, theirs):
        return []
    tables = [to_table(config.policy.settings) for config in (ours, theirs)]
    if not any(table["rules"] for table in tables):
        return []
    return [
        f"policy.{name} = {shown(tables[0][name])}, but the run has {shown(tables[1][name])}"
        for name in settings
        if tables[0][name] != tables[1][name]
    ]


def _are_hebbian(*configs: Config) -> bool:
    return all(
        isinstance(config.policy.settings, HebbianSettings) and not config.objective.named
        for config in configs
    )


def _check_start(child: Config, config: Config, parent: RunFolder) -> None:
    """Refuse a start from rules that the new run's network can't have."""
    if not _are_hebbian(child, config):
        return
    rules = config.policy.settings.rules
    if rules and not child.policy.settings.rules:
        raise UsageError(
            f"--from {parent.path}: its synapses share {rules:,} rules, and a start with a rule of its own for every "
            f"synapse (policy.rules = 0) is not supported; add --set policy.rules={rules}, or another number to merge "
            "its rules"
        )
    if found := differences(child, config):
        raise UsageError(
            f"--from {parent.path}: its h was evolved for another network: {'; '.join(found)}"
        )


def check_shared(child: Config, parent: RunFolder, interface: Interface) -> None:
    """Refuse a start from shared rules of a network of another size, or that other synapses follow.

    Raises:
        UsageError: if it is one.
    """
    config = parent.config()
    if not _are_hebbian(child, config) or not child.policy.settings.rules:
        return
    theirs = interface
    with contextlib.suppress(UsageError):  # without its journal nobody knows
        theirs = parent.interface(config)
    if sizes(theirs) != sizes(interface):
        raise UsageError(
            f"--from {parent.path}: its h was evolved for another network, with {theirs.described()}; this environment "
            f"has {interface.described()}"
        )
    same_rules = config.policy.settings.rules == child.policy.settings.rules
    if same_rules and config.policy.settings.assignment != child.policy.settings.assignment:
        raise UsageError(
            f"--from {parent.path}: its synapses are assigned to its rules differently; remove policy.assignment"
        )


def sizes(interface: Interface) -> tuple[int, int]:
    """What the number of synapses depends on."""
    return interface.observation_size, interface.action_size


def merged_h(
    child: Config, parent: Config, h: npt.NDArray[np.float32], interface: Interface
) -> npt.NDArray[np.float32]:
    """The new run's h_0: each rule is the mean of those of its synapses in the other run's h."""
    ours = HebbianPolicy(interface, child.policy.settings)
    theirs = HebbianPolicy(interface, parent.policy.settings)
    return ours.shared(theirs.coefficients(h))
