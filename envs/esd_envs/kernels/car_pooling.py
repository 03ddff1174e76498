"""A picture of CarRacing as few numbers: the share of grass in the cells of a grid, and what three gauges show."""

from __future__ import annotations

import numpy as np

from esd_envs.kernels import kernel
from esd_envs.kernels.car_picture import SIZE, STRIP

f32 = np.float32

# grass is (102, 204, 102) or (102, 230, 102), and nothing else has so much more green than red
GRASS = 102
# columns of the gauges: speed is a white bar; steering is green and turning red, to both sides of their middle
SPEED_FROM, SPEED_TO, STEERING, TURNING, REACH = 12, 16, 48, 72, 14
# how many full pixels a bar has at 100 m/s, at 0.4 rad (as far as wheels turn), and at 5 rad/s
SPEED_FULL, STEERING_FULL, TURNING_FULL = (f32(255.0 * n) for n in (11.52, 46.08, 46.08))
GAUGES = 3


@kernel
def pool(frame, rows, columns, out):
    """Set out, float32 [rows · columns + GAUGES + 1]: shares of grass, speed, steering, turning, and a one.

    Args:
        frame: uint8 [96, 96, 3].
        rows: of the grid, which covers what is above the gauges.
        columns: of the grid.
        out: written.
    """
    for row in range(rows):
        top, bottom = row * STRIP // rows, (row + 1) * STRIP // rows
        for column in range(columns):
            left, right = column * SIZE // columns, (column + 1) * SIZE // columns
            total = 0
            for i in range(top, bottom):
                for j in range(left, right):
                    total += min(max(np.int64(frame[i, j, 1]) - np.int64(frame[i, j, 0]), 0), GRASS)
            out[row * columns + column] = f32(total) / f32(GRASS * (bottom - top) * (right - left))
    speed, steering, turning = 0, 0, 0
    for i in range(STRIP, SIZE):
        for j in range(SPEED_FROM, SPEED_TO):
            speed += np.int64(frame[i, j, 0])
        for j in range(REACH):
            steering += np.int64(frame[i, STEERING - 1 - j, 1]) - np.int64(
                frame[i, STEERING + j, 1]
            )
            turning += np.int64(frame[i, TURNING - 1 - j, 0]) - np.int64(frame[i, TURNING + j, 0])
    first = rows * columns
    out[first] = f32(speed) / SPEED_FULL
    out[first + 1] = f32(steering) / STEERING_FULL
    out[first + 2] = f32(turning) / TURNING_FULL
    out[first + 3] = f32(1.0)
