"""An environment that breaks law 1 in many ways; apart from ``user_code``, so that a fresh process needs no torch."""

from __future__ import annotations

import os
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Impure(gymnasium.Env):
    """Breaks law 1 or what else an environment should keep, in the way that it is told.

    Args:
        how: "object" (a number in the object grows with every episode), "class" (one in its class), "unfinished" (an
            episode that didn't end leaves something behind), "exception" (one that ended within a step), "rank" (it
            knows its MPI rank), "unseeded" (a generator without a seed), "deaf" (every seed gives one episode),
            "process" (a set's order), "reward" and "observation" (an infinity and a NaN in the middle), "raises",
            "closing" or "none".
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
        over = self.steps >= 9
        if self.how == "unfinished":
            self.left = 0.0 if over else 1.0
        reward = self.left if self.how == "unfinished" else float(self.np_random.random())
        if self.how == "unseeded":
            reward = float(self.generator.random())
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


gymnasium.register("Impure-v0", entry_point=Impure, max_episode_steps=100)
