"""Philox4x32-7 and the kinds of noise made from it, 1,024 coordinates at a time.

Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox; seven rounds are the fewest
that its authors found to pass BigCrush); Box & Muller 1958.

A *block* is 1,024 coordinates: the words of 256 counters for Gaussian and uniform noise, of 128 for binomial (half a
word per coordinate), of 8 for Rademacher (one bit). Word w of all counters of a block stands together:

- Gaussian: coordinate 256·w + k comes from word w of counter k;
- uniform: likewise;
- binomial: coordinates 2j and 2j + 1 come from the low and the high half of word j, counted through all of them;
- Rademacher: coordinate 32·b + j comes from bit b of word j.

Counter words: 0 = counter within the vector, 1 = mirrored pair, 2 = generation, 3 = the stream's purpose.
"""

from __future__ import annotations

import platform

import numpy as np
from numba.extending import intrinsic

from esd.kernels import inlined, kernel
from esd.kernels.elementary import cosine, minus_two_log, sine
from esd_kernels.cache import processor_features

BLOCK = 1024  # coordinates rebuilt together; divides the 4,096 of the reductions
GAUSSIAN, RADEMACHER, BINOMIAL, UNIFORM = 0, 1, 2, 3
ROUNDS = 7
# One counter alone leaves the processor waiting for its products; the words of two do not fit AVX2's 16 registers.
# Measured: 245 against 264 ns per block with AVX-512, 393 against 340 with AVX2.
AVX2 = platform.machine().lower() in ("x86_64", "amd64") and "+avx512f" not in processor_features()

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
_SIGN = u32(0x80000000)


@inlined
def _round(x0, x1, x2, x3, k0, k1):
    """One Philox round on words in the low halves of uint64; junk in the high halves never reaches a product."""
    p0 = _M0 * (x0 & _MASK)
    p1 = _M1 * (x2 & _MASK)
    return (p1 >> _SHIFT32) ^ x1 ^ u64(k0), p1, (p0 >> _SHIFT32) ^ x3 ^ u64(k1), p0


@kernel
def philox_words(first, c1, c2, c3, key0, key1, words):
    """Fill words[w, k] (uint32 [4, an even count]) with Philox4x32-7 of the counters (first + k, c1, c2, c3)."""
    if AVX2:
        for k in range(words.shape[1]):
            x0, x1, x2, x3 = u64(first) + u64(k), u64(c1), u64(c2), u64(c3)
            k0 = u32(key0)
            k1 = u32(key1)
            for _ in range(ROUNDS):
                x0, x1, x2, x3 = _round(x0, x1, x2, x3, k0, k1)
                k0 = u32(k0 + _W0)
                k1 = u32(k1 + _W1)
            words[0, k] = u32(x0)
            words[1, k] = u32(x1)
            words[2, k] = u32(x2)
            words[3, k] = u32(x3)
        return
    half = words.shape[1] // 2
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


# In the loops below every integer operation is cast back to 32 bits: numba would go on in 64, at half the speed.
# It wants ``view`` on a name that was made by np.float32(…) or np.int32(…).


@kernel
def words_of_many(second, c2, c3, key0, key1, words):
    """Fill words[n, w, k] (uint32 [count, 4, an even count]) for the counters (k, second[n], c2, c3)."""
    for n in range(second.size):
        philox_words(u64(0), second[n], c2, c3, key0, key1, words[n])


@inlined
def _radius(word):
    """The radius of Box and Muller's pair.

    Its uniform is (w₃₁ + ½)/2³¹ rounded to float32, in [2⁻³², 1], so |ε| ≤ 6.66.
    """
    uniform = np.float32(f32(i32(word >> u32(1))) + f32(0.5))
    bits = uniform.view(np.int32)
    # split u = m·2^e with m in [√½, √2): 0x3F3504F3 are the bits of √½
    exponent = i32(i32(bits - i32(0x3F3504F3)) >> i32(23))
    mantissa_bits = np.int32(bits - i32(exponent << i32(23)))
    mantissa = mantissa_bits.view(np.float32)
    return np.sqrt(minus_two_log(mantissa, f32(i32(exponent - i32(31)))))


@inlined
def _radii(words, radii):
    """Write the radii of words 0 and 2 of each counter into radii[0] and radii[1].

    Each is a long chain of operations, so two go side by side; and in a loop of their own, for AVX2's 16 registers.
    """
    for k in range(words.shape[1]):
        first = _radius(words[0, k])
        second = _radius(words[2, k])
        radii[0, k] = first
        radii[1, k] = second


@inlined
def _add_gaussian(radii, angle_words, weight, first, second):
    """Add weight·ε of two independent standard normals per radius and word (Box–Muller) to first and second.

    The word: 29 bits for an angle in [0, π/4], one that swaps sine and cosine, and the two signs.
    """
    for k in range(radii.size):
        r = radii[k]
        word = angle_words[k]
        x = f32(i32(word & u32(0x1FFFFFFF))) * f32(np.pi / 4 / 2**29)
        s = sine(x)
        c = cosine(x)
        swap = (word & u32(0x20000000)) != u32(0)
        a = np.float32(s if swap else c)
        b = np.float32(c if swap else s)
        a_bits = np.int32(a.view(np.int32) ^ i32(word & _SIGN))
        b_bits = np.int32(b.view(np.int32) ^ i32((word << u32(1)) & _SIGN))
        first[k] += weight * (r * a_bits.view(np.float32))
        second[k] += weight * (r * b_bits.view(np.float32))


@intrinsic
def _ones(typingctx, x):
    """Number of one bits, as one instruction where the processor has it."""

    def codegen(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return x(x), codegen


@inlined
def _add_binomial(halves, weight, out):
    """Add weight·(ones among 16 bits − 8)/2: mean 0, variance exactly 1, an integer multiple of ½."""
    for k in range(halves.size):
        count = i32(i32(_ones(halves[k])) - i32(8))
        out[k] += weight * (f32(count) * f32(0.5))


@inlined
def _add_rademacher(words, weight, out):
    """Add ±weight, a one bit for minus: 32 words → 1,024 values."""
    bits = np.int32(np.float32(weight).view(np.int32))
    for bit in range(32):
        shift = u32(31 - bit)
        part = out[bit * 32 : bit * 32 + 32]
        for j in range(32):
            signed = np.int32(bits ^ i32((words[j] << shift) & _SIGN))
            part[j] += signed.view(np.float32)


@inlined
def _add_uniform(words, weight, out):
    """Add weight·u, u uniform in [−1, 1], one word each."""
    for k in range(words.size):
        out[k] += weight * (f32(i32(words[k])) * f32(2.0**-31))


@kernel
def add(kind, start, weights, first_pair, generation, purpose, key0, key1, base, out):
    """out[j] = base[j] + Σ_p weights[p] · ε_{first_pair + p}[start + j], added in pair order.

    Every product is rounded before its sum. A block stays in cache for all pairs. A zero weight is passed over:
    adding ±0 to a sum that is not −0 changes no bit.

    Args:
        kind: of the noise.
        start: the coordinate of base[0] and out[0].
        weights: float32 [pairs].
        first_pair: uint32, the pair of weights[0].
        generation: uint32.
        purpose: uint32.
        key0: uint32.
        key1: uint32.
        base: float32 [n].
        out: float32 [n]; may be base.
    """
    words = np.empty((4, 256), np.uint32)  # of fixed sizes, which makes for faster loops
    radii = np.empty((2, 256), np.float32)
    half_words = np.empty((4, 128), np.uint32)
    halves = half_words.reshape(512).view(np.uint16)
    bit_words = np.empty((4, 8), np.uint32)
    total = np.zeros(BLOCK, np.float32)
    stop = start + out.size
    for block in range(start // BLOCK, (stop + BLOCK - 1) // BLOCK):
        origin = block * BLOCK
        low = max(start, origin)
        high = min(stop, origin + BLOCK)
        here = total[low - origin : high - origin]
        here[:] = base[low - start : high - start]
        for p in range(weights.size):
            weight = weights[p]
            if weight == f32(0.0):
                continue
            pair = u32(first_pair + u32(p))
            if kind == GAUSSIAN:
                philox_words(u64(block * 256), pair, generation, purpose, key0, key1, words)
                _radii(words, radii)
                _add_gaussian(radii[0], words[1], weight, total[0:256], total[256:512])
                _add_gaussian(radii[1], words[3], weight, total[512:768], total[768:1024])
            elif kind == BINOMIAL:
                philox_words(u64(block * 128), pair, generation, purpose, key0, key1, half_words)
                _add_binomial(halves, weight, total)
            elif kind == RADEMACHER:
                philox_words(u64(block * 8), pair, generation, purpose, key0, key1, bit_words)
                _add_rademacher(bit_words.reshape(32), weight, total)
            else:
                philox_words(u64(block * 256), pair, generation, purpose, key0, key1, words)
                _add_uniform(words.reshape(1024), weight, total)
        out[low - start : high - start] = here


@kernel
def perturb_many(kind, sigma, members, generation, purpose, key0, key1, h, out):
    """out[k] = h + the perturbation of members[k], +σ·ε or −σ·ε of its mirrored pair; h alone for a member below 0.

    Args:
        kind: of the noise.
        sigma: float32.
        members: int64 [k].
        generation: uint32.
        purpose: uint32.
        key0: uint32.
        key1: uint32.
        h: float32 [n].
        out: float32 [k, n].
    """
    weight = np.empty(1, np.float32)
    for k in range(members.size):
        member = members[k]
        weight[0] = f32(0.0) if member < 0 else (-sigma if member & 1 else sigma)
        add(kind, 0, weight, u32(member >> 1), generation, purpose, key0, key1, h, out[k])


@kernel
def draw_streams(kind, seeds, purpose, out):
    """Fill out[k] (float32 [k, n]) with the first stream of a purpose under the key seeds[k] (uint64)."""
    one = np.ones(1, np.float32)
    for k in range(seeds.size):
        key0, key1 = u32(seeds[k] & _MASK), u32(seeds[k] >> _SHIFT32)
        out[k] = f32(0.0)
        add(kind, 0, one, u32(0), u32(0), purpose, key0, key1, out[k], out[k])
