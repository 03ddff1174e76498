"""The endless T-maze and color cubes as C functions: one begins an episode, one makes a step of it.

Whatever is random is named by the episode's seed, what it is for and a number (``draws``). The signatures are those
that ``esd_envs.compiled`` describes.
"""

from __future__ import annotations

import numpy as np

from esd_envs.kernels import RESET, STEP, c_function, inlined
from esd_envs.kernels.draws import begin, key_of, uniform, word
from esd_envs.kernels.memory import (
    FORCED,
    FORWARD,
    LENGTH,
    LONGEST,
    MAZE_TIME,
    POSITION,
    SHORTEST,
    SIGN,
    THE_LENGTH,
    THE_SIGN,
    WASTED,
    look_into_corridor,
)

f32, f64, i64, u64 = np.float32, np.float64, np.int64, np.uint64

# what the endless T-maze is told, and its state: those of the T-maze, and behind them its own
JUNCTIONS, STOP_AT_ERROR, MAZE_PARAMETERS = range(4, 7)
CORRIDOR, RIGHT, MAZE_STATE = range(7, 10)

# what color cubes are told, and their state: from CELLS on, where each cube is, and then the color of each. SHOWN is
# the cube that is shown now (NOTHING: none), LAST_SHOWN the last of a row of them
SIZE, CUBES, COLORS, TARGETS, PATIENCE, TELEPORT, UPDATES, RANDOM, CUBES_PARAMETERS = range(9)
MOVES, MOVED, PHASE, FOUND, TARGET, AGENT, SHOWN, LAST_SHOWN, CELLS = range(2, 11)
NOTHING = -1.0
ONE, ALL, POSITIONS = range(3)
UP, DOWN, LEFT = range(3)

# what is drawn, beside what ``memory`` draws; each has 2⁵⁶ numbers
CELL, START, NEXT_TARGET, WHETHER, WHICH, WHERE, COLOR = range(8, 15)


@inlined
def _enter(key, parameters, state):
    """Draw the length and the sign of the corridor that begins."""
    corridor = i64(state[CORRIDOR])
    lengths = parameters[LONGEST] - parameters[SHORTEST] + 1.0
    drawn = f64(i64(uniform(key, THE_LENGTH, corridor) * lengths))
    state[LENGTH] = parameters[SHORTEST] + drawn
    state[SIGN] = f64(word(key, THE_SIGN, corridor) >> u64(63))
    state[POSITION] = state[WASTED] = 0.0


@c_function(RESET)
def reset_maze(seed, parameters, state, observation):
    """Begin at the sign of the first corridor."""
    key = begin(seed, state)
    state[MAZE_TIME] = state[CORRIDOR] = state[RIGHT] = 0.0
    _enter(key, parameters, state)
    look_into_corridor(key, parameters, state, observation)
    return 0


@c_function(STEP)
def step_maze(action, parameters, state, observation, reward):
    """Walk on, or turn into the next corridor; the last junction ends the episode, and so does wasting time."""
    way, junctions = state[LENGTH] + 1.0, parameters[JUNCTIONS]
    over = 0
    reward[0] = 0.0
    if state[CORRIDOR] >= junctions or state[WASTED] >= way:  # over
        return 1
    key = key_of(state)
    state[MAZE_TIME] += 1.0
    if state[POSITION] == way:
        right = f64(action[0]) == state[SIGN]
        if right:
            reward[0] = 1.0 / junctions
            state[RIGHT] += 1.0
        state[POSITION] += 1.0
        state[CORRIDOR] += 1.0
        if not right and parameters[STOP_AT_ERROR] == 1.0:
            state[CORRIDOR] = junctions
        if state[CORRIDOR] < junctions:
            _enter(key, parameters, state)
        else:
            over = 1
    elif parameters[FORCED] == 1.0 or f64(action[0]) == FORWARD:
        state[POSITION] += 1.0
    else:
        reward[0] = -1.0 / (junctions * way)
        state[WASTED] += 1.0
        over = 1 if state[WASTED] >= way else 0
    look_into_corridor(key, parameters, state, observation)
    return over


@inlined
def _free(rank, state, first, count):
    """The number with ``rank`` others before it of those that are not among a state's ``count`` from ``first`` on."""
    number = rank
    while True:
        below = 0
        for i in range(first, first + count):
            below += state[i] <= number
        if rank + below == number:
            return number
        number = rank + below


@inlined
def _other(drawn, cubes, cube):
    """One of the cubes that are not ``cube``, by a number in [0, 1); the same one if there is no other."""
    if cubes == 1:
        return cube
    chosen = i64(drawn * f64(cubes - 1))
    return chosen + 1 if chosen >= cube else chosen


@inlined
def _place(cell, size, observation, at):
    """A cell as two numbers: row and column, from −½ to ½, so that colors count for more than places."""
    observation[at] = f32(f64(cell // size) / f64(size - 1) - 0.5)
    observation[at + 1] = f32(f64(cell % size) / f64(size - 1) - 0.5)


@inlined
def _look_at_cubes(parameters, state, observation):
    """The target's color, where the agent is, and in updates where cubes are."""
    size, cubes, colors = i64(parameters[SIZE]), i64(parameters[CUBES]), i64(parameters[COLORS])
    updates, shown = i64(parameters[UPDATES]), i64(state[SHOWN])
    color_at = CELLS + cubes
    places = 1 if updates == ONE else colors
    over = state[PHASE] >= parameters[TARGETS]
    color = i64(state[color_at + (shown if updates == ONE and shown >= 0 else i64(state[TARGET]))])
    for i in range(colors):
        observation[i] = f32(not over and i == color)
    for i in range(colors, colors + 2 * places + 1):
        observation[i] = f32(0.0)
    flag = colors + 2 * places
    hidden = updates == POSITIONS and state[MOVES] > 0.0
    if shown >= 0:
        observation[flag] = f32(-1.0) if hidden else f32(1.0)
        for cube in range(cubes):
            at = 0 if updates == ONE else i64(state[color_at + cube])
            if hidden:  # in the order of their cells
                at = 0
                for other in range(cubes):
                    at += state[CELLS + other] < state[CELLS + cube]
            if updates != ONE or cube == shown:
                _place(i64(state[CELLS + cube]), size, observation, colors + 2 * at)
    _place(i64(state[AGENT]), size, observation, flag + 1)


@c_function(RESET)
def reset_cubes(seed, parameters, state, observation):
    """Place the cubes, color them, draw the first target, and place the agent anywhere but on it."""
    key = begin(seed, state)
    size, cubes = i64(parameters[SIZE]), i64(parameters[CUBES])
    color_at = CELLS + cubes
    state[MOVES] = state[MOVED] = state[PHASE] = state[FOUND] = state[SHOWN] = 0.0
    for cube in range(cubes):
        rank = i64(uniform(key, CELL, cube) * f64(size * size - cube))
        state[CELLS + cube] = f64(_free(rank, state, CELLS, cube))
        color = cube
        if parameters[RANDOM] == 1.0:
            rank = i64(uniform(key, COLOR, cube) * (parameters[COLORS] - f64(cube)))
            color = _free(rank, state, color_at, cube)
        state[color_at + cube] = f64(color)
    target = i64(uniform(key, NEXT_TARGET, 0) * f64(cubes))
    state[TARGET] = f64(target)
    agent = i64(uniform(key, START, 0) * f64(size * size - 1))
    state[AGENT] = f64(agent + 1 if agent >= state[CELLS + target] else agent)
    state[LAST_SHOWN] = f64(cubes - 1) if i64(parameters[UPDATES]) == ONE else 0.0
    _look_at_cubes(parameters, state, observation)
    return 0


@inlined
def _move(action, size, state):
    """Step to a neighboring cell; who walks against the border stays."""
    cell = i64(state[AGENT])
    row, column = cell // size, cell % size
    if action == UP:
        row = max(row - 1, 0)
    elif action == DOWN:
        row = min(row + 1, size - 1)
    elif action == LEFT:
        column = max(column - 1, 0)
    else:
        column = min(column + 1, size - 1)
    state[AGENT] = f64(row * size + column)


@inlined
def _teleport(rank, cube, parameters, state):
    """Move a cube to one of the cells that have none, and show that."""
    free = parameters[SIZE] * parameters[SIZE] - parameters[CUBES]
    state[CELLS + cube] = f64(_free(i64(rank * free), state, CELLS, i64(parameters[CUBES])))
    state[SHOWN] = state[LAST_SHOWN] = f64(cube)


@c_function(STEP)
def step_cubes(action, parameters, state, observation, reward):
    """Look at an update, or move: to the target, or until patience is over, and on to the next target."""
    cubes = i64(parameters[CUBES])
    reward[0] = 0.0
    if state[PHASE] >= parameters[TARGETS]:  # over
        return 1
    if state[SHOWN] != NOTHING:
        state[SHOWN] = state[SHOWN] + 1.0 if state[SHOWN] < state[LAST_SHOWN] else NOTHING
        _look_at_cubes(parameters, state, observation)
        return 0
    key = key_of(state)
    _move(i64(action[0]), i64(parameters[SIZE]), state)
    state[MOVES] += 1.0
    state[MOVED] += 1.0
    target, moves = i64(state[TARGET]), i64(state[MOVES])
    found = state[AGENT] == state[CELLS + target]
    if found or state[MOVED] >= parameters[PATIENCE]:
        if found:
            reward[0] = 1.0 / parameters[TARGETS]
            state[FOUND] += 1.0
        state[AGENT] = state[CELLS + target]
        state[PHASE] += 1.0
        state[MOVED] = 0.0
        if state[PHASE] < parameters[TARGETS]:
            phase = i64(state[PHASE])
            _teleport(uniform(key, CELL, cubes + phase), target, parameters, state)
            state[TARGET] = f64(_other(uniform(key, NEXT_TARGET, phase), cubes, target))
    elif cubes > 1 and uniform(key, WHETHER, moves) < parameters[TELEPORT]:
        cube = _other(uniform(key, WHICH, moves), cubes, target)
        _teleport(uniform(key, WHERE, moves), cube, parameters, state)
    _look_at_cubes(parameters, state, observation)
    return 1 if state[PHASE] >= parameters[TARGETS] else 0
