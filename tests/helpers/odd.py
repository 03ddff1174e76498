"""Environments that raise or return what they should not, in the call and the way that they are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

Change = Callable[["Odd"], Any]


class Odd(gymnasium.Env):
    """Pays 1 for each of nine steps, but answers otherwise where it is told to.

    Args:
        at: the step whose answer is changed; 0 is reset.
        change: from the environment to what is returned in place of the whole answer, or raised if it is an exception.
        of: changes one part of the answer, such as "reward"; what ``change`` returns takes its place.
        observation_space: of the observations, which are zeros unless changed.
        first: how many episodes there are before the changed one.
    """

    action_space: Any = spaces.Discrete(2)
    PARTS = ("observation", "reward", "terminated", "truncated", "info")

    def __init__(
        self,
        at: int = 3,
        change: Change | None = None,
        of: str = "",
        observation_space: Any = None,
        first: int = 0,
    ) -> None:
        self.at, self.change, self.of, self.first = at, change, of, first
        self.observation_space = observation_space or spaces.Box(-1.0, 1.0, (2, 3))
        self.episodes = 0

    def observation(self) -> Any:
        if not isinstance(self.observation_space, spaces.Box):
            return self.observation_space.sample()
        return np.zeros(self.observation_space.shape, self.observation_space.dtype)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        self.episodes += 1
        self.options = options
        return self.answered([self.observation(), {}], ("observation", "info"))

    def step(self, action: Any) -> Any:
        self.steps += 1
        values = [self.observation(), 1.0, self.steps >= 9, False, {}]
        return self.answered(values, self.PARTS)

    def answered(self, values: list[Any], names: tuple[str, ...]) -> Any:
        if self.change is None or self.steps != self.at or self.episodes <= self.first:
            return tuple(values)
        changed = self.change(self)
        if isinstance(changed, BaseException):
            raise changed
        if not self.of:
            return changed
        values[names.index(self.of)] = changed
        return tuple(values)


class Closing(Odd):
    """Can't be closed."""

    def close(self) -> None:
        raise OSError("the window is gone")


class Vector(Odd):
    """Says that it is many."""

    num_envs = 3


class Deaf(Odd):
    """Has never heard of seeds."""

    def reset(self) -> Any:  # type: ignore[override]
        return self.observation(), {}


class Spaceless(gymnasium.Env):
    """Has no spaces but those that it is given."""

    def __init__(self, **given: Any) -> None:
        for name, space in given.items():
            setattr(self, name, space)


class Broken(gymnasium.Wrapper):
    """A wrapper that can't be made."""

    def __init__(self, env: gymnasium.Env, how: str = "assert") -> None:
        if how == "module":
            import no_such_module_of_anybody  # type: ignore[import-not-found]  # noqa: F401
        assert how == "never", "this wrapper needs a joystick"
        super().__init__(env)


class Blaming(gymnasium.Wrapper):
    """A wrapper that raises in a step."""

    def step(self, action: Any) -> Any:
        raise KeyError("speed")


class Options(Odd):
    """Pays what the options say, and changes them."""

    def step(self, action: Any) -> Any:
        observation, _, terminated, truncated, info = super().step(action)
        assert self.options is not None
        self.options["pay"] += 1.0
        return observation, self.options["pay"], terminated, truncated, info


NO_CLASS = 3


class Clock(Odd):
    """Shows the time in seconds, which float32 knows to two minutes, and what it got as pay."""

    START = 1.7e9

    def __init__(self, dtype: str = "float64", **kwargs: Any) -> None:
        super().__init__(
            observation_space=spaces.Box(-np.inf, np.inf, (2,), np.dtype(dtype)), **kwargs
        )

    def observation(self) -> Any:
        place = 0.0 if self.steps else self.np_random.uniform(-1.0, 1.0)
        return np.array([self.START + 500.0 * self.steps, place], self.observation_space.dtype)


def not_an_environment(**kwargs: Any) -> str:
    """A factory of something else."""
    return "an environment"


def factory(**kwargs: Any) -> gymnasium.Env:
    """A factory."""
    return Odd(**kwargs)


for _name, _class in (
    ("Odd", Odd),
    ("Closing", Closing),
    ("Options", Options),
    ("Clock", Clock),
):
    gymnasium.register(f"{_name}-v0", entry_point=_class, max_episode_steps=100)
