"""What worlds of memory show, in plain Python: written from their docstrings, imports nothing from ``esd_envs``.

Whole numbers are Python's own, so nothing can wrap around but where it is meant to.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Float32s = npt.NDArray[np.float32]

MASK = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15
CUE, VALUE, NOISE, CHOICE, LENGTH, SIGN, DISTRACTOR, CARD = range(8)


def splitmix64(state: int) -> int:
    """The output of SplitMix64 in a state (its counter has been advanced already)."""
    z = state & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


class Draws:
    """Everything random in an episode, by what it is for and its number."""

    def __init__(self, seed: int) -> None:
        self._key = splitmix64(seed + GAMMA)

    def word(self, what: int, index: int) -> int:
        return splitmix64(self._key + ((what << 56) + index + 1) * GAMMA)

    def uniform(self, what: int, index: int) -> float:
        return (self.word(what, index) >> 11) / 2**53

    def bell(self, what: int, index: int) -> float:
        word = self.word(what, index)
        total = sum(word >> shift & 0xFFF for shift in range(0, 60, 12))
        return (total - 5 * 4095 / 2) / math.sqrt(5 * (4096**2 - 1) / 12)


def recall(
    seed: int, pairs: int, queries: int, values: int, cue_size: int, noise: float, cues: int
) -> tuple[list[Float32s], list[int]]:
    """All observations of an episode of associative recall (but its last, of zeros), and the right answers."""
    draws = Draws(seed)

    def cue(number: int) -> list[float]:
        drawn = [draws.bell(CUE, number * cue_size + i) for i in range(cue_size)]
        squares = 0.0
        for x in drawn:
            squares += x * x
        return [1.0 / math.sqrt(squares) * x for x in drawn]

    value = [int(draws.uniform(VALUE, pair) * values) for pair in range(pairs)]
    seen = []
    for pair in range(pairs):
        one_hot = [float(value[pair] == i) for i in range(values)]
        seen.append(np.float32([*cue(pair % cues), *one_hot, 0.0]))
    left, answers = list(range(cues)), []
    for question in range(queries):
        chosen = question + int(draws.uniform(CHOICE, question) * (cues - question))
        left[question], left[chosen] = left[chosen], left[question]
        asked = left[question]
        noisy = [
            x + (noise * draws.bell(NOISE, question * cue_size + i) if noise else 0.0)
            for i, x in enumerate(cue(asked))
        ]
        seen.append(np.float32([*noisy, *[0.0] * values, 1.0]))
        answers.append(value[max(pair for pair in range(pairs) if pair % cues == asked)])
    return seen, answers


def maze(seed: int, lengths: tuple[int, int], distractors: int) -> tuple[list[Float32s], int]:
    """All observations of a T-maze that is walked without a stop, and the way (0: left) that its sign tells."""
    draws = Draws(seed)
    low, high = lengths
    length = low + int(draws.uniform(LENGTH, 0) * (high - low + 1))
    sign = draws.word(SIGN, 0) >> 63
    seen: list[Any] = []
    for time in range(length + 3):
        flags = [time == 0 and sign == 0, time == 0 and sign == 1, time == length + 1]
        noise = [
            2 * draws.uniform(DISTRACTOR, time * distractors + i) - 1 for i in range(distractors)
        ]
        seen.append(np.float32([*map(float, flags), *noise]))
    return seen, sign


def deal(seed: int, num_decks: int) -> list[int]:
    """The cards of an episode of repeating in the order in which they are dealt; the suit is a card's number mod 4."""
    draws = Draws(seed)
    cards = list(range(52 * num_decks))
    for dealt in range(len(cards)):
        chosen = dealt + int(draws.uniform(CARD, dealt) * (len(cards) - dealt))
        cards[dealt], cards[chosen] = cards[chosen], cards[dealt]
    return cards
