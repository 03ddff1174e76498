"""CarRacing's track: the same floats as Gymnasium's generator gives, operation by operation, but compiled."""

from __future__ import annotations

import math

import numpy as np

from esd_envs.kernels import inlined, kernel

SCALE = 6.0
RADIUS = 900 / SCALE
STEP = 21 / SCALE
TURN_RATE = 0.31
WIDTH = 40 / SCALE
CURB = 8 / SCALE
CURB_MIN_COUNT = 4
MAX_POINTS = 2500
FULL_TURN = 2 * math.pi


@kernel
def drive(checkpoints, start_angle):
    """Drive from checkpoint to checkpoint and cut out one closed lap.

    Args:
        checkpoints: angle, x, y, float64 [12, 3].
        start_angle: where the lap is cut.

    Returns:
        angle, heading, x, y of its points, float64 [n, 4]; n = 0 if the lap doesn't close.
    """
    points = np.empty((MAX_POINTS, 4))
    x, y, heading = 1.5 * RADIUS, 0.0, 0.0
    target, laps, count = 0, 0, 0
    other_side = False
    while count < MAX_POINTS and laps <= 4:
        angle = math.atan2(y, x)
        if other_side and angle > 0:
            laps += 1
            other_side = False
        if angle < 0:
            other_side = True
            angle += FULL_TURN
        # the next checkpoint ahead; past the last one, those of the next lap
        while angle > checkpoints[target % len(checkpoints), 0]:
            target += 1
            if target % len(checkpoints) == 0:
                angle -= FULL_TURN
        target_x = checkpoints[target % len(checkpoints), 1]
        target_y = checkpoints[target % len(checkpoints), 2]
        right_x, right_y = math.cos(heading), math.sin(heading)
        ahead = right_x * (target_x - x) + right_y * (target_y - y)
        while heading - angle > 1.5 * math.pi:
            heading -= FULL_TURN
        while heading - angle < -1.5 * math.pi:
            heading += FULL_TURN
        before = heading
        ahead *= SCALE
        if ahead > 0.3:
            heading -= min(TURN_RATE, abs(0.001 * ahead))
        if ahead < -0.3:
            heading += min(TURN_RATE, abs(0.001 * ahead))
        x += -right_y * STEP
        y += right_x * STEP
        points[count, 0], points[count, 1] = angle, before * 0.5 + heading * 0.5
        points[count, 2], points[count, 3] = x, y
        count += 1

    first, last = -1, -1
    for i in range(count - 1, 0, -1):
        if points[i, 0] > start_angle and points[i - 1, 0] <= start_angle:
            if last == -1:
                last = i
            else:
                first = i
                break
    if first == -1:
        return points[:0]
    lap = points[first : last - 1]
    gap_x = math.cos(lap[0, 1]) * (lap[0, 2] - lap[-1, 2])
    gap_y = math.sin(lap[0, 1]) * (lap[0, 3] - lap[-1, 3])
    return lap if math.sqrt(gap_x * gap_x + gap_y * gap_y) <= STEP else points[:0]


@inlined
def _beside(corner, point, distance):
    """Set a corner beside a point of the track."""
    corner[0] = point[2] + distance * math.cos(point[1])
    corner[1] = point[3] + distance * math.sin(point[1])


@kernel
def pave(lap):
    """Lay tiles from point to point, and curbs along hard turns.

    Args:
        lap: what ``drive`` returned.

    Returns:
        corners of tiles and curbs in the order of painting, float64 [m, 4, 2];
        the tile that each belongs to, int64 [m]; whether it is a curb, bool [m].
    """
    count = len(lap)
    curbs = np.zeros(count, np.bool_)
    for i in range(count):
        hard, side = True, 0.0
        for back in range(CURB_MIN_COUNT):
            turn = lap[i - back, 1] - lap[i - back - 1, 1]
            hard &= abs(turn) > TURN_RATE * 0.2
            side += np.sign(turn)
        curbs[i] = hard and abs(side) == CURB_MIN_COUNT
    for i in range(count):  # in place, as the original does
        for back in range(CURB_MIN_COUNT):
            curbs[i - back] |= curbs[i]

    corners = np.empty((2 * count, 4, 2))
    owner, is_curb = np.empty(2 * count, np.int64), np.zeros(2 * count, np.bool_)
    painted = 0
    for i in range(count):
        for curb in range(2 if curbs[i] else 1):
            near, far = -WIDTH, WIDTH
            if curb:
                side = np.sign(lap[i - 1, 1] - lap[i, 1])
                near, far = side * WIDTH, side * (WIDTH + CURB)
            here, there = lap[i], lap[i - 1]
            _beside(corners[painted, 0], here, near)
            _beside(corners[painted, 1], here, far)
            _beside(corners[painted, 2], there, far)
            _beside(corners[painted, 3], there, near)
            owner[painted], is_curb[painted] = i, curb == 1
            painted += 1
    return corners[:painted], owner[:painted], is_curb[:painted]
