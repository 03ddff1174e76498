"""The convolutions in front of the CarRacing network, compiled for one image at a time.

Najarro & Risi 2020 (arXiv 2007.02686): RGB 84×84 in [0, 1] → convolution 3→6, 3×3 → tanh → max-pool 2 → convolution
6→8, 5×5, stride 2 → tanh → max-pool 2 → 648 features, without biases. Here tanh comes behind the pooling, which changes
nothing (it doesn't fall, but for its rounding) and saves three of four.

Sixteen neighbors in a row of a picture are one vector, and all output channels are summed while an input is in its
register, input channel by input channel, row by row: strict, in one order on every processor.
"""

from __future__ import annotations

import numpy as np

from esd.kernels import inlined, kernel
from esd.kernels.elementary import tanh
from esd.kernels.lanes import LANES, load, splat, store

SIDE = 84  # of the picture that the network sees
CHANNELS, MAPS1, MAPS2 = 3, 6, 8
KERNEL1, KERNEL2 = 3, 5
POOLED1, POOLED2 = 41, 9  # sides of the maps behind each pooling
FEATURES = MAPS2 * POOLED2 * POOLED2
TAPS1, TAPS2 = CHANNELS * KERNEL1 * KERNEL1, MAPS1 * KERNEL2 * KERNEL2

# Rows are padded, so that vectors may reach beyond their ends: what they find there goes into sums that nobody reads.
_WIDE = 112  # of the picture: six vectors of outputs, and two further inputs
_OUT1, _OUT2 = 96, 32  # of a row of sums
_HALF = 48  # of the even or the odd columns of a pooled map
PLANES = CHANNELS * SIDE * _WIDE
POOLED = MAPS1 * 2 * POOLED1 * _HALF
ROWS = MAPS1 * 2 * _OUT1

f32 = np.float32


@inlined
def _shrink(image, size, first, share, taps, line, planes):
    """Write the picture's three planes: means over areas of 84×84 equal parts, which may cut pixels, over 255."""
    width = size * CHANNELS
    for y in range(SIDE):
        for j in range(width):
            line[j] = f32(0.0)
        for k in range(taps):
            weight = share[y, k] * f32(1.0 / 255.0)
            row = image[(first[y] + k) * width : (first[y] + k) * width + width]
            for j in range(width):
                line[j] += weight * row[j]
        for x in range(SIDE):
            at = first[x] * CHANNELS
            red = f32(0.0)
            green = f32(0.0)
            blue = f32(0.0)
            for k in range(taps):
                weight = share[x, k]
                red += weight * line[at]
                green += weight * line[at + 1]
                blue += weight * line[at + 2]
                at += CHANNELS
            planes[y * _WIDE + x] = red
            planes[(SIDE + y) * _WIDE + x] = green
            planes[(2 * SIDE + y) * _WIDE + x] = blue


@inlined
def _first(planes, weights, y, rows):
    """One row of the first convolution's six maps, to rows[map, y & 1, 96]."""
    at = (y & 1) * _OUT1
    for column in range(0, _OUT1, LANES):
        s0 = splat(f32(0.0))
        s1 = splat(f32(0.0))
        s2 = splat(f32(0.0))
        s3 = splat(f32(0.0))
        s4 = splat(f32(0.0))
        s5 = splat(f32(0.0))
        w = 0
        for channel in range(CHANNELS):
            for ky in range(KERNEL1):
                start = (channel * SIDE + y + ky) * _WIDE + column
                for kx in range(KERNEL1):
                    x = load(planes, start + kx)
                    s0 = s0 + x * splat(weights[w])
                    s1 = s1 + x * splat(weights[w + 1])
                    s2 = s2 + x * splat(weights[w + 2])
                    s3 = s3 + x * splat(weights[w + 3])
                    s4 = s4 + x * splat(weights[w + 4])
                    s5 = s5 + x * splat(weights[w + 5])
                    w += MAPS1
        store(rows, at + column, s0)
        store(rows, at + 2 * _OUT1 + column, s1)
        store(rows, at + 4 * _OUT1 + column, s2)
        store(rows, at + 6 * _OUT1 + column, s3)
        store(rows, at + 8 * _OUT1 + column, s4)
        store(rows, at + 10 * _OUT1 + column, s5)


@inlined
def _second(pooled, weights, y, rows):
    """One row of the second convolution's eight maps, to rows[map, y & 1, 32]."""
    at = (y & 1) * _OUT2
    for column in range(0, _OUT2, LANES):
        s0 = splat(f32(0.0))
        s1 = splat(f32(0.0))
        s2 = splat(f32(0.0))
        s3 = splat(f32(0.0))
        s4 = splat(f32(0.0))
        s5 = splat(f32(0.0))
        s6 = splat(f32(0.0))
        s7 = splat(f32(0.0))
        w = 0
        for channel in range(MAPS1):
            for ky in range(KERNEL2):
                row = (channel * 2 * POOLED1 + 2 * y + ky) * _HALF + column
                for kx in range(KERNEL2):
                    # every second column: the even and the odd ones lie apart
                    x = load(pooled, row + (kx & 1) * POOLED1 * _HALF + (kx >> 1))
                    s0 = s0 + x * splat(weights[w])
                    s1 = s1 + x * splat(weights[w + 1])
                    s2 = s2 + x * splat(weights[w + 2])
                    s3 = s3 + x * splat(weights[w + 3])
                    s4 = s4 + x * splat(weights[w + 4])
                    s5 = s5 + x * splat(weights[w + 5])
                    s6 = s6 + x * splat(weights[w + 6])
                    s7 = s7 + x * splat(weights[w + 7])
                    w += MAPS2
        store(rows, at + column, s0)
        store(rows, at + 2 * _OUT2 + column, s1)
        store(rows, at + 4 * _OUT2 + column, s2)
        store(rows, at + 6 * _OUT2 + column, s3)
        store(rows, at + 8 * _OUT2 + column, s4)
        store(rows, at + 10 * _OUT2 + column, s5)
        store(rows, at + 12 * _OUT2 + column, s6)
        store(rows, at + 14 * _OUT2 + column, s7)


@inlined
def _larger(a, b):
    """The larger of two, or a NaN if the first is one."""
    return b if b > a else a


@kernel
def features(image, size, first, share, weights1, weights2, scratch, out):
    """Compute the features of a picture.

    Args:
        image: float32 [size·size·3], rows of RGB pixels in [0, 255].
        size: of its sides, at least 84.
        first: int64 [84], the first pixel that each of 84 equal parts of a side touches.
        share: float32 [84, taps], how much of the part each pixel from there on makes up.
        weights1: float32 [27 · 6], for each input channel, row and column of the kernel the six maps.
        weights2: float32 [150 · 8], likewise.
        scratch: float32 [PLANES + POOLED + ROWS + 3·size]; zero at first; changed.
        out: float32 [648]: map by map, row by row.
    """
    planes = scratch[0:PLANES]
    pooled = scratch[PLANES : PLANES + POOLED]
    rows = scratch[PLANES + POOLED : PLANES + POOLED + ROWS]
    line = scratch[PLANES + POOLED + ROWS :]
    _shrink(image, size, first, share, share.shape[1], line, planes)
    for y in range(2 * POOLED1):
        _first(planes, weights1, y, rows)
        if y & 1:
            for channel in range(MAPS1):
                upper = rows[channel * 2 * _OUT1 : channel * 2 * _OUT1 + _OUT1]
                lower = rows[(channel * 2 + 1) * _OUT1 : (channel * 2 + 1) * _OUT1 + _OUT1]
                for x in range(_OUT1):
                    upper[x] = _larger(upper[x], lower[x])
                even = (channel * 2 * POOLED1 + (y >> 1)) * _HALF
                odd = even + POOLED1 * _HALF
                for x in range(0, POOLED1, 2):
                    pooled[even + (x >> 1)] = tanh(_larger(upper[2 * x], upper[2 * x + 1]))
                for x in range(1, POOLED1, 2):
                    pooled[odd + (x >> 1)] = tanh(_larger(upper[2 * x], upper[2 * x + 1]))
    for y in range(2 * POOLED2):
        _second(pooled, weights2, y, rows)
        if y & 1:
            for channel in range(MAPS2):
                upper = rows[channel * 2 * _OUT2 : channel * 2 * _OUT2 + _OUT2]
                lower = rows[(channel * 2 + 1) * _OUT2 : (channel * 2 + 1) * _OUT2 + _OUT2]
                for x in range(_OUT2):
                    upper[x] = _larger(upper[x], lower[x])
                start = (channel * POOLED2 + (y >> 1)) * POOLED2
                for x in range(POOLED2):
                    out[start + x] = tanh(_larger(upper[2 * x], upper[2 * x + 1]))
