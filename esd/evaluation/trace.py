"""One episode from inside: observations, actions, rewards, activities and weights of its steps."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections import deque
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import safetensors.numpy

from esd.config.settings import Wrapper
from esd.episodes.checked import reward
from esd.episodes.spaces import action_numbers
from esd.errors import UsageError
from esd.evaluation.test_episodes import Subject, make_rollout, played_seeds, rules_of
from esd.evolution.state import RunState
from esd.policies.base import Policy, Traceable
from esd.run.files import write_atomically

Float32s = npt.NDArray[np.float32]

MOST_BYTES = 1 << 30


class Recorded(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Keeps the actions that an environment is given and the rewards that it pays."""

    def __init__(self, env: gymnasium.Env[Any, Any], kept: deque[tuple[Float32s, float]]) -> None:
        """Keep them there."""
        super().__init__(env)
        self._kept = kept

    def step(self, action: Any) -> Any:
        """Act, and keep a copy."""
        given = action_numbers(action)
        answer = self.env.step(action)
        if (
            isinstance(answer, tuple) and len(answer) == 5
        ):  # of any other the episode ends by itself
            self._kept.append((given, reward(answer[1], False)))
        return answer


class Watched:
    """A policy whose observations, activities and weights are copied at every act.

    Args:
        policy: the policy, its parameters loaded.
        inside: the same, as what can be traced.
        every: weights are copied in the first step and in every so many after it.
    """

    def __init__(self, policy: Policy, inside: Traceable, every: int) -> None:
        """Watch it."""
        self._policy, self._inside, self._every = policy, inside, every
        self.layout, self.squashed = policy.layout, policy.squashed
        self.initial_parameters, self.load = policy.initial_parameters, policy.load
        self.reset = policy.reset
        self.observations: list[Float32s] = []
        self.activities: list[list[Float32s]] = []
        self.weights: list[list[Float32s]] = []

    def act(self, observation: Float32s) -> Float32s:
        """Act, and keep copies."""
        seen = observation.copy()  # a policy may change it
        outputs = self._policy.act(observation)
        if len(self.observations) % self._every == 0:
            self.weights.append([layer.copy() for layer in self._inside.weights()])
        self.observations.append(seen)
        self.activities.append([layer.copy() for layer in self._inside.activities()])
        return outputs


def record(
    subject: Subject, state: RunState, seed: int, rules: str = "evolved", every: int = 1
) -> tuple[dict[str, Float32s], dict[str, str]]:
    """Play the first test episode of the first variant once more and record it.

    Args:
        subject: what is evaluated.
        state: of the run.
        seed: of the test stream.
        rules: see ``evaluate``.
        every: weights are recorded in the first step and in every so many after it.

    Returns:
        Arrays, float32: ``observations`` [steps, observation_size] as the network got them, ``actions`` [steps,
        numbers of an action] and ``rewards`` [steps] as the environment did; ``activities.L`` [steps, units] for each
        layer, what the network saw being layer 0; ``weights.L`` [recorded steps, inputs, outputs] from layer L to the
        next, those that the step's activities were computed with. And what the episode was, in words.

    Raises:
        UsageError: if the policy can't be traced, or the recording might need more than ``MOST_BYTES`` of memory.
    """
    kept: deque[tuple[Float32s, float]] = deque()  # lists in keyword arguments are copied
    variant = subject.variants[0]
    env = subject.config.env.of_variant(variant)
    watching = Wrapper("esd.evaluation.trace:Recorded", {"kept": kept})
    env = dataclasses.replace(env, wrappers=(*env.wrappers, watching))
    config = dataclasses.replace(subject.config, env=env)
    made = make_rollout(dataclasses.replace(subject, config=config), state)
    with contextlib.closing(made) as rollout:
        policy = rollout.policy
        if not isinstance(policy, Traceable):
            raise UsageError(
                f"policy.kind = {subject.config.policy.kind!r}: its activities can't be recorded, as --trace and "
                "--episode do; only those of hebbian, static, reformer, gru and a class of your own with activities() "
                "and weights() (esd.policies.base.Traceable) can"
            )
        _check_memory(
            policy, rollout.interface.observation_size, rollout.environments.step_limit(0), every
        )
        rollout.load([(0, rules_of(rollout, state.h, rules, seed, 0))])
        rollout.policy = watched = Watched(policy, policy, every)
        # each step asks the policy
        outcome = rollout.play(played_seeds(rollout, seed, 0, 0), stepwise=True, more_seconds=None)
    arrays = {
        "observations": np.array(watched.observations),
        "actions": np.array([action for action, _ in kept], np.float32),
        "rewards": np.array([reward for _, reward in kept], np.float32),
    }
    for name, layers in (("activities", watched.activities), ("weights", watched.weights)):
        arrays |= {
            f"{name}.{i}": np.array(steps) for i, steps in enumerate(zip(*layers, strict=True))
        }
    return arrays, {
        "format": "esd-trace-1",
        "generation": str(state.generation),
        "h_sha256": state.h_sha256(),
        "variant": subject.name(variant),
        "world": json.dumps(subject.world(variant)),
        "settings": json.dumps(subject.settings),
        "rules": rules,
        "seed": str(seed),
        "episode": "0",
        "steps": str(outcome.steps),
        "return": repr(outcome.returns[0]),
        "weights_every": str(every),
    }


def _check_memory(policy: Traceable, observation_size: int, limit: int, every: int) -> None:
    """Make sure that the longest episode can be kept."""
    of_weights = 4 * sum(layer.size for layer in policy.weights())
    of_steps = 4 * limit * (observation_size + sum(layer.size for layer in policy.activities()))
    needed = of_steps + of_weights * -(-limit // every)
    if needed > MOST_BYTES:
        copies = (MOST_BYTES - of_steps) // of_weights if of_weights else 0
        advice = f"; use --trace-every {-(-limit // copies)}" if copies > 0 else ""
        raise UsageError(
            f"--trace: an episode of {limit} steps can need {needed / 1e6:,.0f} MB, more than "
            f"{MOST_BYTES / 1e6:,.0f} MB{advice}"
        )


def save(path: Path, arrays: dict[str, Float32s], words: dict[str, str]) -> None:
    """Write a trace as safetensors, its words as the metadata.

    Raises:
        RunError: if it can't be written.
    """
    write_atomically(path, safetensors.numpy.save(arrays, words))
