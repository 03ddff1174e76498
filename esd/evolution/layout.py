"""h ↔ named arrays: one flat float32 vector holds every array of a policy, each flattened in order "C" or "F"."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Float32s = npt.NDArray[np.float32]
Order = Literal["C", "F"]


@dataclass(frozen=True)
class Layout:
    """Where each named array lies in h.

    Args:
        shapes: the arrays in the order in which they stand in h.
        order: how each is flattened: "C" (last index fastest, as numpy's default) or "F" (first index fastest, as
            in Octave and in vec(·) of the linear-algebra literature, so that vec(AXB) = (Bᵀ ⊗ A) vec(X)).
    """

    shapes: Mapping[str, tuple[int, ...]]
    order: Order = "C"

    def __post_init__(self) -> None:
        """Refuse an order that is not one of the two."""
        if self.order not in ("C", "F"):
            raise ValueError(f"order {self.order!r}: expected 'C' or 'F'")

    @property
    def size(self) -> int:
        """|h|, the number of coordinates."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def stretches(self, start: int, stop: int) -> Iterator[tuple[str, int, slice]]:
        """What lies in a piece of h.

        Args:
            start: first coordinate of the piece.
            stop: the one behind its last.

        Yields:
            An array's name, the index of its first element that is in the piece, counted in its flattened order, and
            where in the piece its elements stand.
        """
        begin = 0
        for name, shape in self.shapes.items():
            end = begin + math.prod(shape)
            low, high = max(start, begin), min(stop, end)
            if low < high:
                yield name, low - begin, slice(low - start, high - start)
            begin = end

    def unpack(self, h: Float32s) -> dict[str, Float32s]:
        """View a flat vector as its arrays; no copy is made.

        Args:
            h: float32 [size], contiguous.

        Returns:
            The arrays by name, views into h: ``h[a:b].reshape(shape, order=order)``.

        Raises:
            ValueError: if h is not a vector of length ``size``.
        """
        if h.shape != (self.size,):
            raise ValueError(f"h has shape {h.shape}, expected ({self.size},)")
        arrays, start = {}, 0
        for name, shape in self.shapes.items():
            stop = start + math.prod(shape)
            arrays[name] = h[start:stop].reshape(shape, order=self.order)
            start = stop
        return arrays

    def pack(self, arrays: Mapping[str, npt.ArrayLike]) -> Float32s:
        """Flatten arrays into a new vector, float32 [size]; the inverse of ``unpack``.

        Raises:
            ValueError: if a name is missing or unknown, or a shape differs.
        """
        if set(arrays) != set(self.shapes):
            raise ValueError(f"arrays {sorted(arrays)}: expected {sorted(self.shapes)}")
        h = np.empty(self.size, np.float32)
        for name, view in self.unpack(h).items():
            array = np.asarray(arrays[name], np.float32)
            if array.shape != view.shape:
                raise ValueError(f"array {name!r} has shape {array.shape}, expected {view.shape}")
            view[...] = array
        return h
