"""Associative recall, T-maze and repeating cards as C functions: one begins an episode, one makes a step of it.

Whatever an episode shows is named by its seed and a number (``draws``), so nothing that was shown is kept.

The signatures are those that ``esd_envs.compiled`` describes.
"""

from __future__ import annotations

import math

import numpy as np

from esd_envs.kernels import RESET, STEP, c_function, inlined
from esd_envs.kernels.draws import begin, bell, key_of, uniform, word

f32, f64, i64, u64 = np.float32, np.float64, np.int64, np.uint64

# what associative recall is told, and its state; from ORDER on, the cues, those already asked first
PAIRS, CUES, QUERIES, VALUES, CUE_SIZE, CUE_NOISE, RECALL_PARAMETERS = range(7)
RECALL_TIME, RIGHT_VALUE, ORDER = 2, 3, 4

# what the T-maze is told, and its state
SHORTEST, LONGEST, DISTRACTORS, FORCED, MAZE_PARAMETERS = range(5)
SIGN, LENGTH, POSITION, WASTED, MAZE_TIME, MAZE_STATE = range(2, 8)
FORWARD = 2.0

# what repeating is told, and its state; from DECK on, the cards, those already dealt first
CARDS, AGO, REPEAT_PARAMETERS = range(3)
DEALT, DECK = 2, 3
SUITS = 4

# what is drawn; each has 2⁵⁶ numbers
CUE, VALUE, NOISE, CHOICE, THE_LENGTH, THE_SIGN, DISTRACTOR, CARD = range(8)


@inlined
def _value(key, pair, parameters):
    """What a pair's value is."""
    return i64(uniform(key, VALUE, pair) * parameters[VALUES])


@inlined
def _show_cue(key, cue, noise, first_noise, parameters, observation):
    """A random direction, of length 1, and nothing but zeros behind it.

    With ``noise`` above 0 each of its numbers has noise of that deviation, drawn from the number ``first_noise`` on.
    """
    size = i64(parameters[CUE_SIZE])
    squares = 0.0
    for i in range(size):
        x = bell(key, CUE, cue * size + i)
        squares += x * x
    scale = 1.0 / math.sqrt(squares)
    for i in range(size):
        x = scale * bell(key, CUE, cue * size + i)
        if noise > 0.0:
            x += noise * bell(key, NOISE, first_noise + i)
        observation[i] = f32(x)
    for i in range(size, size + i64(parameters[VALUES]) + 1):
        observation[i] = f32(0.0)


@inlined
def _show_pair(key, pair, parameters, observation):
    """A cue, and its value as the one of its numbers that is 1."""
    _show_cue(key, pair % i64(parameters[CUES]), 0.0, 0, parameters, observation)
    observation[i64(parameters[CUE_SIZE]) + _value(key, pair, parameters)] = f32(1.0)


@inlined
def _ask(key, question, parameters, state, observation):
    """Draw one of the cues that have not been asked; the newest of its values is right."""
    pairs, cues, size = i64(parameters[PAIRS]), i64(parameters[CUES]), i64(parameters[CUE_SIZE])
    chosen = question + i64(uniform(key, CHOICE, question) * f64(cues - question))
    cue = i64(state[ORDER + chosen])
    state[ORDER + chosen] = state[ORDER + question]
    state[ORDER + question] = f64(cue)
    newest = pairs - 1 - (pairs - 1 - cue) % cues
    state[RIGHT_VALUE] = f64(_value(key, newest, parameters))
    _show_cue(key, cue, parameters[CUE_NOISE], question * size, parameters, observation)
    observation[size + i64(parameters[VALUES])] = f32(1.0)


@c_function(RESET)
def reset_recall(seed, parameters, state, observation):
    """Show the first pair."""
    key = begin(seed, state)
    state[RECALL_TIME] = 0.0
    state[RIGHT_VALUE] = -1.0
    for cue in range(i64(parameters[CUES])):
        state[ORDER + cue] = f64(cue)
    _show_pair(key, 0, parameters, observation)
    return 0


@c_function(STEP)
def step_recall(action, parameters, state, observation, reward):
    """Show the next pair, or pay for the answer and ask the next question."""
    time, pairs, queries = i64(state[RECALL_TIME]), i64(parameters[PAIRS]), i64(parameters[QUERIES])
    reward[0] = 0.0
    if time >= pairs + queries:  # over: what is asked now would be written behind the state
        return 1
    if time >= pairs and f64(action[0]) == state[RIGHT_VALUE]:
        reward[0] = 1.0 / parameters[QUERIES]
    time += 1
    state[RECALL_TIME] = f64(time)
    if time < pairs:
        _show_pair(key_of(state), time, parameters, observation)
    elif time < pairs + queries:
        _ask(key_of(state), time - pairs, parameters, state, observation)
    else:
        for i in range(i64(parameters[CUE_SIZE]) + i64(parameters[VALUES]) + 1):
            observation[i] = f32(0.0)
        return 1
    return 0


@inlined
def look_into_corridor(key, parameters, state, observation):
    """The sign where the corridor begins, the junction where it ends, and distractors anywhere."""
    at_start = state[POSITION] == 0.0
    observation[0] = f32(at_start and state[SIGN] == 0.0)
    observation[1] = f32(at_start and state[SIGN] == 1.0)
    observation[2] = f32(state[POSITION] == state[LENGTH] + 1.0)
    count = i64(parameters[DISTRACTORS])
    for i in range(count):
        index = i64(state[MAZE_TIME]) * count + i
        observation[3 + i] = f32(2.0 * uniform(key, DISTRACTOR, index) - 1.0)


@c_function(RESET)
def reset_maze(seed, parameters, state, observation):
    """Draw the corridor's length and the sign."""
    key = begin(seed, state)
    lengths = parameters[LONGEST] - parameters[SHORTEST] + 1.0
    drawn = f64(i64(uniform(key, THE_LENGTH, 0) * lengths))
    state[LENGTH] = parameters[SHORTEST] + drawn
    state[SIGN] = f64(word(key, THE_SIGN, 0) >> u64(63))
    state[POSITION] = state[WASTED] = state[MAZE_TIME] = 0.0
    look_into_corridor(key, parameters, state, observation)
    return 0


@c_function(STEP)
def step_maze(action, parameters, state, observation, reward):
    """Walk on, or turn at the junction, which ends the episode; so does to waste as many steps as the way takes."""
    way = state[LENGTH] + 1.0
    over = 1
    reward[0] = 0.0
    if state[POSITION] > way or state[WASTED] >= way:  # over
        return 1
    state[MAZE_TIME] += 1.0
    if state[POSITION] == way:
        reward[0] = 1.0 if f64(action[0]) == state[SIGN] else 0.0
        state[POSITION] += 1.0
    elif parameters[FORCED] == 1.0 or f64(action[0]) == FORWARD:
        state[POSITION] += 1.0
        over = 0
    else:
        reward[0] = -1.0 / way
        state[WASTED] += 1.0
        over = 1 if state[WASTED] >= way else 0
    look_into_corridor(key_of(state), parameters, state, observation)
    return over


@inlined
def _deal(key, parameters, state, observation):
    """Deal one of the cards that are left, and show its suit."""
    dealt = i64(state[DEALT])
    left = i64(parameters[CARDS]) - dealt
    chosen = DECK + dealt + i64(uniform(key, CARD, dealt) * f64(left))
    card = state[chosen]
    state[chosen] = state[DECK + dealt]
    state[DECK + dealt] = card
    state[DEALT] += 1.0
    for suit in range(SUITS):
        observation[suit] = f32(i64(card) % SUITS == suit)


@c_function(RESET)
def reset_repeat(seed, parameters, state, observation):
    """Deal the first card of a full deck."""
    key = begin(seed, state)
    state[DEALT] = 0.0
    for card in range(i64(parameters[CARDS])):
        state[DECK + card] = f64(card)
    _deal(key, parameters, state, observation)
    return 0


@c_function(STEP)
def step_repeat(action, parameters, state, observation, reward):
    """Pay or charge for the suit of an earlier card, and deal the next one; the last one ends the episode."""
    cards, ago, dealt = parameters[CARDS], parameters[AGO], state[DEALT]
    reward[0] = 0.0
    if dealt >= cards:  # over
        return 1
    if dealt >= ago:
        asked = i64(state[DECK + i64(dealt - ago)]) % SUITS
        right = f64(action[0]) == f64(asked)
        reward[0] = (1.0 if right else -1.0) / (cards - ago)
    _deal(key_of(state), parameters, state, observation)
    return 1 if state[DEALT] >= cards else 0
