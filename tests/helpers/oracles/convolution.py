"""The convolutional front in plain numpy and float64; imports nothing from ``esd``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def shrinking(size: int, parts: int) -> Array:
    """The matrix [parts, size] of means over equal parts of a side, by counting on a grid that both divide."""
    fine = np.repeat(
        np.arange(size), parts
    )  # size·parts cells, parts of them in a pixel, size in a part
    return np.stack(
        [
            np.bincount(fine[part * size : (part + 1) * size], minlength=size) / size
            for part in range(parts)
        ]
    )


def convolve(picture: Array, kernels: Array, stride: int) -> Array:
    """Maps [maps, rows, columns] of a picture [channels, rows, columns]: no padding, not flipped, as in torch."""
    side = kernels.shape[-1]
    out = [(n - side) // stride + 1 for n in picture.shape[1:]]
    maps = np.zeros((len(kernels), *out))
    for y in range(out[0]):
        for x in range(out[1]):
            seen = picture[:, y * stride : y * stride + side, x * stride : x * stride + side]
            maps[:, y, x] = (kernels * seen).sum(axis=(1, 2, 3))
    return maps


def pool(maps: Array) -> Array:
    """The largest of every 2×2; what is left over at the ends is dropped."""
    maps = maps[:, : maps.shape[1] // 2 * 2, : maps.shape[2] // 2 * 2]
    channels, rows, columns = maps.shape
    return maps.reshape(channels, rows // 2, 2, columns // 2, 2).max(axis=(2, 4))


def features(picture: Array, conv1: Array, conv2: Array) -> Array:
    """The 648 features of RGB pixels [size, size, 3] from 0 to 255."""
    shrink = shrinking(len(picture), 84)
    small = np.einsum("yi,ijc,xj->cyx", shrink, picture / 255.0, shrink)
    first = pool(np.tanh(convolve(small, conv1, 1)))
    return pool(np.tanh(convolve(first, conv2, 2))).reshape(-1)
