"""The first numbers of ``numpy.random.Generator(PCG64(SeedSequence(seed)))``: what Gymnasium's resets draw.

O'Neill 2014, "PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms for Random Number Generation"
(PCG64 is its XSL-RR 128/64), seeded as NumPy does; numbers of 128 bits are pairs of uint64, the high word first.
"""

from __future__ import annotations

import numpy as np

from esd_envs.kernels import inlined, kernel

u32, u64 = np.uint32, np.uint64

_POOL = 4
_MASK = 0xFFFFFFFF
_MULTIPLIER = u64(0x2360ED051FC65DA4), u64(0x4385DF649FCCF645)


@inlined
def _hashed(value, constant, multiplier):
    """A value hashed with a constant, and the next constant; uint32 in uint64."""
    value = (value ^ constant) & u64(_MASK)
    constant = (constant * multiplier) & u64(_MASK)
    value = (value * constant) & u64(_MASK)
    return value ^ (value >> u64(16)), constant


@inlined
def _product(a, b):
    """A·b of uint64 in 128 bits."""
    a_low, a_high = a & u64(_MASK), a >> u64(32)
    b_low, b_high = b & u64(_MASK), b >> u64(32)
    low = a_low * b_low
    first = a_high * b_low + (low >> u64(32))
    second = a_low * b_high + (first & u64(_MASK))
    return a_high * b_high + (first >> u64(32)) + (second >> u64(32)), a * b


@inlined
def _advanced(state, increment):
    """State·multiplier + increment, mod 2¹²⁸."""
    high, low = _product(state[1], _MULTIPLIER[1])
    high = high + state[0] * _MULTIPLIER[1] + state[1] * _MULTIPLIER[0]
    total = low + increment[1]
    carry = u64(1) if total < low else u64(0)
    return high + increment[0] + carry, total


@inlined
def seeded(seed):
    """State and increment of the generator with a seed of at most 32 bits."""
    pool = np.zeros(_POOL, np.uint64)
    constant = u64(0x43B0D7E5)
    for i in range(_POOL):
        pool[i], constant = _hashed(u64(seed) if i == 0 else u64(0), constant, u64(0x931E8875))
    for source in range(_POOL):
        for target in range(_POOL):
            if source != target:
                hashed, constant = _hashed(pool[source], constant, u64(0x931E8875))
                mixed = (u64(0xCA01F9DD) * pool[target] - u64(0x4973F715) * hashed) & u64(_MASK)
                pool[target] = mixed ^ (mixed >> u64(16))
    words = np.zeros(_POOL, np.uint64)
    constant = u64(0x8B51F9DD)
    for i in range(2 * _POOL):
        hashed, constant = _hashed(pool[i % _POOL], constant, u64(0x58F38DED))
        words[i // 2] |= hashed << u64(32 * (i % 2))
    increment = (words[2] << u64(1)) | (words[3] >> u64(63)), (words[3] << u64(1)) | u64(1)
    low = increment[1] + words[1]
    carry = u64(1) if low < words[1] else u64(0)
    return _advanced((increment[0] + words[0] + carry, low), increment), increment


@inlined
def uniform(state, increment, low, width):
    """A number of [low, low + width), and the next state."""
    state = _advanced(state, increment)
    folded, turn = state[0] ^ state[1], state[0] >> u64(58)
    word = (folded >> turn) | (folded << ((u64(64) - turn) & u64(63)))
    return low + width * (np.float64(word >> u64(11)) * 2.0**-53), state


@kernel
def uniforms(seed, low, width, out):
    """Write what ``default_rng(seed).uniform(low, low + width, out.size)`` gives."""
    state, increment = seeded(seed)
    for i in range(out.size):
        out[i], state = uniform(state, increment, low, width)
