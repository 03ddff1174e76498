"""An environment that breaks law 1 in many ways; apart from ``user_code``, so that a fresh process needs no torch."""

from __future__ import annotations

import os
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Impure(gymnasium.Env):
    """Breaks law 1 or what else an environment should keep, in the way that it is told.

    Args:
        how: "object" (a number in the object grows with every episode), "class" (one in its class), "unfinished" (an
            episode that didn't end leaves something behind), "exception" (one that ended within a step), "rank" (it
            knows its MPI rank), "late rank" (but shows it only in step 90), "unseeded" (a generator without a seed),
            "deaf" (every seed gives one episode), "process" (a set's order), "reward" and "observation" (an infinity
            and a NaN in the middle), "raises", "closing" or "none".
    """

    observation_space = spaces.Box(-np.inf, np.inf, (3,))
    action_space = spaces.Discrete(2)
    episodes = 0

    def __init__(self, how: str = "none") -> None:
        self.how, self.count, self.left, self.within = how, 0, 0.0, 0.0
        self.generator = np.random.default_rng()
        if how == "rank":
            self.left = float(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
        if how == "process":
            self.left = float(list({"a", "b", "c", "d", "e", "f", "g", "h"}).index("a"))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=0 if self.how == "deaf" else seed)
        self.count += 1
        Impure.episodes += 1
        if self.how == "object":
            self.left = float(self.count)
        if self.how == "class":
            self.left = float(Impure.episodes)
        if self.how == "exception":
            self.left = self.within
        self.steps = 0
        return np.full(3, self.left, np.float32), {}

    def step(self, action: Any) -> Any:
        self.within = 1.0
        self.steps += 1
        over = self.steps >= (99 if self.how == "late rank" else 9)
        if self.how == "unfinished":
            self.left = 0.0 if over else 1.0
        reward = self.left if self.how == "unfinished" else float(self.np_random.random())
        if self.how == "unseeded":
            reward = float(self.generator.random())
        if self.how == "late rank" and self.steps == 90:
            reward = float(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
        observation = np.full(3, self.left, np.float32)
        if self.steps == 5 and self.how == "reward":
            reward = np.inf
        if self.steps == 5 and self.how == "observation":
            observation[1] = np.nan
        if self.steps == 5 and self.how == "raises":
            raise ZeroDivisionError("the physics of this environment broke")
        self.within = 0.0
        return observation, reward, over, False, {}

    def close(self) -> None:
        if self.how == "closing":
            raise OSError("the window is gone")


def is_on_last_rank() -> bool:
    """Whether this process is the last of an MPI job; one alone is."""
    rank, size = (int(os.environ.get(f"OMPI_COMM_WORLD_{name}", "0")) for name in ("RANK", "SIZE"))
    return rank >= size - 1


class Leaking(gymnasium.Env):
    """Pure but for one number that ``leak`` says, which is added to what ``into`` names.

    Args:
        leak: "episodes" (begun in this object), "ended" (those that came to their end), "every tenth" or
            "every sixtieth" (episode),
            "slow" and "steps" (whether this object has made more than 20,000, or 300),
            "late" (the same, and seen after step 100 only),
            "constructor" (drawn there without a seed), "global constructor" (from numpy's generator), "class",
            "time",
            "last rank" (as "episodes", on the last MPI rank alone), "generator" (kept, and seeded by the first reset
            alone), or "none".
        into: "observation", "reward", "end" or "seed" (of the next episode's noise).
        length: steps of an episode.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (3,))
    action_space = spaces.Discrete(2)
    begun = 0

    def __init__(self, leak: str = "none", into: str = "observation", length: int = 40) -> None:
        self.leak, self.into, self.length = leak, into, length
        self.episodes = self.ended = self.steps = 0
        self.drawn = 0.0
        if leak == "constructor":
            self.drawn = float(np.random.default_rng().random())
        if leak == "global constructor":
            self.drawn = float(np.random.random())  # noqa: NPY002
        self.generator: Any = None

    def number(self) -> float:
        """What leaks."""
        return {
            "episodes": lambda: float(self.episodes),
            "last rank": lambda: float(self.episodes * is_on_last_rank()),
            "ended": lambda: float(self.ended),
            "slow": lambda: float(self.steps > 20_000),
            "every sixtieth": lambda: float(self.episodes % 60 == 0),
            "every tenth": lambda: float(self.episodes % 10 == 0),
            "steps": lambda: float(self.steps > 300),
            "late": lambda: float(self.steps > 300 and self.step_of_episode > 100),
            "constructor": lambda: self.drawn,
            "global constructor": lambda: self.drawn,
            "class": lambda: float(Leaking.begun),
            "time": lambda: time.perf_counter() % 1.0,
            "generator": lambda: float(self.generator.random()),
        }.get(self.leak, lambda: 0.0)()

    def seen(self) -> np.ndarray:
        """An observation."""
        seen = np.array([self.np_random.random(), self.step_of_episode, 0.0], np.float32)
        if self.into == "observation":
            seen[2] = self.number()
        return seen

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        if self.generator is None:
            self.generator = np.random.default_rng(seed)
        self.episodes += 1
        Leaking.begun += 1
        self.step_of_episode = 0
        return self.seen(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        self.step_of_episode += 1
        over = self.step_of_episode >= self.length + (self.number() if self.into == "end" else 0)
        self.ended += over
        reward = float(action) + (self.number() if self.into == "reward" else 0.0)
        return self.seen(), reward, bool(over), False, {}


class Counting(gymnasium.Wrapper):
    """A wrapper that is impure in the way that it is told.

    Args:
        how: "observation", "reward" (a sum of all so far is added), "action" (every fifth is another one), "noise"
            (a generator without a seed), or "none".
    """

    def __init__(self, env: gymnasium.Env, how: str = "observation") -> None:
        super().__init__(env)
        self.how, self.count = how, 0
        self.generator = np.random.default_rng()

    def reset(self, **kwargs: Any) -> Any:
        observation, info = self.env.reset(**kwargs)
        return self.changed(observation), info

    def step(self, action: Any) -> Any:
        self.count += 1
        if self.how == "action" and self.count % 5 == 0:
            action = 1 - action
        observation, reward, *rest = self.env.step(action)
        reward = float(reward) + self.count * (self.how == "reward")
        return (self.changed(observation), reward, *rest)

    def changed(self, observation: np.ndarray) -> np.ndarray:
        """What is observed."""
        if self.how == "noise":
            observation = observation + self.generator.random()
        return observation + np.float32(self.count * (self.how == "observation"))


class OwnWrappers(gymnasium.Env):
    """An environment that keeps another one with a stateful wrapper in it."""

    observation_space = spaces.Box(-np.inf, np.inf, (4,))
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.inner = gymnasium.wrappers.NormalizeObservation(gymnasium.make("CartPole-v1"))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return self.inner.reset(seed=seed)

    def step(self, action: Any) -> Any:
        return self.inner.step(action)


def normalized_cart_pole(**kwargs: Any) -> gymnasium.Env:
    """An entry point that wraps what it makes."""
    return gymnasium.wrappers.NormalizeReward(gymnasium.make("CartPole-v1", **kwargs))


gymnasium.register("Impure-v0", entry_point=Impure, max_episode_steps=100)
gymnasium.register("Leaking-v0", entry_point=Leaking, max_episode_steps=1000)
gymnasium.register("OwnWrappers-v0", entry_point=OwnWrappers, max_episode_steps=100)
gymnasium.register("Normalized-v0", entry_point=normalized_cart_pole, max_episode_steps=100)
gymnasium.register(
    "Specified-v0",
    entry_point="gymnasium.envs.classic_control:CartPoleEnv",
    max_episode_steps=100,
    additional_wrappers=(gymnasium.wrappers.NormalizeObservation.wrapper_spec(epsilon=1e-8),),
)
