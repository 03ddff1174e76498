"""What CarRacing shows, gathered from its car and drawn by ``kernels.car_picture``."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import pygame
from gymnasium.envs.box2d.car_dynamics import Car
from gymnasium.envs.box2d.car_racing import SCALE, WINDOW_H, WINDOW_W, ZOOM

from esd_envs.kernels import car_picture as picture

Bytes = npt.NDArray[np.uint8]
Float64s = npt.NDArray[np.float64]

INDICATOR_COLORS = np.array(
    [[255, 255, 255], [0, 0, 255], [51, 0, 255], [0, 255, 0], [255, 0, 0]], np.float32
)
# 100 × 125 large pixels; the score stands left of everything else
SCORE_ROWS, SCORE_COLUMNS = picture.SIZE - picture.STRIP, 12


def _shares(cells: int, pixels: int) -> Float64s:
    """How much each of the pixels counts in each cell, [cells, pixels]."""
    ends = np.arange(1, cells + 1)[:, None] * (pixels / cells)
    right = np.minimum(ends, np.arange(1, pixels + 1))
    left = np.maximum(ends - pixels / cells, np.arange(pixels))
    shares: Float64s = np.maximum(right - left, 0.0) / (pixels / cells)
    return shares


@functools.cache  # a score is −100 to 1,000: they are few
def score(text: str) -> Bytes:
    """The score, white on black, [SCORE_ROWS, SCORE_COLUMNS, 3].

    pygame writes it, which moves some digits closer together than others.
    """
    pygame.font.init()
    font = pygame.font.Font(pygame.font.get_default_font(), 42)
    written = font.render(text, True, (255, 255, 255), (0, 0, 0))
    strip = pygame.Surface((SCORE_COLUMNS * WINDOW_W // picture.SIZE, WINDOW_H // 8))
    strip.blit(written, written.get_rect(center=(60, strip.get_height() // 2)))
    white = pygame.surfarray.pixels_red(strip).T.astype(np.float64)
    rows, columns = _shares(SCORE_ROWS, white.shape[0]), _shares(SCORE_COLUMNS, white.shape[1])
    exact = np.round(rows @ white @ columns.T, 6)  # whatever the order of summing
    levels = np.maximum(np.ceil(exact - 0.01) - 2, 0)  # as car_picture rounds
    return np.repeat(levels.astype(np.uint8)[:, :, None], 3, axis=2)


class CarRenderer:
    """Draws one car's observations.

    Args:
        car: any car, for its shapes.
    """

    def __init__(self, car: Car) -> None:
        """Make room for the layers."""
        fixtures = [*car.hull.fixtures, *car.wheels[0].fixtures]
        polygons = [fixture.shape.vertices for fixture in fixtures]
        self._corners = np.array([len(polygon) for polygon in polygons])
        self._shapes = np.zeros((len(polygons), 8, 2))
        for room, polygon in zip(self._shapes, polygons, strict=True):
            room[: len(polygon)] = polygon
        self._state = np.zeros(picture.STATE_SIZE)
        self._room = picture.working_room()

    def draw(
        self, car: Car, time: float, reward: float, tiles: Float64s, colors: Float64s, ground: Any
    ) -> Bytes:
        """The observation, uint8 [96, 96, 3].

        Args:
            car: with its wheels.
            time: since the start, s; during the first second the camera comes closer.
            reward: shown as the score.
            tiles: the road's polygons in the order of painting, [n, 4, 2], m.
            colors: theirs, [n, 3].
            ground: colors of field and grass, float32 [2, 3].
        """
        hull = car.hull
        position, velocity = hull.position, hull.linearVelocity
        vx, vy = velocity.x, velocity.y
        state = [
            0.1 * SCALE * max(1 - time, 0) + ZOOM * SCALE * min(time, 1),
            position.x,
            position.y,
            hull.angle,
            (vx * vx + vy * vy) ** 0.5,
            car.wheels[0].joint.angle,
            hull.angularVelocity,
        ]
        for wheel in car.wheels:
            position = wheel.position
            state += (position.x, position.y, wheel.angle, wheel.phase, wheel.omega)
        self._state[:] = state
        frame = np.empty((picture.SIZE, picture.SIZE, 3), np.uint8)
        picture.draw(
            frame,
            tiles,
            colors,
            ground,
            INDICATOR_COLORS,
            self._state,
            self._shapes,
            self._corners,
            self._room,
        )
        frame[picture.STRIP :, :SCORE_COLUMNS] = score(f"{reward:04.0f}")
        return frame
