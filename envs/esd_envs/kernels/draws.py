"""What is random in an episode of a world of memory, by what it is for and its number.

A counter-based generator, SplitMix64 (Steele, Lea & Flood 2014) from a scrambled seed, gives any of it again, so that
no world has to keep what it has shown. There is no logarithm and no cosine in it, so every machine shows the same bits.
"""

from __future__ import annotations

import math

import numpy as np

from esd_envs.kernels import inlined

f64, u64 = np.float64, np.uint64

# of a state: the seed, scrambled, in two halves: a float64 holds 53 bits
KEY_LOW, KEY_HIGH = range(2)

# a bell-shaped number is the sum of five 12-bit ones: its mean is no whole number (so it never is 0), its deviation
BELL_MEAN, BELL_DEVIATION = 5 * 4095 / 2, math.sqrt(5 * (4096**2 - 1) / 12)


@inlined
def scrambled(z):
    """The end of SplitMix64."""
    z = (z ^ (z >> u64(30))) * u64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> u64(27))) * u64(0x94D049BB133111EB)
    return z ^ (z >> u64(31))


@inlined
def word(key, what, index):
    """A random uint64, named by what it is for and its number."""
    counter = (u64(what) << u64(56)) + u64(index) + u64(1)
    return scrambled(key + counter * u64(0x9E3779B97F4A7C15))


@inlined
def uniform(key, what, index):
    """A random float64 in [0, 1)."""
    return f64(word(key, what, index) >> u64(11)) * 2.0**-53


@inlined
def bell(key, what, index):
    """A random float64 of mean 0 and variance 1, nearly normal, in ±3.9; never 0."""
    bits = word(key, what, index)
    total = u64(0)
    for _ in range(5):
        total += bits & u64(0xFFF)
        bits >>= u64(12)
    return (f64(total) - BELL_MEAN) / BELL_DEVIATION


@inlined
def begin(seed, state):
    """Keep an episode's seed; what everything is drawn by."""
    key = scrambled(u64(seed) + u64(0x9E3779B97F4A7C15))
    state[KEY_LOW] = f64(key & u64(0xFFFFFFFF))
    state[KEY_HIGH] = f64(key >> u64(32))
    return key


@inlined
def key_of(state):
    """What ``begin`` has kept."""
    return u64(state[KEY_LOW]) | u64(state[KEY_HIGH]) << u64(32)
