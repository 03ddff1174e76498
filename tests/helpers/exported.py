"""What the tests of exports share: a state of any policy without training, and what it does in ten steps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gymnasium
import numpy as np
import numpy.typing as npt

from esd.config.settings import Config
from esd.config.tables import parse
from esd.episodes.making import make_environment
from esd.episodes.spaces import ActionDecoder, ObservationFlattener
from esd.evolution.algorithm import EvolutionState
from esd.evolution.observations import ObservationStatistics
from esd.evolution.state import RunState
from esd.export.subject import Subject
from esd.policies.base import Interface, Traceable
from esd.policies.registry import make_policy
from esd.problems.make import layout_and_h0

Float32s = npt.NDArray[np.float32]
FAR = 1e6  # where float32 tells 0.06 apart


def far(space: gymnasium.Space[Any]) -> float:
    """What observations are about."""
    return FAR if space.dtype == np.float64 else 0.0


def subject_of(policy: dict[str, Any], env: dict[str, Any], seed: int = 0) -> Subject:
    """A state that nobody has trained: h_0 of the seed, and statistics of observations if env asks for them.

    Statistics of observations of float64 are about ``FAR``.
    """
    config: Config = parse({"seed": seed, "policy": policy, "env": env}, "test")
    made = make_environment(config.env, config.format)
    observe = ObservationFlattener(made.observation_space, config.env.id)
    decode = ActionDecoder(made.action_space, config.env.id)
    interface = Interface(observe.size, decode.size, decode.bounded)
    made.close()
    statistics = ObservationStatistics.empty(0)
    if config.env.normalize_observations:
        sums = np.linspace(-9.0, 9.0, observe.size) + 30.0 * far(made.observation_space)
        statistics = ObservationStatistics(30.0, sums, sums**2 / 30.0 + 20.0)
    _, h = layout_and_h0(config, interface)
    state = RunState(EvolutionState(0, h, {}, {}), statistics)
    folder = SimpleNamespace(path=Path("run"), interface=lambda config: interface)
    return Subject(cast(Any, folder), config, state, "last")


def ten_steps(
    subject: Subject, scale: float = 1.0, steps: int = 10
) -> tuple[Float32s, list[Any], Float32s, list[Float32s]]:
    """Ten steps of the policy itself, from the episode with seed 0.

    Returns:
        Random observations, the actions and the outputs for them, and the weights of each layer in the last step.
    """
    generator = np.random.default_rng(1)
    size = subject.interface.observation_size
    observations = (scale * generator.random((steps, size))).astype(np.float32)
    if scale == 1.0:
        observations = 2.0 * observations - 1.0
    observations = np.float64(observations) + far(subject.spaces[0])
    observations = observations.astype(subject.observation_dtype)
    policy = make_policy(subject.config.policy, subject.interface, subject.config.format)
    decode = ActionDecoder(subject.spaces[1], "test")
    decode.outputs_are_squashed(policy.squashed)
    policy.load(subject.state.h)
    policy.reset(0)
    actions, outputs = [], []
    for observation in observations:
        seen = observation
        if subject.scale is not None:
            mean, inverse = subject.scale
            seen = np.clip((observation - mean) * inverse, -10.0, 10.0).astype(np.float32)
        given = policy.act(seen.copy()).copy()
        outputs.append(given)
        actions.append(decode(given))
    weights = policy.weights() if isinstance(policy, Traceable) else []
    return observations, actions, np.array(outputs), [w.copy() for w in weights]
