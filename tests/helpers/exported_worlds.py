"""Environments whose spaces no installed one has: small pictures, and several actions at once."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Pictures(gymnasium.Env[Any, Any]):
    """Shows noise of 90×90 pixels, from which 84×84 are cut with fractions of pixels; also renders it."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = spaces.Box(0, 255, (90, 90, 3), np.uint8)
    action_space = spaces.Box(np.float32([-1.0, 0.0]), np.float32([1.0, 2.0]))

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._picture(), {}

    def step(self, action: Any) -> Any:
        return self._picture(), 1.0, False, False, {}

    def render(self) -> Any:
        return self._picture()

    def _picture(self) -> Any:
        return self.np_random.integers(0, 256, (90, 90, 3), np.uint8)


class Several(Pictures):
    """Takes all kinds of actions at once."""

    observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = spaces.Dict(
        {
            "choice": spaces.Discrete(3, start=2),
            "choices": spaces.MultiDiscrete([2, 3]),
            "half": spaces.Box(np.float32([-np.inf, 0.0]), np.float32([0.5, 1.0])),
            "switches": spaces.MultiBinary(3),
            "whole": spaces.Box(-3, 3, (2,), np.int32),
        }
    )

    def _picture(self) -> Any:
        return self.np_random.uniform(-1.0, 1.0, 3).astype(np.float32)


class Doubles(Several):
    """Shows numbers, and takes actions between bounds, that float32 can't hold."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = spaces.Dict(
        {
            "bounded": spaces.Box(-0.1, 0.1, (2,), np.float64),
            "half": spaces.Box(0.7, np.inf, (2,), np.float64),
        }
    )


class Drawn(Several):
    """Draws a white bar that moves to the right with each step."""

    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self._steps = 0
        return super().reset(seed=seed)

    def step(self, action: Any) -> Any:
        self._steps += 1
        return super().step(action)

    def render(self) -> Any:
        picture = np.full((120, 160, 3), 40, np.uint8)
        picture[40:, 20 * self._steps : 20 * self._steps + 20] = 255
        return picture


class Blind(Drawn):
    """Can't draw."""

    def render(self) -> Any:
        raise RuntimeError("no display")


class Scribble(Drawn):
    """Draws something else."""

    def render(self) -> Any:
        return [1, 2, 3]


class Forgotten(Drawn):
    """Draws, but returns nothing."""

    def render(self) -> Any:
        super().render()


class Stops(Drawn):
    """Draws the first steps only."""

    def render(self) -> Any:
        return super().render() if self._steps < 3 else None


class Grows(Drawn):
    """Draws larger and larger pictures."""

    def render(self) -> Any:
        return super().render()[: 60 + self._steps]


class Bright(Drawn):
    """Draws with numbers from 0 to 1."""

    def render(self) -> Any:
        return super().render() / 255.0


class Appearing(Drawn):
    """Draws dots on white that move, with a red ball from the fourth step on."""

    def render(self) -> Any:
        picture = np.full((120, 160, 3), 255, np.uint8)
        rows, columns = np.mgrid[:120, :160]
        for n in range(40):  # many colors: a palette has to choose
            at = 30 + 2 * n, 10 + 2 * n + self._steps
            dot = (rows - at[0]) ** 2 + (columns - at[1]) ** 2 < 9
            picture[dot] = 6 * n, 250 - 3 * n, (40 * n) % 253
        picture[28:34, :16] = np.arange(16)[:, None] + 240  # nearly white
        if self._steps > 3:
            picture[100:110, 130:140] = 250, 10, 30
        return picture


class LookAlike(Several):
    """The names of its actions differ in a dot and a line, and their bounds differ."""

    action_space = spaces.Dict(
        {
            "a": spaces.Dict({"b": spaces.Box(-1.0, 1.0, (1,))}),
            "a_b": spaces.Box(-3.0, 5.0, (1,)),
        }
    )


class Twice(Several):
    """Two actions that have the same name once a dot joins the names of nested ones."""

    action_space = spaces.Dict(
        {"a": spaces.Dict({"b": spaces.Discrete(2)}), "a.b": spaces.Discrete(3)}
    )
