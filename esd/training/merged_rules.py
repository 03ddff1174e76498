"""``esd train --from RUN --set policy.rules=…``: a run whose rules are those of another one, merged."""

from __future__ import annotations

import dataclasses

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
    return (
        isinstance(ours, HebbianSettings)
        and isinstance(theirs, HebbianSettings)
        and ours.rules not in (0, theirs.rules)
        and not (ours.convolutions or theirs.convolutions)
    )


def with_assignment(child: Config, parent: RunFolder, state: RunState) -> Config:
    """The new run's settings, with the rule of each synapse found by K-means.

    Args:
        child: the settings without it.
        parent: the run to start from.
        state: of it.
    """
    config = parent.config()
    if not merges(child, config):
        return child
    header = parent.journal(config, verify=False).header
    interface = Interface(header.observation_size, header.action_size, header.bounded)
    policy = HebbianPolicy(interface, config.policy.settings)
    settings = child.policy.settings
    assignment = shared_rules.merged(policy.coefficients(state.h), settings.rules, child.seed)
    settings = dataclasses.replace(settings, assignment=shared_rules.encoded(assignment))
    return dataclasses.replace(child, policy=dataclasses.replace(child.policy, settings=settings))


def merged_h(
    child: Config, parent: Config, h: npt.NDArray[np.float32], interface: Interface
) -> npt.NDArray[np.float32]:
    """The new run's h_0: each rule is the mean of those of its synapses in the other run's h."""
    ours = HebbianPolicy(interface, child.policy.settings)
    theirs = HebbianPolicy(interface, parent.policy.settings)
    return ours.shared(theirs.coefficients(h))
