"""An environment under watch: episodes of random outputs, and a hash of all that they gave.

A ``WatchedEnvironment`` plays an environment as members meet it, through ``Environments``. A ``Probe``, its outermost
wrapper, shows all that passes to a ``Watch``, which hashes it. Episodes can also be abandoned, or made to crash.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from esd.config.settings import EnvironmentConfig, Wrapper
from esd.episodes.environments import Environments, global_generators
from esd.episodes.seeds import EpisodeSeeds
from esd.errors import EsdError
from esd.evolution.global_generators import seed_global_generators


@dataclasses.dataclass(frozen=True)
class EpisodeHash:
    """What an episode was.

    Attributes:
        digest: 16 hexadecimal digits over every observation, reward and end.
        steps: its length.
    """

    digest: str
    steps: int


class Crashed(EsdError):  # noqa: N818  # nobody's error but ours
    """Raised on purpose inside of an environment's step."""


class Watch:
    """What a ``Probe`` has seen, and what it is to do; it outlives an environment that is made anew.

    Attributes:
        steps: how many there were.
        step_seconds: spent in steps.
        reset_seconds: for each episode what its begin took, making the environment anew included if it is.
        episode_steps: of the episode under way.
        not_finite: the first NaN or infinity, in words; empty without.
        global_draws: whether Python's or numpy's global generator was used.
        crash_at: the step of an episode, counted from 0, in which to raise an exception; None for never.
    """

    def __init__(self) -> None:
        """Nothing seen yet."""
        self.steps = self.episode_steps = 0
        self.step_seconds = 0.0
        self.reset_seconds: list[float] = []
        self.not_finite = ""
        self.global_draws = False
        self.crash_at: int | None = None
        self.begin()

    def begin(self) -> None:
        """Start the hash of another episode, before the environment is made anew or reset."""
        self._digest, self.episode_steps = hashlib.sha256(), 0
        self._generators, self._began = global_generators(), time.perf_counter()

    def was_reset(self) -> None:
        """The environment is ready, its first observation not looked at yet."""
        self.reset_seconds.append(time.perf_counter() - self._began)
        self.global_draws |= global_generators() != self._generators

    def episode_hash(self) -> EpisodeHash:
        """Of the episode so far."""
        return EpisodeHash(self._digest.hexdigest()[:16], self.episode_steps)

    def observed(self, space: spaces.Space[Any], observation: Any) -> None:
        """Add an observation."""
        flat = np.asarray(spaces.flatten(space, observation))
        self._digest.update(flat.tobytes())
        if not self.not_finite and flat.dtype.kind == "f" and not np.isfinite(flat).all():
            self.not_finite = f"an observation has {flat[~np.isfinite(flat)][0]} in it"
            self.not_finite += f" after {self.episode_steps} steps"

    def stepped(self, reward: float, terminated: bool, truncated: bool) -> None:
        """Add what a step gave beside its observation."""
        self.steps += 1
        self.episode_steps += 1
        self._digest.update(np.array([reward, terminated, truncated], np.float64).tobytes())
        if not self.not_finite and not math.isfinite(reward):
            self.not_finite = f"the reward of step {self.episode_steps} is {reward}"


class Probe(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The outermost wrapper, which shows a ``Watch`` all that passes."""

    def __init__(self, env: gymnasium.Env[Any, Any], watch: Watch) -> None:
        """Look at an environment."""
        super().__init__(env)
        self._watch = watch

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As the environment does it."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._watch.was_reset()
        self._watch.observed(self.observation_space, observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment does it, unless it is to crash."""
        if self._watch.episode_steps == self._watch.crash_at:
            crash_in(self.env, action)
        generators = global_generators()
        began = time.perf_counter()
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._watch.step_seconds += time.perf_counter() - began
        self._watch.global_draws |= global_generators() != generators
        self._watch.stepped(float(reward), terminated, truncated)
        self._watch.observed(self.observation_space, observation)
        return observation, reward, terminated, truncated, info


def crash_in(env: gymnasium.Env[Any, Any], action: Any) -> None:
    """Take a step and raise in the middle of the environment's own ``step``, or behind it if that is no Python.

    Raises:
        Crashed: always, unless the environment itself raises something else.
    """
    code = getattr(type(env.unwrapped).step, "__code__", None)
    lines = sorted({line for _, _, line in code.co_lines() if line}) if code is not None else []

    def inside(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "return" or frame.f_lineno >= lines[len(lines) // 2]:
            raise Crashed
        return inside

    def called(frame: FrameType, event: str, argument: Any) -> Any:
        return inside if frame.f_code is code else None

    before = sys.gettrace()
    sys.settrace(called)
    try:
        env.step(action)
    finally:
        sys.settrace(before)
    raise Crashed


class WatchedEnvironment:
    """An environment under watch, and episodes of random outputs, which depend on the seed alone.

    Attributes:
        watch: what was seen.
    """

    def __init__(self, config: EnvironmentConfig, steps: int, probed: bool = True) -> None:
        """Make the environment, for episodes of at most so many steps; without a probe nothing is seen.

        Raises:
            UsageError: as ``Environments`` does.
        """
        self.watch = Watch()
        probe = Wrapper(f"{__name__}:{Probe.__name__}", {"watch": self.watch})
        self._environments = Environments(
            dataclasses.replace(
                config,
                wrappers=(*config.wrappers, probe) if probed else config.wrappers,
                max_steps=min(config.max_steps or steps, steps),
                normalize_observations=False,
            )
        )
        self._environments.outputs_are_squashed(True)

    def play(self, seed: int) -> EpisodeHash:
        """Play an episode to its end."""
        for _ in self.steps(seed):
            pass
        return self.watch.episode_hash()

    def steps(self, seed: int) -> Iterator[int]:
        """Play an episode, one step for each number that is asked for; what is left of it may be left."""
        outputs = np.random.default_rng(seed)
        episode = self._environments.play([EpisodeSeeds(seed, seed)], self._begin)
        next(episode)
        size, count = self._environments.interface.action_size, 0
        while True:
            try:
                episode.send(outputs.uniform(-1.0, 1.0, size).astype(np.float32))
            except StopIteration:
                return
            count += 1
            yield count

    def _begin(self, seeds: EpisodeSeeds) -> None:
        """Seed what a rollout seeds."""
        seed_global_generators(seeds.environment)
        self.watch.begin()

    def abandon(self, seed: int, steps: int) -> None:
        """Play some steps of an episode (at least one) and leave it there, as an exception in a policy does."""
        for count in self.steps(seed):
            if count >= steps:
                return

    def crash(self, seed: int, steps: int) -> None:
        """Play some steps of an episode, then raise inside of the environment's own ``step``."""
        self.watch.crash_at = steps
        try:
            self.play(seed)
        except Crashed:
            return
        finally:
            self.watch.crash_at = None

    def close(self) -> None:
        """Close the environment."""
        self._environments.close()
