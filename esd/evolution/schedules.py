"""Quantities that change from generation to generation, kept as numbers, never recomputed from the generation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Decay:
    """A quantity multiplied by ``factor`` each generation, but never below ``floor``."""

    start: float
    factor: float = 1.0
    floor: float = 0.0

    def next(self, value: float) -> float:
        """The value one generation later."""
        return max(self.floor, value * self.factor)
