"""From a config to its problem."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from esd.config.settings import Config
from esd.evolution.layout import Layout
from esd.policies.base import Interface
from esd.problems.base import Problem

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]


def make_problem(config: Config) -> Problem:
    """The problem that a config describes.

    Raises:
        UsageError: if the config asks for what doesn't exist or doesn't fit together.
    """
    if config.objective.named:
        from esd.objectives.problem import ObjectiveProblem

        return ObjectiveProblem(config)
    from esd.problems.episodes import EpisodesProblem

    return EpisodesProblem(config)


def layout_and_h0(config: Config, interface: Interface) -> tuple[Layout, Float32s]:
    """The named arrays in h and h_0 from the settings alone: nothing of the problem's world is built."""
    if config.objective.named:
        from esd.objectives.parameters import initial_h, layout_of

        parameters = config.objective.parameters
        return layout_of(parameters), initial_h(parameters, config.seed, config.format)
    from esd.policies.registry import make_policy

    policy = make_policy(config.policy, interface, config.format)
    return policy.layout, policy.initial_parameters(config.seed)


def parameters_of(
    config: Config, interface: Interface, h: Float32s
) -> dict[str, Float32s] | dict[str, Float64s]:
    """What h, float32 [|h|], stands for, by name: a policy's arrays, or what an objective's function gets."""
    layout, _ = layout_and_h0(config, interface)
    if config.objective.named:
        from esd.objectives.parameters import values_of

        return values_of(config.objective.parameters, layout, h, config.format)
    return layout.unpack(h)
