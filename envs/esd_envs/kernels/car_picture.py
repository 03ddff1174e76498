"""CarRacing's 96×96 picture straight from its polygons.

Gymnasium paints 1000×800 pixels and shrinks them by averaging. Here the same polygons, with their corners cut to the
same whole pixels, are measured instead of painted: every row of the large picture that a polygon crosses adds its span
to the cells (small pixels, 10.4 × 8.3 large ones) below it. So a cell's coverage is exact along the rows, and only what
several polygons share within one cell is modeled: a later one takes first what is still free of a cell, then what
earlier ones have. Tiles of the road touch without overlapping, so this is what they do.

Lengths are large pixels and rows count from the bottom, as Gymnasium paints, unless a name says otherwise.
"""

from __future__ import annotations

import math

import numpy as np

from esd_envs.kernels import inlined, kernel

SIZE = 96  # of the small picture
WIDTH, HEIGHT = 1000, 800  # of the large one
CAR_X, CAR_Y = 500, 200  # where the car is in it
STRIP = 84  # the first row of the indicators, from the top; exactly 700 large rows
LOWEST = 100  # the lowest row above the indicators
CELL_WIDTHS = np.float32(0.096)  # a large pixel is so many cells wide,
ROW_PARTS = 12  # and so many hundredths of a cell high

PLAYFIELD = 2000 / 6
GRASS = PLAYFIELD / 20
FARTHEST = 1e6  # no car has such numbers
# single precision, so that the compiler doesn't compute with double
ZERO, HUNDREDTH, HALF, ONE, NINETY_SIX = (np.float32(x) for x in (0.0, 0.01, 0.5, 1.0, 96.0))
FULL, INFINITE, ONE_CELL = np.float32(99.99), np.float32(np.inf), np.uint64(1)
# cells of one color lose 2 of 255, others 1.25 on average, in the original (measured)
LOSS = np.float32(1.01)
# How far the four edges of a polygon reach out. pygame's outlines are smoothed: they widen it by 0.1 pixels more than
# the half that whole pixels do (measured). A tile doesn't reach into the ones before and after it: shares would add up
# to more than the road covers.
ALONE = np.array([0.6, 0.6, 0.6, 0.6], np.float32)
TILE = np.array([0.0, 0.6, 0.0, 0.6], np.float32)

WHEEL_W, WHEEL_R = 14 * 0.02, 27 * 0.02
# the box of large pixels around the car, painted as they are: its parts overlap
BOX_LEFT, BOX_BOTTOM, BOX_WIDTH, BOX_HEIGHT = CAR_X - 36, CAR_Y - 56, 72, 112
CAR_ROW, CAR_COLUMN = (HEIGHT - BOX_BOTTOM - BOX_HEIGHT) * 12 // 100, BOX_LEFT * 96 // 1000
# at most so many cells meet it
CAR_ROWS, CAR_COLUMNS = BOX_HEIGHT * 12 // 100 + 2, BOX_WIDTH * 96 // 1000 + 2
TIRE, TREAD, HULL = 1, 2, 3
CAR_COLORS = np.array([[0, 0, 0], [0, 0, 0], [77, 77, 77], [204, 0, 0]], np.float32)

# what the kernel is told of the car, in this order
ZOOM, X, Y, ANGLE, SPEED, STEERING, TURNING = range(7)
WHEELS, PER_WHEEL = 7, 5  # then of each wheel: x, y, angle, phase, omega
STATE_SIZE = WHEELS + 4 * PER_WHEEL


@inlined
def _set(line, begin, end, value):
    """The same as a slice's assignment; compiled in a tenth of the time."""
    part = line[begin:end]
    for k in range(len(part)):
        part[k] = value


@inlined
def _spans(low, high, xs, ys, outline):
    """Where a quadrangle begins and ends in every row that it meets; returns the first and the last of them."""
    bottom, top = ys[0], ys[0]
    for i in range(1, 4):
        bottom, top = min(bottom, ys[i]), max(top, ys[i])
    first, last = max(int(bottom), LOWEST), min(int(top), HEIGHT - 1)
    if first > last:
        return first, last
    _set(low, first, last + 1, INFINITE)
    _set(high, first, last + 1, -INFINITE)
    for i in range(4):
        j = (i + 1) % 4
        x1, y1, x2, y2 = xs[i], ys[i], xs[j], ys[j]
        if y1 > y2:
            x1, y1, x2, y2 = x2, y2, x1, y1
        left, right = min(x1, x2) - HALF, max(x1, x2) + HALF
        slope, reach = ZERO, INFINITE
        if y1 != y2:
            slope = (x2 - x1) / (y2 - y1)
            # a flat edge's smoothed outline reaches half of what it runs from row to row
            reach = max(outline[i], HALF * abs(slope)) if outline[i] > ZERO else ZERO
        begin, end = max(int(y1), first), min(int(y2), last)
        if begin > end:
            continue
        x = x1 + (np.float32(begin) - y1) * slope
        lows, highs = low[begin : end + 1], high[begin : end + 1]
        for k in range(len(lows)):  # from 0, that it can be done several rows at a time
            here = x + np.float32(k) * slope
            a, b = here - reach, here + reach
            a, b = a if a > left else left, b if b < right else right
            lows[k] = a if a < lows[k] else lows[k]
            highs[k] = b if b > highs[k] else highs[k]
    return first, last


@inlined
def _cover(layer, row, left, right, share, keep, color):
    """Give shares of a row's cells to a color: first of what is free, then of what others have."""
    taken, shares, kept = layer[-1, row, left:right], share[left:right], keep[left:right]
    for k in range(len(taken)):
        free = ONE - shares[k]
        kept[k] = free / taken[k] if taken[k] > free else ONE
        taken[k] = min(taken[k] + shares[k], ONE)
    for channel in range(len(color)):
        cells, level = layer[channel, row, left:right], color[channel]
        for k in range(len(cells)):
            cells[k] = cells[k] * kept[k] + shares[k] * level


@inlined
def _fill(layer, color, xs, ys, outline, room):
    """Add a quadrangle, its corners cut to whole pixels, to a layer [channels + 1, rows from the top, SIZE].

    The last plane of a layer holds how much of a cell is taken.
    """
    low, high, share, keep = room[0], room[1], room[2], room[3]
    first, last = _spans(low, high, xs, ys, outline)
    if first > last:
        return
    nearest, farthest = HEIGHT - 1 - last, HEIGHT - 1 - first  # counted from the top
    for row in range(nearest * ROW_PARTS // 100, (farthest * ROW_PARTS + ROW_PARTS - 1) // 100 + 1):
        begins, ends = 100 * row, 100 * row + 100
        left, right = SIZE, 0
        for y in range(
            max(nearest, begins // ROW_PARTS), min(farthest, (ends - 1) // ROW_PARTS) + 1
        ):
            a = (low[HEIGHT - 1 - y] + HALF) * CELL_WIDTHS
            b = (high[HEIGHT - 1 - y] + HALF) * CELL_WIDTHS
            a, b = a if a > ZERO else ZERO, b if b < NINETY_SIX else NINETY_SIX
            if a >= b:
                continue
            height = np.float32(min(y * ROW_PARTS + ROW_PARTS, ends) - max(y * ROW_PARTS, begins))
            i, j = np.uint64(a), np.uint64(b)
            before, after = height * (a - np.float32(i)), height * (b - np.float32(j))
            # how the share changes from cell to cell, in hundredths
            share[i] += height - before
            share[i + ONE_CELL] += before
            share[j] -= height - after
            share[j + ONE_CELL] -= after
            left, right = min(left, np.int64(i)), max(right, np.int64(j) + 1)
        total = ZERO
        for column in range(left, right):
            total += share[column]
            share[column] = ONE if total > FULL else total * HUNDREDTH
        _cover(layer, row, left, min(right, SIZE), share, keep, color)
        _set(share, left, right + 1, ZERO)


@inlined
def _corner(xs, ys, k, x, y):
    """Set a polygon's corner, cut to whole pixels."""
    xs[k], ys[k] = math.trunc(x), math.trunc(y)


@inlined
def _paint(box, ends, part, xs, ys, corners):
    """Paint a convex polygon into the car's box as ``pygame.draw.polygon`` does, whole pixels."""
    bottom, top = ys[0], ys[0]
    for i in range(1, corners):
        bottom, top = min(bottom, ys[i]), max(top, ys[i])
    for y in range(max(int(bottom), BOX_BOTTOM), min(int(top), BOX_BOTTOM + BOX_HEIGHT - 1) + 1):
        left, right, crossings = WIDTH, 0, 0
        for i in range(corners):
            j = i - 1 if i > 0 else corners - 1
            x1, y1, x2, y2 = xs[j], ys[j], xs[i], ys[i]
            if y1 > y2:
                x1, y1, x2, y2 = x2, y2, x1, y1
            if y1 < y2 and (y1 <= y < y2 or y == top == y2):
                run = (np.float32(y) - y1) * (x2 - x1) / (y2 - y1)
                x = int(x1) + int(math.floor(run) if crossings % 2 == 0 else math.ceil(run))
                left, right, crossings = min(left, x), max(right, x), crossings + 1
            elif bottom == top:
                left, right = min(left, int(min(x1, x2))), max(right, int(max(x1, x2)))
        left, right = max(left - BOX_LEFT, 0), min(right - BOX_LEFT, BOX_WIDTH - 1)
        if left <= right:
            row = y - BOX_BOTTOM
            _set(box[row], left, right + 1, part)
            ends[row, 0], ends[row, 1] = min(ends[row, 0], left), max(ends[row, 1], right)


@inlined
def _wheels(box, ends, state, tire, xs, ys):
    """Paint the wheels; a tread is a mark on a wheel, 1.2 radians long and seen while it is above."""
    zoom, angle = state[ZOOM], -state[ANGLE]
    c, s = math.cos(angle), math.sin(angle)
    for wheel in range(WHEELS, WHEELS + 4 * PER_WHEEL, PER_WHEEL):
        x, y = state[wheel] - state[X], state[wheel + 1] - state[Y]
        x, y = x * c - y * s, x * s + y * c  # turned as the car is
        turned = state[wheel + 2] + angle
        wheel_c, wheel_s = math.cos(turned), math.sin(turned)
        for part in (TIRE, TREAD):
            begin, end = 0.0, 0.0
            if part == TREAD:
                begins, ends_at = state[wheel + 3], state[wheel + 3] + 1.2
                if math.sin(begins) > 0 and math.sin(ends_at) > 0:
                    continue
                begin, end = math.cos(begins), math.cos(ends_at)
                if math.sin(begins) > 0:
                    begin = np.sign(begin)
                if math.sin(ends_at) > 0:
                    end = np.sign(end)
            for k in range(4):
                if part == TIRE:
                    u, v = tire[k, 0], tire[k, 1]
                else:
                    u = WHEEL_W if k in (1, 2) else -WHEEL_W
                    v = WHEEL_R * (begin if k < 2 else end)
                along, across = wheel_c * u - wheel_s * v, wheel_s * u + wheel_c * v
                _corner(xs, ys, k, CAR_X + zoom * (x + along), CAR_Y + zoom * (y + across))
            _paint(box, ends, part, xs, ys, 4)


@inlined
def _car(road, box, ends, shares, state, shapes, corners, xs, ys):
    """Lay wheels, treads, and the hull upon them, over the road."""
    for row in range(BOX_HEIGHT):
        _set(box[row], 0, BOX_WIDTH, 0)
        ends[row, 0], ends[row, 1] = BOX_WIDTH, -1
    _wheels(box, ends, state, shapes[4], xs, ys)
    zoom = state[ZOOM]
    for i in range(4):
        for k in range(corners[i]):
            _corner(xs, ys, k, CAR_X + zoom * shapes[i, k, 0], CAR_Y + zoom * shapes[i, k, 1])
        _paint(box, ends, HULL, xs, ys, corners[i])
    _set(shares.reshape(-1), 0, shares.size, ZERO)
    for y in range(BOX_HEIGHT):
        begins = (HEIGHT - 1 - BOX_BOTTOM - y) * ROW_PARTS  # from the top
        row = begins // 100
        inside = np.float32(min(ROW_PARTS, 100 * row + 100 - begins)) * HUNDREDTH
        below = np.float32(ROW_PARTS) * HUNDREDTH - inside
        row -= CAR_ROW
        for x in range(ends[y, 0], ends[y, 1] + 1):
            part = box[y, x]
            left = np.float32(BOX_LEFT + x) * CELL_WIDTHS
            column = int(left)
            width = min(CELL_WIDTHS, np.float32(column + 1) - left)
            rest = CELL_WIDTHS - width
            column -= CAR_COLUMN
            shares[row, column, part] += inside * width
            shares[row, column + 1, part] += inside * rest
            shares[row + 1, column, part] += below * width
            shares[row + 1, column + 1, part] += below * rest
    for row in range(CAR_ROWS):
        for column in range(CAR_COLUMNS):
            parts = shares[row, column]
            share = parts[TIRE] + parts[TREAD] + parts[HULL]
            if share > ZERO:
                free = max(ONE - share, ZERO)
                for channel in range(3):
                    value = road[channel, CAR_ROW + row, CAR_COLUMN + column] * free
                    for part in (TREAD, HULL):  # tires are black
                        value += parts[part] * CAR_COLORS[part, channel]
                    road[channel, CAR_ROW + row, CAR_COLUMN + column] = value
                taken = road[3, CAR_ROW + row, CAR_COLUMN + column]
                road[3, CAR_ROW + row, CAR_COLUMN + column] = taken * free + share


@inlined
def _bar(strip, color, x1, y1, x2, y2, room):
    """Add an upright bar to the indicators [4, rows, SIZE]; corners in large pixels from the top, both inside."""
    share, keep = room[2], room[3]
    left, right = max(min(x1, x2), 0.0) * 0.096, min((max(x1, x2) + 1.0) * 0.096, 96.0)
    top, bottom = min(y1, y2) * 0.12 - STRIP, (max(y1, y2) + 1.0) * 0.12 - STRIP
    first, last = int(left), math.ceil(right)
    for row in range(max(int(top), 0), min(math.ceil(bottom), SIZE - STRIP)):
        height = min(bottom, row + 1.0) - max(top, float(row))
        for column in range(first, last):
            width = min(right, column + 1.0) - max(left, float(column))
            share[column] = width * height
        _cover(strip, row, first, last, share, keep, color)
        _set(share, first, last, ZERO)


@inlined
def _indicators(strip, state, colors, room):
    """Speed, the four wheels, steering and turning."""
    if abs(state[SPEED]) > 1e-4:
        _bar(strip, colors[0], 125.0, math.trunc(780 - 0.4 * state[SPEED]), 150.0, 780.0, room)
    for i in range(4):
        omega = state[WHEELS + PER_WHEEL * i + 4]
        if abs(omega) > 1e-4:
            x = 175.0 + 25.0 * i
            _bar(strip, colors[1 + i // 2], x, math.trunc(780 - 0.2 * omega), x + 25.0, 780.0, room)
    if abs(state[STEERING]) > 1e-4:
        x = math.trunc(500 - 250 * state[STEERING])
        _bar(strip, colors[3], 500.0, 720.0, x, 760.0, room)
    if abs(state[TURNING]) > 1e-4:
        x = math.trunc(750 - 20 * state[TURNING])
        _bar(strip, colors[4], 750.0, 720.0, x, 760.0, room)


@inlined
def _write(frame, layer, line):
    """Write rows of a layer as pygame shrinks them: it rounds down twice, and whole numbers, too."""
    for row in range(len(frame)):
        for channel in range(3):
            cells, levels = layer[channel, row], line[channel]
            for k in range(len(cells)):
                level = cells[k] - LOSS
                levels[k] = np.int32(level if level > ZERO else ZERO)
        red, green, blue, out = line[0], line[1], line[2], frame[row]
        for k in range(len(out)):
            out[k, 0], out[k, 1], out[k, 2] = red[k], green[k], blue[k]


@kernel
def draw(frame, tiles, tile_colors, ground_colors, bar_colors, state, shapes, corners, room):
    """Draw an observation; black if the car is nowhere.

    Args:
        frame: uint8 [SIZE, SIZE, 3], written.
        tiles: corners of the road's polygons in the order of painting, float64 [n, 4, 2], meters.
        tile_colors: float64 [n, 3], cut to whole numbers here.
        ground_colors: of the field and of the grass, float32 [2, 3].
        bar_colors: of the indicators, float32 [5, 3].
        state: of the car, float64 [STATE_SIZE].
        shapes: corners of the hull's four polygons and a wheel's one, float64 [5, 8, 2], meters from their middle, in
            Box2D's order: how pygame rounds depends on it.
        corners: how many they are, int64 [5].
        room: what ``working_room`` made.
    """
    for value in state:
        if not abs(value) < FARTHEST:  # not finite: the physics has exploded
            _set(frame.reshape(-1), 0, frame.size, 0)
            return
    road, ground, strip, box, ends, shares, lines, line = room
    xs, ys = np.empty(8, np.float32), np.empty(8, np.float32)
    color = np.empty(3, np.float32)
    nothing = color[:0]
    zoom = state[ZOOM]
    c, s = zoom * math.cos(-state[ANGLE]), zoom * math.sin(-state[ANGLE])
    move_x = CAR_X - (c * state[X] - s * state[Y])
    move_y = CAR_Y - (s * state[X] + c * state[Y])

    # the picture's corners in the world: is there an end of the field in sight?
    within = True
    for k in range(4):
        dx = (WIDTH if k % 2 else 0) - move_x
        dy = (HEIGHT if k < 2 else LOWEST) - move_y
        within &= max(abs(c * dx + s * dy), abs(c * dy - s * dx)) < (PLAYFIELD - 5.0) * zoom * zoom
    _set(ground.reshape(-1), 0, ground.size, ZERO)
    if not within:
        for k in range(4):
            x = PLAYFIELD if k < 2 else -PLAYFIELD
            y = PLAYFIELD if k in (0, 3) else -PLAYFIELD
            _corner(xs, ys, k, c * x - s * y + move_x, s * x + c * y + move_y)
        _fill(ground[:1], nothing, xs, ys, ALONE, lines)
    reach = 0.71 * GRASS * zoom + 2.0
    for i in range(-20, 20, 2):
        for j in range(-20, 20, 2):
            x, y = GRASS * (i + 0.5), GRASS * (j + 0.5)
            x, y = c * x - s * y + move_x, s * x + c * y + move_y
            if not (-reach < x < WIDTH + reach and LOWEST - reach < y < HEIGHT + reach):
                continue
            for k in range(4):
                x = GRASS * (i + (1 if k in (0, 3) else 0))
                y = GRASS * (j + (1 if k >= 2 else 0))
                _corner(xs, ys, k, c * x - s * y + move_x, s * x + c * y + move_y)
            _fill(ground[1:], nothing, xs, ys, ALONE, lines)

    _set(road.reshape(-1), 0, road.size, ZERO)
    for i in range(len(tiles)):
        left, right, bottom, top = np.inf, -np.inf, np.inf, -np.inf
        for k in range(4):
            x, y = tiles[i, k, 0], tiles[i, k, 1]
            x, y = c * x - s * y + move_x, s * x + c * y + move_y
            _corner(xs, ys, k, x, y)
            left, right, bottom, top = min(left, x), max(right, x), min(bottom, y), max(top, y)
        if right < 0 or left > WIDTH or top < LOWEST or bottom > HEIGHT:
            continue
        for channel in range(3):
            color[channel] = math.trunc(tile_colors[i, channel])
        _fill(road, color, xs, ys, TILE, lines)

    _car(road, box, ends, shares, state, shapes, corners, xs, ys)
    for row in range(STRIP):
        for column in range(SIZE):
            free = ONE - road[3, row, column]
            grass = free * ground[1, row, column]
            field = free - grass
            if not within:
                field *= ground[0, row, column]
            for channel in range(3):
                road[channel, row, column] += (
                    field * ground_colors[0, channel] + grass * ground_colors[1, channel]
                )
    _write(frame[:STRIP], road, line)

    _set(strip.reshape(-1), 0, strip.size, ZERO)
    _indicators(strip, state, bar_colors, lines)
    _write(frame[STRIP:], strip, line)


def working_room():
    """What ``draw`` works in, and leaves in any state."""
    return (
        np.empty((4, STRIP, SIZE), np.float32),
        np.empty((2, STRIP, SIZE), np.float32),
        np.empty((4, SIZE - STRIP, SIZE), np.float32),
        np.empty((BOX_HEIGHT, BOX_WIDTH), np.uint8),
        np.empty((BOX_HEIGHT, 2), np.int64),
        np.empty((CAR_ROWS + 1, CAR_COLUMNS + 1, 4), np.float32),
        np.zeros((4, HEIGHT), np.float32),
        np.empty((3, SIZE), np.uint8),
    )
