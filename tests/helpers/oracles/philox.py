"""Philox4x32-7 and the noise made from it, in plain numpy.

Written from the docstring of ``esd/kernels/philox.py`` and from Salmon et al. 2011; imports nothing from ``esd``.
Whole vectors at a time and no blocks of scratch memory, but every float32 operation in the same order, so that the
kernels have to agree with it bit for bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Uint32s = npt.NDArray[np.uint32]

BLOCK = 1024
PERTURBATION = 0  # the counter's fourth word for Δh

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def philox4x32(counter: npt.ArrayLike, key: tuple[int, int], rounds: int = 7) -> Uint32s:
    """Encrypt counters, uint32 [4, n], with one key; each round crosses two 32×32→64-bit products."""
    x = np.asarray(counter, np.uint64)
    k = np.array(key, np.uint64)
    for _ in range(rounds):
        product0 = np.uint64(0xD2511F53) * x[0]
        product1 = np.uint64(0xCD9E8D57) * x[2]
        x = np.stack(
            [
                (product1 >> _32) ^ x[1] ^ k[0],
                product1 & _LOW,
                (product0 >> _32) ^ x[3] ^ k[1],
                product0 & _LOW,
            ]
        )
        k = (k + np.array([0x9E3779B9, 0xBB67AE85], np.uint64)) & _LOW
    return x.astype(np.uint32)


def stream(seed: int, purpose: int, pair: int, generation: int, first: int, count: int) -> Uint32s:
    """Words [4, count] of the counters (first + k, pair, generation, purpose); the seed's low word is key 0."""
    counter = np.empty((4, count), np.uint64)
    counter[0] = (np.arange(count, dtype=np.uint64) + np.uint64(first)) & _LOW
    counter[1:] = np.array([[pair], [generation], [purpose]], np.uint64)
    return philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))


def _polynomial(x: Float32s, *coefficients: float) -> Float32s:
    """c₀ + x(c₁ + x(c₂ + …)), by Horner's scheme."""
    value = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = np.float32(coefficient) + x * value
    return value


def _minus_two_log(m: Float32s, exponent: Float32s) -> Float32s:
    """−2 ln(m·2^e), by a polynomial in m − 1."""
    f = m - np.float32(1)
    p = f * _polynomial(
        f,
        -1.9999999,
        1.0000072,
        -0.6667015,
        0.49940366,
        -0.39800245,
        0.3449638,
        -0.32442936,
        0.20224588,
    )
    return exponent * np.float32(-2 * np.log(2.0)) + p


def _sine(x: Float32s) -> Float32s:
    z = x * x
    return x + (x * z) * _polynomial(z, -0.16666655, 0.008332192, -0.00019518791)


def _cosine(x: Float32s) -> Float32s:
    return _polynomial(x * x, 1.0, -0.49999896, 0.041656334, -0.0013598228)


def box_muller(radius_words: Uint32s, angle_words: Uint32s) -> tuple[Float32s, Float32s]:
    """r·cos φ and r·sin φ: r from the upper 31 bits of one word, φ from the other.

    Bits of the other: the sign of the first, the sign of the second, which of them is the sine, and 29 for the angle
    between 0 and π/4.
    """
    uniform = (radius_words >> np.uint32(1)).astype(np.float32) + np.float32(0.5)  # of 2³¹
    bits = uniform.view(np.int32).astype(np.int64)
    exponent = (bits - 0x3F3504F3) >> 23  # so that the mantissa lies in [√½, √2)
    mantissa = (bits - (exponent << 23)).astype(np.int32).view(np.float32)
    r = np.sqrt(_minus_two_log(mantissa, (exponent - 31).astype(np.float32)))

    minus_first, minus_second, swapped = (
        angle_words >> np.uint32(b) & 1 == 1 for b in (31, 30, 29)
    )
    angle = (angle_words % np.uint32(2**29)).astype(np.float32) * np.float32(np.pi / 2**31)
    s, c = _sine(angle), _cosine(angle)
    first, second = np.where(swapped, s, c), np.where(swapped, c, s)
    return r * np.where(minus_first, -first, first), r * np.where(minus_second, -second, second)


def gaussian(words: Uint32s) -> Float32s:
    """Coordinate 256·w + k from word w of counter k; words 0 and 1 make a pair, and 2 and 3."""
    return np.concatenate([*box_muller(words[0], words[1]), *box_muller(words[2], words[3])])


def binomial(words: Uint32s) -> Float32s:
    """(ones − 8)/2 of every 16 bits: of each word the low half, then the high half."""
    flat = words.reshape(-1)
    halves = np.stack([flat & np.uint32(0xFFFF), flat >> np.uint32(16)], axis=1).reshape(-1)
    return (np.bitwise_count(halves).astype(np.float32) - np.float32(8)) / np.float32(2)


def rademacher(words: Uint32s) -> Float32s:
    """+1 for a zero bit, −1 for a one: bit 0 of all words first, bit 31 last."""
    bits = (words.reshape(1, -1) >> np.arange(32, dtype=np.uint32)[:, None]) & np.uint32(1)
    return np.where(bits == 0, np.float32(1), np.float32(-1)).reshape(-1)


def uniform(words: Uint32s) -> Float32s:
    """A word as a signed fraction."""
    return words.reshape(-1).view(np.int32).astype(np.float32) / np.float32(2**31)


# per kind: counters in a block of 1,024 coordinates, and what makes the block from their words
KINDS = {
    "gaussian": (256, gaussian),
    "binomial": (128, binomial),
    "rademacher": (8, rademacher),
    "uniform": (256, uniform),
}


def epsilon(
    kind: str,
    seed: int,
    pair: int,
    generation: int,
    start: int,
    stop: int,
    purpose: int = PERTURBATION,
) -> Float32s:
    """ε of one vector, coordinates start ≤ c < stop."""
    counters, make = KINDS[kind]
    first, last = start // BLOCK, -(-stop // BLOCK)
    blocks = [
        make(stream(seed, purpose, pair, generation, block * counters, counters))
        for block in range(first, last)
    ]
    whole = np.concatenate([np.empty(0, np.float32), *blocks])
    return whole[start - first * BLOCK : stop - first * BLOCK]


def perturb(
    kind: str, seed: int, h: Float32s, sigma: float, member: int, generation: int, start: int = 0
) -> Float32s:
    """Add ± σ ε to h; the even member of a pair has the +."""
    e = epsilon(kind, seed, member // 2, generation, start, start + h.size)
    return h + np.float32(sigma if member % 2 == 0 else -sigma) * e


def accumulate(
    kind: str, seed: int, weights: Float32s, generation: int, start: int, stop: int
) -> Float32s:
    """Σ_p w_p ε_p in float32, first pair first."""
    total = np.zeros(stop - start, np.float32)
    for pair, weight in enumerate(weights):
        total = total + weight * epsilon(kind, seed, pair, generation, start, stop)
    return total


def accumulate64(
    kind: str, seed: int, weights: Float64s, generation: int, start: int, stop: int
) -> Float64s:
    """Σ_p w_p ε_p in float64."""
    total = np.zeros(stop - start)
    for pair, weight in enumerate(weights):
        total += weight * epsilon(kind, seed, pair, generation, start, stop).astype(np.float64)
    return total
