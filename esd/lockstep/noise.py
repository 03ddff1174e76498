"""``esd.kernels.philox`` on tensors: the same bits, so that a device adds what the CPU's update rebuilds (law 2).

uint32 words live in the low halves of int64: torch has no unsigned arithmetic to speak of, and a product of two words
keeps all its 64 bits in two's complement.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from esd.evolution.low_rank import LowRankNoise
from esd.evolution.noise import Noise, Purpose
from esd.kernels.philox import BLOCK, ROUNDS
from esd.lockstep.elementary import cosine, minus_two_log, sine, square_root

_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_MASK = 0xFFFFFFFF
_ANGLE = torch.pi / 4 / 2**29
COORDINATES_AT_ONCE = 2**21  # of all members together: bounds the memory of what is in between


def philox_words(
    first: int, count: int, pairs: Tensor, c2: int, c3: int, seed: int
) -> list[Tensor]:
    """Philox4x32 of the counters (first + k, pair, c2, c3), k < count; four words, int64 [pairs, count] each."""
    k = torch.arange(first, first + count, device=pairs.device) & _MASK
    x0 = k.expand(len(pairs), count)
    x1 = pairs[:, None].expand(len(pairs), count)
    x2, x3 = torch.full_like(x0, c2), torch.full_like(x0, c3)
    k0, k1 = seed & _MASK, seed >> 32
    for _ in range(ROUNDS):
        p0, p1 = x0 * _M0, x2 * _M1
        x0, x1, x2, x3 = (
            ((p1 >> 32) & _MASK) ^ x1 ^ k0,
            p1 & _MASK,
            ((p0 >> 32) & _MASK) ^ x3 ^ k1,
            p0 & _MASK,
        )
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return [x0, x1, x2, x3]


def _box_muller(radius_words: Tensor, angle_words: Tensor) -> list[Tensor]:
    """Two independent standard normals per pair of words."""
    uniform = (radius_words >> 1).to(torch.float32) + 0.5
    bits = uniform.view(torch.int32)
    exponent = (bits - 0x3F3504F3) >> 23
    mantissa = (bits - (exponent << 23)).view(torch.float32)
    r = square_root(minus_two_log(mantissa, (exponent - 31).to(torch.float32)))
    x = (angle_words & 0x1FFFFFFF).to(torch.float32) * _ANGLE
    s, c = sine(x), cosine(x)
    swap = (angle_words & 0x20000000) != 0
    a, b = torch.where(swap, s, c), torch.where(swap, c, s)
    a = torch.where((angle_words & 0x80000000) != 0, -a, a)
    b = torch.where((angle_words & 0x40000000) != 0, -b, b)
    return [r * a, r * b]


def _gaussian(words: list[Tensor]) -> Tensor:
    """[pairs, blocks, 256] each → [pairs, blocks, 4, 256]."""
    return torch.stack([*_box_muller(words[0], words[1]), *_box_muller(words[2], words[3])], 2)


def _binomial(words: list[Tensor]) -> Tensor:
    """(ones among 16 bits − 8)/2; [pairs, blocks, 128] each → [pairs, blocks, 4, 128, 2]."""
    x = torch.stack(words, 2)
    x = x - ((x >> 1) & 0x55555555)
    x = (x & 0x33333333) + ((x >> 2) & 0x33333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F
    x = x + (x >> 8)  # each half's low byte now counts its own 16 bits
    ones = torch.stack([x & 0x1F, (x >> 16) & 0x1F], -1)
    return (ones - 8).to(torch.float32) * 0.5


def _rademacher(words: list[Tensor]) -> Tensor:
    """±1 from one bit each; [pairs, blocks, 8] each → [pairs, blocks, 32, 4, 8]."""
    x = torch.stack(words, 2)[:, :, None]
    bit = torch.arange(32, device=x.device)[:, None, None]
    return (1 - 2 * ((x >> bit) & 1)).to(torch.float32)


# counters in a block of coordinates, and what makes the block of their words
_KINDS = {
    "gaussian": (256, _gaussian),
    "binomial": (128, _binomial),
    "rademacher": (8, _rademacher),
}


def epsilon(noise: Noise, pairs: Tensor, generation: int, size: int) -> Tensor:
    """ε of mirrored pairs (int64 [pairs]), all their coordinates; float32 [pairs, size]."""
    if isinstance(noise, LowRankNoise):
        return _low_rank(noise, pairs, generation, size)
    return _dense(noise.kind, noise.seed, Purpose.PERTURBATION, pairs, generation, 0, size)


def _dense(
    kind: str, seed: int, purpose: Purpose, pairs: Tensor, generation: int, start: int, stop: int
) -> Tensor:
    """The coordinates start ≤ c < stop of a stream; float32 [pairs, stop − start]."""
    counters, make = _KINDS[kind]
    first, blocks = start // BLOCK, -(-stop // BLOCK) - start // BLOCK
    words = philox_words(first * counters, blocks * counters, pairs, generation, int(purpose), seed)
    values = make([word.reshape(len(pairs), blocks, counters) for word in words])
    here = slice(start - first * BLOCK, stop - first * BLOCK)
    return values.reshape(len(pairs), blocks * BLOCK)[:, here]


def _low_rank(noise: LowRankNoise, pairs: Tensor, generation: int, size: int) -> Tensor:
    """See ``esd.kernels.low_rank``: A·s is rounded, then each product, then the sum."""
    out = torch.empty(len(pairs), size, dtype=torch.float32, device=pairs.device)
    for low, high in noise.plan(0, size).dense.tolist():
        out[:, low:high] = _dense(
            "gaussian", noise.seed, Purpose.PERTURBATION, pairs, generation, low, high
        )
    for matrix in noise.matrices:
        shape = (len(pairs), matrix.rows, matrix.columns)
        product = out[:, matrix.start : matrix.stop].view(shape)
        stop = matrix.factors + noise.rank * (matrix.rows + matrix.columns)
        factors = _dense(
            "gaussian", noise.seed, Purpose.LOW_RANK, pairs, generation, matrix.factors, stop
        )
        first = noise.rank * matrix.rows  # of B
        a = factors[:, :first].reshape(len(pairs), noise.rank, matrix.rows, 1) * float(noise.scale)
        b = factors[:, first:].reshape(len(pairs), noise.rank, 1, matrix.columns)
        torch.mul(a[:, 0], b[:, 0], out=product)
        for q in range(1, noise.rank):
            product += a[:, q] * b[:, q]
    return out


def perturbed(
    noise: Noise, h: Tensor, sigma: float | Tensor, members: Sequence[int], generation: int
) -> Tensor:
    """Members' h + Δh, float32 [members, |h|]; the product is rounded before the sum.

    ``sigma`` is one number, or float32 [|h|].
    """
    out = torch.empty(len(members), len(h), dtype=torch.float32, device=h.device)
    at_once = max(1, COORDINATES_AT_ONCE // len(h))
    for start in range(0, len(members), at_once):
        some = torch.tensor(members[start : start + at_once], device=h.device)
        sign = (1 - 2 * (some % 2)).to(torch.float32)
        e = epsilon(noise, some // 2, generation, len(h))
        out[start : start + at_once] = h + (sign[:, None] * sigma) * e
    return out
