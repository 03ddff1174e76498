"""The endless T-maze and color cubes in plain Python, from docs/worlds.md; imports nothing from ``esd_envs``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tests.helpers.oracles.memory import DISTRACTOR, LENGTH, SIGN, Draws

Float32s = npt.NDArray[np.float32]
Step = tuple[Float32s, float, bool]

CELL, START, NEXT_TARGET, WHETHER, WHICH, WHERE, COLOR = range(8, 15)
MOVED_BY = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right


class EndlessTMaze:
    """Corridors as lists of what stands in them: "sign", nothing, …, "junction"."""

    def __init__(
        self,
        seed: int,
        junctions: int,
        lengths: tuple[int, int],
        distractors: int,
        forced: bool,
        stop_at_error: bool,
    ) -> None:
        self._draws, self._distractors = Draws(seed), distractors
        self._forced, self._stop_at_error = forced, stop_at_error
        self.signs, self._corridors = [], []
        low, high = lengths
        for corridor in range(junctions):
            length = low + int(self._draws.uniform(LENGTH, corridor) * (high - low + 1))
            self._corridors.append(["sign", *[""] * length, "junction"])
            self.signs.append(self._draws.word(SIGN, corridor) >> 63)
        self.corridor = self._at = self._idle = self._time = self.right = 0
        self.observation = self._look()

    def _look(self) -> Float32s:
        there, sign = "", None
        if self.corridor < len(self._corridors):
            there, sign = self._corridors[self.corridor][self._at], self.signs[self.corridor]
        flags = [there == "sign" and sign == 0, there == "sign" and sign == 1, there == "junction"]
        noise = [
            2 * self._draws.uniform(DISTRACTOR, self._time * self._distractors + i) - 1
            for i in range(self._distractors)
        ]
        return np.float32([*map(float, flags), *noise])

    def step(self, action: int) -> Step:
        corridor, junctions = self._corridors[self.corridor], len(self._corridors)
        reward, over = 0.0, False
        if corridor[self._at] == "junction":
            right = action == self.signs[self.corridor]
            self.right += right
            reward = 1.0 / junctions if right else 0.0
            self.corridor += 1
            self._at = self._idle = 0
            if self._stop_at_error and not right:
                self.corridor = junctions
            over = self.corridor == junctions
        elif self._forced or action == 2:
            self._at += 1
        else:
            way = len(corridor) - 1
            reward = -1.0 / (junctions * way)
            self._idle += 1
            over = self._idle == way
        self._time += 1
        self.observation = self._look()
        return self.observation, reward, over


class ColorCubes:
    """Cells as pairs, and a dictionary of where each color is."""

    def __init__(
        self,
        seed: int,
        size: int,
        cubes: int,
        colors: int,
        targets: int,
        patience: int,
        teleport: float,
        updates: str,
        random_colors: bool,
    ) -> None:
        self._draws = Draws(seed)
        self._size, self._colors, self._targets = size, colors, targets
        self._patience, self._teleport, self._updates = patience, teleport, updates
        self._all = [(row, column) for row in range(size) for column in range(size)]
        self.where: dict[int, tuple[int, int]] = {}
        for cube in range(cubes):
            self.where[cube] = self._free(self._draws.uniform(CELL, cube))
        self._color: list[int] = []
        for cube in range(cubes):
            left = [color for color in range(colors) if color not in self._color]
            self._color.append(
                left[int(self._draws.uniform(COLOR, cube) * len(left))] if random_colors else cube
            )
        self.target = int(self._draws.uniform(NEXT_TARGET, 0) * cubes)
        others = [cell for cell in self._all if cell != self.where[self.target]]
        self.agent = others[int(self._draws.uniform(START, 0) * len(others))]
        self._moves = self._moved = self._phase = self.found = 0
        self._to_show = list(range(cubes)) if updates == "one" else [-1]
        self.observation = self._look()

    def _free(self, drawn: float) -> tuple[int, int]:
        free = [cell for cell in self._all if cell not in self.where.values()]
        return free[int(drawn * len(free))]

    def _place(self, cell: tuple[int, int]) -> list[float]:
        return [x / (self._size - 1) - 0.5 for x in cell]

    def _look(self) -> Float32s:
        color = [0.0] * self._colors
        places = [[0.0, 0.0] for _ in range(1 if self._updates == "one" else self._colors)]
        flag = 0.0
        if self._phase < self._targets:
            color[self._color[self.target]] = 1.0
        if self._to_show:
            flag = 1.0
            if self._updates == "one":
                shown = self._to_show[0]
                color = [float(i == self._color[shown]) for i in range(self._colors)]
                places = [self._place(self.where[shown])]
            else:
                cells = {self._color[cube]: cell for cube, cell in self.where.items()}
                if self._updates == "positions" and self._moves > 0:
                    cells, flag = dict(enumerate(sorted(cells.values()))), -1.0
                for at, cell in cells.items():
                    places[at] = self._place(cell)
        flat = [x for place in places for x in place]
        return np.float32([*color, *flat, flag, *self._place(self.agent)])

    def _jump(self, cube: int, drawn: float) -> None:
        self.where[cube] = self._free(drawn)
        self._to_show = [cube]

    def _another(self, drawn: float) -> int:
        others = [cube for cube in sorted(self.where) if cube != self.target]
        return others[int(drawn * len(others))] if others else self.target

    def step(self, action: int) -> Step:
        reward = 0.0
        if self._to_show:
            self._to_show.pop(0)
            self.observation = self._look()
            return self.observation, reward, False
        goal = tuple(x + by for x, by in zip(self.agent, MOVED_BY[action], strict=True))
        if goal in self._all:
            self.agent = goal
        self._moves += 1
        self._moved += 1
        draw, n = self._draws.uniform, self._moves
        if self.agent == self.where[self.target] or self._moved == self._patience:
            if self.agent == self.where[self.target]:
                reward = 1.0 / self._targets
                self.found += 1
            self.agent = self.where[self.target]
            self._phase += 1
            self._moved = 0
            if self._phase < self._targets:
                self._jump(self.target, draw(CELL, len(self.where) + self._phase))
                self.target = self._another(draw(NEXT_TARGET, self._phase))
        elif len(self.where) > 1 and draw(WHETHER, n) < self._teleport:
            self._jump(self._another(draw(WHICH, n)), draw(WHERE, n))
        self.observation = self._look()
        return self.observation, reward, self._phase == self._targets
