"""Worlds in which what is remembered becomes wrong and has to be replaced: an endless T-maze, and color cubes.

After Shchendrigin et al. 2026, "Memory Retention Is Not Enough to Master Memory Tasks in Reinforcement Learning" (arXiv
2601.15086); ``docs/worlds.md`` says what is theirs and what is ours. Compiled, as the worlds of ``memory`` are, and
they end by themselves. A return of 1 is perfect.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from esd_envs.compiled import Compiled
from esd_envs.kernels import rewriting as kernels
from esd_envs.keywords import MOST, flag, share, span, whole
from esd_envs.memory import Float32s, WorldOfMemory, corridor_spaces

MAX_STEPS = 100_000_000
UPDATES = ("one", "all", "positions")


class EndlessTMaze(WorldOfMemory):
    """Corridors in a row, each with a sign at its beginning that tells the way at its end, and nothing later.

    With one junction it is ``memory.TMaze``, to the last bit.

    Args:
        junctions: how many corridors there are, each with a junction at its end.
        length: of every corridor between its sign and its junction, in steps, or [least, most] to draw each from.
        distractors: how many numbers of an observation are random, in [−1, 1), and new in every step.
        forced: the agent walks by itself, and only has to turn.
        stop_at_error: the first wrong turn ends the episode, as in the paper.
    """

    def __init__(
        self,
        *,
        junctions: int = 10,
        length: int | list[int] | tuple[int, int] = (1, 10),
        distractors: int = 4,
        forced: bool = True,
        stop_at_error: bool = False,
        render_mode: None = None,
    ) -> None:
        """Build it.

        Raises:
            ValueError: naming a keyword whose value makes no world.
        """
        super().__init__(render_mode)
        shortest, longest = span("length", length, 1)
        forced, stops = flag("forced", forced), flag("stop_at_error", stop_at_error)
        steps = (longest + 2) if forced else 2 * (longest + 1)
        junctions = whole("junctions", junctions, 1, most=max(MAX_STEPS // steps, 1))
        count = whole("distractors", distractors, 0, most=MOST)
        self.action_space, self.observation_space = corridor_spaces(forced, count)
        self.compiled = Compiled(
            kernels.reset_maze,
            kernels.step_maze,
            [shortest, longest, count, float(forced), junctions, float(stops)],
            kernels.MAZE_STATE,
            3 + count,
            self.action_space,
        )

    def step(self, action: Any) -> tuple[Float32s, float, bool, bool, dict[str, Any]]:
        """Turn left (0) or right (1), or go forward (2, not if ``forced``); the last info says how it went."""
        observation, reward, terminated = self.compiled.step(action)
        info = {}
        if terminated:
            right = int(self.compiled.state[kernels.RIGHT])
            info = {
                "right": right,
                "success": right == int(self.compiled.parameters[kernels.JUNCTIONS]),
            }
        return observation, reward, terminated, False, info


class ColorCubes(WorldOfMemory):
    """Cubes of different colors on a grid, one of them the target, which are seen only when one of them has moved.

    Args:
        size: rows and columns of the grid.
        cubes: how many there are, each with a color of its own.
        colors: how many colors an observation has room for; None: as many as cubes.
        targets: how many an episode has, one after the other; a cube that was found moves, and another is wanted.
        patience: moves after which a target is given up; None: as many as the farthest cell needs.
        teleport: probability that a move is followed by that of a cube which is not wanted to a random free cell.
        updates: what is shown after a cube has moved: "one" (its color and its place), "all" (the places of all cubes),
            or "positions" (the places, but after the first time not of which color).
        random_colors: an episode draws its cubes' colors from all ``colors``; otherwise it has the first ones.
    """

    def __init__(
        self,
        *,
        size: int = 5,
        cubes: int = 3,
        colors: int | None = None,
        targets: int = 10,
        patience: int | None = None,
        teleport: float = 0.1,
        updates: str = "one",
        random_colors: bool = False,
        render_mode: None = None,
    ) -> None:
        """Build it.

        Raises:
            ValueError: naming a keyword whose value makes no world.
        """
        super().__init__(render_mode)
        size = whole("size", size, 2, most=1000)
        cubes = whole("cubes", cubes, 1, most=size * size - 1)
        colors = cubes if colors is None else whole("colors", colors, cubes)
        patience = 2 * (size - 1) if patience is None else whole("patience", patience, 1)
        steps = 2 * patience + 1  # of a target, with an update after every move
        targets = whole("targets", targets, 1, most=max((MAX_STEPS - cubes) // steps, 1))
        if updates not in UPDATES:
            raise ValueError(f"updates = {updates!r}: expected one of {', '.join(UPDATES)}")
        drawn = flag("random_colors", random_colors)
        self.action_space = spaces.Discrete(4)
        places = 1 if updates == "one" else colors
        most = np.full(colors + 2 * places + 3, 0.5, np.float32)
        least = -most
        least[:colors], most[:colors] = 0.0, 1.0
        least[-3], most[-3] = (-1.0 if updates == "positions" else 0.0), 1.0
        self.observation_space = spaces.Box(least, most, dtype=np.float32)
        chance = share("teleport", teleport)
        self.compiled = Compiled(
            kernels.reset_cubes,
            kernels.step_cubes,
            [size, cubes, colors, targets, patience, chance, UPDATES.index(updates), float(drawn)],
            kernels.CELLS + 2 * cubes,
            least.size,
            self.action_space,
        )

    def step(self, action: Any) -> tuple[Float32s, float, bool, bool, dict[str, Any]]:
        """Go up (0), down (1), left (2) or right (3), which an update prevents; the last info says how it went."""
        observation, reward, terminated = self.compiled.step(action)
        info = {}
        if terminated:
            found = int(self.compiled.state[kernels.FOUND])
            info = {
                "found": found,
                "success": found == int(self.compiled.parameters[kernels.TARGETS]),
            }
        return observation, reward, terminated, False, info
