"""A trained policy that acts in an environment of one's own: ``esd.Policy``."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from esd.api.settings import LARGEST_SEED, whole_number
from esd.config.settings import Config
from esd.episodes.checked import MisfitError, not_finite, shortened
from esd.episodes.making import close, make_environment
from esd.episodes.spaces import ActionDecoder, ObservationFlattener
from esd.episodes.weight_seeds import WeightSeeds
from esd.errors import RunError, UsageError, nearest
from esd.evolution.state import RunState
from esd.policies.base import Interface
from esd.policies.registry import make_policy
from esd.training.process_state import kept_process_state


class Policy:
    """A policy with evolved parameters, as returned by ``Run.policy``.

    ::

        policy = esd.Run("runs/cartpole-s0").policy()
        observation, _ = environment.reset(seed=7)
        policy.reset(seed=7)
        action = policy.act(observation)

    A copy, by ``copy`` or ``pickle`` and so in another process, begins the episode of the last ``reset`` anew.

    Attributes:
        observation_space: Space of the observations for ``act``.
        action_space: Space of the actions that ``act`` returns.
    """

    def __init__(self, config: Config, state: RunState, variant: str = "") -> None:
        """Build the policy of a config with the parameters of a state."""
        self._made_of = config, state, variant
        env = config.env
        if variant:
            names = {each.name: each for each in env.variants}
            if variant not in names:
                known = nearest(variant, list(names)) if names else "the run has no variants"
                raise UsageError(f"variant = {variant!r}: no such variant, {known}")
            chosen = names[variant]
        else:
            chosen = env.trained[0]
        one = env.of_variant(chosen)
        with kept_process_state():
            environment = make_environment(one, config.format)
        self.observation_space: gymnasium.Space[Any] = environment.observation_space
        self.action_space: gymnasium.Space[Any] = environment.action_space
        close(environment, f"env.id = {one.id!r}")
        self._observe = ObservationFlattener(
            self.observation_space, one.id, config.format, env.normalize_observations
        )
        self._decode = ActionDecoder(self.action_space, one.id)
        decode = self._decode
        interface = Interface(self._observe.size, decode.size, decode.bounded, decode.described)
        self._policy = make_policy(config.policy, interface, config.format)
        if self._policy.layout.size != state.h.size:
            raise UsageError(
                f"env.id = {one.id!r}: its policy has {self._policy.layout.size} parameters, but the run evolved "
                f"{state.h.size}: the environment's observations or actions have changed"
            )
        self._decode.outputs_are_squashed(self._policy.squashed)
        self._scale = state.observations.scale() if state.observations.size else None
        self._unused_sums = np.zeros((2, self._observe.size))
        self._weights = WeightSeeds(config)
        self._policy.load(state.h)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Start an episode: clear all state, and draw new initial weights if the policy starts from random weights.

        Args:
            seed: 0 to 2⁶⁴ − 1; the same seed gives the same weights. With ``policy.draw_weights`` = "run", they are
                always those of the run; with "member", those of test episode number ``seed``.

        Raises:
            UsageError: if the seed is not in this range.
        """
        self._seed = whole_number("seed", seed, 0, LARGEST_SEED)
        self._policy.reset(self._weights.of_seed(self._seed))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies are built anew: arrays of ours are views of each other, which those of a plain copy would not be."""
        return _begun, (*self._made_of, self._seed)

    def act(self, observation: Any) -> Any:
        """Return the action for an observation. A plastic policy also updates its weights.

        Args:
            observation: an element of ``observation_space``.

        Returns:
            An element of ``action_space``.

        Raises:
            UsageError: if the observation does not fit ``observation_space``, or is not finite.
            RunError: if the policy's outputs are not finite.
        """
        try:
            finite = self._observe.take(observation)
        except MisfitError as error:
            raise UsageError(
                f"observation: expected an element of {shortened(self.observation_space)} ({error})"
            ) from error
        flat = self._observe.buffer
        if not finite:
            raise UsageError(f"observation: {not_finite(flat)}")
        if self._scale is not None:
            flat = self._observe.normalize(flat, self._scale, self._unused_sums)
        action = self._decode(self._policy.act(flat))
        if action is None:
            raise RunError("the policy's outputs are NaN or infinite: its weights overflowed")
        return action


def _begun(config: Config, state: RunState, variant: str, seed: int) -> Policy:
    """A policy at the start of an episode."""
    policy = Policy(config, state, variant)
    policy.reset(seed)
    return policy
