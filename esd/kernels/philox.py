"""Philox4x32-10 and the kinds of noise made from it, 1,024 coordinates at a time.

Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox); Box & Muller 1958.

A *block* is 1,024 coordinates and is laid out as structure of arrays: counter k of a block yields four words, and
word w of all counters stands together. For Gaussian noise a block is 256 counters, and coordinate 256·w + k of the
block comes from word w of counter k. Binomial noise needs half a word per coordinate and Rademacher one bit, so
their blocks are 128 and 8 counters, with the same word-major order repeated for each half or bit.

Counter words: 0 = counter within the vector, 1 = mirrored pair, 2 = generation, 3 = the stream's purpose.
"""

from __future__ import annotations

import numpy as np

from esd.kernels import inlined, kernel
from esd.kernels.elementary import cosine, minus_two_log, sine

BLOCK = 1024  # coordinates rebuilt together; divides the 4,096 of the reductions
GAUSSIAN, RADEMACHER, BINOMIAL, UNIFORM = 0, 1, 2, 3

f32 = np.float32
i32 = np.int32
u32 = np.uint32
u64 = np.uint64

_M0 = u64(0xD2511F53)
_M1 = u64(0xCD9E8D57)
_W0 = u32(0x9E3779B9)
_W1 = u32(0xBB67AE85)
_MASK = u64(0xFFFFFFFF)
_SHIFT32 = u64(32)
ROUNDS = 10


@inlined
def _round(x0, x1, x2, x3, k0, k1):
    """One Philox round on words in the low halves of uint64; junk in the high halves never reaches a product."""
    p0 = _M0 * (x0 & _MASK)
    p1 = _M1 * (x2 & _MASK)
    return (p1 >> _SHIFT32) ^ x1 ^ u64(k0), p1, (p0 >> _SHIFT32) ^ x3 ^ u64(k1), p0


@kernel
def philox_words(first, count, c1, c2, c3, key0, key1, words):
    """Fill words[w, k], k < count (uint32), with Philox4x32-10 of the counters (first + k, c1, c2, c3); count is even.

    Two counters go through the rounds together: one alone leaves the processor waiting for its products.
    """
    half = count // 2
    for k in range(half):
        x0, x1, x2, x3 = u64(first) + u64(k), u64(c1), u64(c2), u64(c3)
        y0, y1, y2, y3 = u64(first) + u64(k + half), u64(c1), u64(c2), u64(c3)
        k0 = u32(key0)
        k1 = u32(key1)
        for _ in range(ROUNDS):
            x0, x1, x2, x3 = _round(x0, x1, x2, x3, k0, k1)
            y0, y1, y2, y3 = _round(y0, y1, y2, y3, k0, k1)
            k0 = u32(k0 + _W0)
            k1 = u32(k1 + _W1)
        words[0, k] = u32(x0)
        words[1, k] = u32(x1)
        words[2, k] = u32(x2)
        words[3, k] = u32(x3)
        words[0, k + half] = u32(y0)
        words[1, k + half] = u32(y1)
        words[2, k + half] = u32(y2)
        words[3, k + half] = u32(y3)


@inlined
def _box_muller(radius_words, angle_words, first, second):
    """Two independent standard normals per pair of words.

    The radius' uniform is (w₃₁ + ½)/2³¹ rounded to float32, in [2⁻³², 1], so |ε| ≤ 6.66. The angle's word is a
    signed fraction of a turn: its nearest quarter turn is split off exactly and the rest, in [−π/4, π/4], goes
    through the polynomials. (numba wants ``view`` on a name that was made by np.float32(…) or np.int32(…).)
    """
    for k in range(radius_words.size):
        uniform = np.float32(f32(i32(radius_words[k] >> u32(1))) + f32(0.5))
        bits = uniform.view(np.int32)
        # split u = m·2^e with m in [√½, √2): 0x3F3504F3 are the bits of √½
        exponent = i32((bits - i32(0x3F3504F3)) >> i32(23))
        mantissa_bits = np.int32(bits - (exponent << i32(23)))
        r = np.sqrt(minus_two_log(mantissa_bits.view(np.float32), f32(exponent - i32(31))))
        angle = i32(angle_words[k])
        quarter = i32(i32(angle + i32(0x20000000)) >> i32(30))
        x = f32(i32(angle - (quarter << i32(30)))) * f32(np.pi / 2 / 2**30)
        s = sine(x)
        c = cosine(x)
        swap = (quarter & i32(1)) != i32(0)
        a = np.float32(s if swap else c)
        b = np.float32(c if swap else s)
        # cos(x + q·π/2) = c, −s, −c, s and sin(x + q·π/2) = s, c, −s, −c for q = 0, 1, 2, 3 (mod 4)
        a_bits = np.int32(a.view(np.int32) ^ i32(((quarter + i32(1)) & i32(2)) << i32(30)))
        b_bits = np.int32(b.view(np.int32) ^ i32((quarter & i32(2)) << i32(30)))
        first[k] = r * a_bits.view(np.float32)
        second[k] = r * b_bits.view(np.float32)


@inlined
def _binomial(words, out):
    """(ones among 16 bits − 8)/2: mean 0, variance exactly 1, an integer multiple of ½; 512 words → 1,024 values."""
    low = u32(0x0000FFFF)
    for w in range(4):
        for k in range(128):
            x = words[w, k]
            x = x - ((x >> u32(1)) & u32(0x55555555))
            x = (x & u32(0x33333333)) + ((x >> u32(2)) & u32(0x33333333))
            x = (x + (x >> u32(4))) & u32(0x0F0F0F0F)
            x = x + (x >> u32(8))  # each half's low byte now counts its own 16 bits
            out[w * 128 + k] = f32(i32((x & low) & u32(0x1F)) - i32(8)) * f32(0.5)
            out[512 + w * 128 + k] = f32(i32((x >> u32(16)) & u32(0x1F)) - i32(8)) * f32(0.5)


@inlined
def _rademacher(words, out):
    """±1 from one bit each: 32 words → 1,024 values."""
    for bit in range(32):
        for w in range(4):
            for k in range(8):
                sign = i32((words[w, k] >> u32(bit)) & u32(1))
                out[bit * 32 + w * 8 + k] = f32(i32(1) - i32(2) * sign)


@inlined
def _uniform(words, out):
    """Uniform in [−1, 1], one word each: 1,024 words → 1,024 values."""
    for w in range(4):
        for k in range(256):
            out[w * 256 + k] = f32(i32(words[w, k])) * f32(2.0**-31)


@inlined
def _block(kind, block, pair, generation, purpose, key0, key1, words, out):
    """ε of one block of one vector, out[1024]."""
    if kind == GAUSSIAN:
        philox_words(u64(block) * u64(256), 256, pair, generation, purpose, key0, key1, words)
        _box_muller(words[0], words[1], out[0:256], out[256:512])
        _box_muller(words[2], words[3], out[512:768], out[768:1024])
    elif kind == BINOMIAL:
        philox_words(u64(block) * u64(128), 128, pair, generation, purpose, key0, key1, words)
        _binomial(words, out)
    elif kind == UNIFORM:
        philox_words(u64(block) * u64(256), 256, pair, generation, purpose, key0, key1, words)
        _uniform(words, out)
    else:
        philox_words(u64(block) * u64(8), 8, pair, generation, purpose, key0, key1, words)
        _rademacher(words, out)


@kernel
def fill(kind, start, pair, generation, purpose, key0, key1, out):
    """out[j] = ε[start + j]."""
    words = np.empty((4, 256), np.uint32)
    epsilon = np.empty(BLOCK, np.float32)
    stop = start + out.size
    for block in range(start // BLOCK, (stop + BLOCK - 1) // BLOCK):
        _block(
            kind,
            block,
            pair,
            generation,
            purpose,
            key0,
            key1,
            words,
            epsilon,
        )
        origin = block * BLOCK
        for c in range(max(start, origin), min(stop, origin + BLOCK)):
            out[c - start] = epsilon[c - origin]


@kernel
def perturb(kind, scale, start, pair, generation, purpose, key0, key1, h, out):
    """out[j] = h[j] + scale · ε[start + j], the product rounded before the sum."""
    words = np.empty((4, 256), np.uint32)
    epsilon = np.empty(BLOCK, np.float32)
    stop = start + out.size
    for block in range(start // BLOCK, (stop + BLOCK - 1) // BLOCK):
        _block(
            kind,
            block,
            pair,
            generation,
            purpose,
            key0,
            key1,
            words,
            epsilon,
        )
        origin = block * BLOCK
        for c in range(max(start, origin), min(stop, origin + BLOCK)):
            out[c - start] = h[c - start] + scale * epsilon[c - origin]


@kernel
def accumulate(kind, start, weights, generation, purpose, key0, key1, out):
    """out[j] = Σ_pair weights[pair] · ε_pair[start + j], summed in pair order; a block stays in cache for all pairs.

    A zero weight is passed over: adding ±0 to a sum that starts at +0 changes no bit.
    """
    words = np.empty((4, 256), np.uint32)
    epsilon = np.empty(BLOCK, np.float32)
    total = np.empty(BLOCK, np.float32)
    stop = start + out.size
    for block in range(start // BLOCK, (stop + BLOCK - 1) // BLOCK):
        for j in range(BLOCK):
            total[j] = f32(0.0)
        for pair in range(weights.size):
            weight = weights[pair]
            if weight != f32(0.0):
                _block(
                    kind,
                    block,
                    pair,
                    generation,
                    purpose,
                    key0,
                    key1,
                    words,
                    epsilon,
                )
                for j in range(BLOCK):
                    total[j] += weight * epsilon[j]
        origin = block * BLOCK
        for c in range(max(start, origin), min(stop, origin + BLOCK)):
            out[c - start] = total[c - origin]
