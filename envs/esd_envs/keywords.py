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


def span(name: str, value: Any, least: int) -> tuple[int, int]:
    """A keyword's value, [least, most] or one whole number that is both, from ``least`` on.

    Raises:
        ValueError: naming the keyword, if it is no such pair.
    """
    pair = list(value) if isinstance(value, list | tuple) else [value, value]
    if len(pair) != 2:
        raise ValueError(f"{name} = {value!r}: expected a whole number or [least, most]")
    shortest = whole(name, pair[0], least)
    return shortest, whole(name, pair[1], shortest)


def flag(name: str, value: Any) -> bool:
    """A keyword's value, true or false.

    Raises:
        ValueError: naming the keyword, if it is neither.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} = {value!r}: expected true or false")
    return value


def share(name: str, value: Any) -> float:
    """A keyword's value, a number from 0 to 1.

    Raises:
        ValueError: naming the keyword, if it is no such number.
    """
    fine = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not fine or not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} = {value!r}: expected a number from 0 to 1")
    return float(value)
