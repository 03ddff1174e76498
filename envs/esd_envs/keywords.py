"""Checks of the keywords that environments are made with."""

from __future__ import annotations

import math
import numbers
from typing import Any

MOST = 10_000_000


def number(name: str, value: Any, *, zero: bool = False) -> float:
    """A keyword's value, above 0 or (``zero``) not below it.

    Raises:
        ValueError: naming the keyword, if it is no such number.
    """
    fine = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if not fine or value < 0 or (value == 0 and not zero):
        raise ValueError(
            f"{name} = {value!r}: expected a number {'of at least' if zero else 'above'} 0"
        )
    return float(value)


def whole(name: str, value: Any, least: int, most: int = MOST) -> int:
    """A keyword's value, a whole number from ``least`` to ``most``.

    Raises:
        ValueError: naming the keyword, if it is no such number.
    """
    fine = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not fine or not least <= value <= most:
        raise ValueError(f"{name} = {value!r}: expected a whole number from {least:,} to {most:,}")
    return int(value)
