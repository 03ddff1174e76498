"""``esd train --from RUN --set policy.rules=…``: a run whose rules are those of another one, merged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from esd.config.settings import Config
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
    """
    config = parent.config()
    ours, theirs = child.policy.settings, config.policy.settings
    if not merges(child, config):
        return with_assignment_of(child, config)
    coefficients = HebbianPolicy(parent.interface(config), theirs).coefficients(load().h)
    found = shared_rules.merged(coefficients, ours.rules, child.seed)
    return _assigned(child, shared_rules.encoded(found))


def with_assignment_of(config: Config, other: Config) -> Config:
    """Settings that assign no rules to synapses themselves, with another run's assignment of as many rules."""
    ours, theirs = config.policy.settings, other.policy.settings
    both = isinstance(ours, HebbianSettings) and isinstance(theirs, HebbianSettings)
    if both and ours.rules == theirs.rules and not ours.assignment:
        return _assigned(config, theirs.assignment)
    return config


def _assigned(child: Config, assignment: str) -> Config:
    settings = dataclasses.replace(child.policy.settings, assignment=assignment)
    return dataclasses.replace(child, policy=dataclasses.replace(child.policy, settings=settings))


def assignment(config: Config) -> str:
    """``policy.assignment`` of a run whose synapses share rules; empty for any other."""
    settings = config.policy.settings
    shares = isinstance(settings, HebbianSettings) and settings.rules > 0
    return str(settings.assignment) if shares else ""


def merged_h(
    child: Config, parent: Config, h: npt.NDArray[np.float32], interface: Interface
) -> npt.NDArray[np.float32]:
    """The new run's h_0: each rule is the mean of those of its synapses in the other run's h."""
    ours = HebbianPolicy(interface, child.policy.settings)
    theirs = HebbianPolicy(interface, parent.policy.settings)
    return ours.shared(theirs.coefficients(h))
