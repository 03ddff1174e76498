"""Reversible residual blocks: what went in can be computed from what came out.

Gomez et al. 2017, "The Reversible Residual Network" (arXiv 1707.04585); Kitaev, Kaiser & Levskaya 2020, "Reformer"
(arXiv 2001.04451). A block has two functions and a state of two halves:

    y₁ = x₁ + F(x₂),  y₂ = x₂ + G(y₁);  undone by  x₂ = y₂ − G(y₁),  x₁ = y₁ − F(x₂).

In floats an addition rounds, and the inverse is a little off. In integers it doesn't: ``Lifting`` keeps the state in
fixed point and rounds what F and G say before it is added, which makes the block a lifting scheme (Sweldens 1996; for
integers Calderbank et al. 1998), and its inverse has every bit of what went in.

What it is for: rewinding a trajectory from its last state and auditing it, and training the same blocks by gradients
without keeping activations (``reversible_torch``). For an evolution strategy, which only ever computes forward, it
saves no memory: nothing is kept there anyway.

F and G take and give float32 arrays of one shape, and need not be invertible. They have to be deterministic, the same
bits for the same bits, or the inverse undoes something else than was done: no random numbers, no hidden state. They
must not change their argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esd.errors import UsageError

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]

Function = Callable[[Float32s], Float32s]
Block = tuple[Function, Function]  # F and G
Halves = tuple[Float32s, Float32s]

FRACTION_BITS = 24
MAGNITUDE_BITS = 62  # two numbers below 2⁶² have a sum that an int64 holds


def forward(blocks: Sequence[Block], x1: Float32s, x2: Float32s) -> Halves:
    """The state behind all blocks, float32.

    Args:
        blocks: F and G of each.
        x1: float32, any shape.
        x2: float32, the same shape.

    Raises:
        UsageError: shapes or types differ, of halves or of what a function gives.
    """
    _check(x1, x2, np.float32)
    for number, (f, g) in enumerate(blocks):
        x1 = x1 + _given("F", number, f, x2)
        x2 = x2 + _given("G", number, g, x1)
    return x1, x2


def inverse(blocks: Sequence[Block], y1: Float32s, y2: Float32s) -> Halves:
    """The state in front of all blocks, up to rounding.

    Every addition that is undone leaves an error of at most 2⁻²⁴ (|sum| + |summand|): either was rounded once. Each
    function that is taken off after that multiplies the largest error so far by at most 1 + L, with L its Lipschitz
    constant. ``python -m benchmarks.reversible`` measures it.

    Args:
        blocks: as they went forward.
        y1: float32, any shape.
        y2: float32, the same shape.

    Raises:
        UsageError: shapes or types differ, of halves or of what a function gives.
    """
    _check(y1, y2, np.float32)
    for number, (f, g) in reversed(list(enumerate(blocks))):
        y2 = y2 - _given("G", number, g, y1)
        y1 = y1 - _given("F", number, f, y2)
    return y1, y2


@dataclass(frozen=True)
class Lifting:
    """The same blocks on a state in fixed point, whose inverse is exact, bit for bit.

    A number is an int64, in units of 2^−``fraction_bits``. F and G see it as float32; what they give is rounded to that
    unit and added as an integer. States and what is added to them must stay within ±2^(62 − ``fraction_bits``), ±2.7e11
    at 24 bits; what doesn't is refused, in both directions, and never wraps around.

    Attributes:
        fraction_bits: 0 to 61.
    """

    fraction_bits: int = FRACTION_BITS

    def __post_init__(self) -> None:
        """Refuse what can't be.

        Raises:
            UsageError: no such fixed point.
        """
        if not 0 <= self.fraction_bits < MAGNITUDE_BITS:
            raise UsageError(
                f"fraction_bits = {self.fraction_bits}: expected 0 to {MAGNITUDE_BITS - 1}"
            )

    @property
    def limit(self) -> float:
        """What all magnitudes are below: 2^(62 − fraction_bits)."""
        return float(2.0 ** (MAGNITUDE_BITS - self.fraction_bits))

    def encode(self, values: Float32s) -> Int64s:
        """The nearest numbers in fixed point, int64; ties to even.

        Off by at most half a unit, 2⁻²⁵ by default; exact where float32 has no finer bits: from 0.5 on by default.

        Raises:
            UsageError: a value is not finite or beyond the limit.
        """
        return self._encoded(values, "a value")

    def decode(self, numbers: Int64s) -> Float32s:
        """The nearest float32; the same number if it has no more than 24 significant bits."""
        # one rounding, in the conversion: a power of two only moves the exponent
        return numbers.astype(np.float32) * np.float32(2.0**-self.fraction_bits)

    def forward(self, blocks: Sequence[Block], x1: Int64s, x2: Int64s) -> tuple[Int64s, Int64s]:
        """The state behind all blocks, int64.

        Args:
            blocks: F and G of each, float32 to float32.
            x1: int64, any shape, see ``encode``.
            x2: int64, the same shape.

        Raises:
            UsageError: shapes or types differ; a state or what is added to it is not finite or beyond the limit.
        """
        self._check(x1, x2)
        for number, (f, g) in enumerate(blocks):
            x1 = self._within(x1 + self._moved("F", number, f, x2), "F", number)
            x2 = self._within(x2 + self._moved("G", number, g, x1), "G", number)
        return x1, x2

    def inverse(self, blocks: Sequence[Block], y1: Int64s, y2: Int64s) -> tuple[Int64s, Int64s]:
        """The state in front of all blocks: what ``forward`` was given, bit for bit.

        Args:
            blocks: as they went forward.
            y1: int64, any shape.
            y2: int64, the same shape.

        Raises:
            UsageError: as ``forward``.
        """
        self._check(y1, y2)
        for number, (f, g) in reversed(list(enumerate(blocks))):
            y2 = self._within(y2 - self._moved("G", number, g, y1), "G", number)
            y1 = self._within(y1 - self._moved("F", number, f, y2), "F", number)
        return y1, y2

    def _check(self, x1: Int64s, x2: Int64s) -> None:
        _check(x1, x2, np.int64)
        for half in (x1, x2):
            if not self._holds(half):
                raise UsageError(
                    f"the state reaches {_extreme(self.decode(half)):.3g}: with {self.fraction_bits} fraction bits "
                    f"it must stay below {self.limit:.3g}"
                )

    def _moved(self, name: str, number: int, function: Function, half: Int64s) -> Int64s:
        moved = _given(name, number, function, self.decode(half))
        return self._encoded(moved, f"what {name} of block {number} gives")

    def _encoded(self, values: Float32s, what: str) -> Int64s:
        scaled = np.rint(np.ldexp(values.astype(np.float64), self.fraction_bits))
        # NaN compares as false; what is below before rounding is below after it, since the limit is an integer
        if not np.all(np.abs(scaled) < 2.0**MAGNITUDE_BITS):
            raise UsageError(
                f"{what} reaches {_extreme(values):.3g}: expected finite values below {self.limit:.3g}, which "
                f"{self.fraction_bits} fraction bits leave room for"
            )
        return scaled.astype(np.int64)

    def _within(self, half: Int64s, name: str, number: int) -> Int64s:
        if not self._holds(half):
            raise UsageError(
                f"the state reaches {_extreme(self.decode(half)):.3g} at {name} of block {number}: with "
                f"{self.fraction_bits} fraction bits it must stay below {self.limit:.3g}"
            )
        return half

    @staticmethod
    def _holds(half: Int64s) -> bool:
        # not by the magnitude: that of the smallest int64 is itself
        bound = 1 << MAGNITUDE_BITS
        return bool(half.size == 0 or (half.min() > -bound and half.max() < bound))


def _check(x1: npt.NDArray[np.generic], x2: npt.NDArray[np.generic], kind: type) -> None:
    if x1.shape != x2.shape or x1.dtype != kind or x2.dtype != kind:
        raise UsageError(
            f"halves are {x1.dtype} {x1.shape} and {x2.dtype} {x2.shape}: expected "
            f"{np.dtype(kind)}, and the same shape"
        )


def _given(name: str, number: int, function: Function, half: Float32s) -> Float32s:
    """What F or G says, if it fits."""
    given = function(half)
    if given.shape != half.shape or given.dtype != np.float32:
        raise UsageError(
            f"{name} of block {number} gives {given.dtype} {given.shape}: expected float32 {half.shape}"
        )
    return given


def _extreme(values: Float32s) -> float:
    """The value that is furthest out, a NaN before all others."""
    return float(values.flat[np.argmax(np.abs(values))])
