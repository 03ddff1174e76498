"""Checks of the keywords that environments are made with."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

MOST = 10_000_000
ENDLESS = 1 << 53  # as good as no limit: up to here float64, too, has every whole number


def finite(name: str, value: Any, expected: str = "a finite number") -> float:
    """A keyword's value, any finite number.

    Raises:
        ValueError: naming the keyword and what is expected, if it is no such number.
    """
    try:
        found = float(value) if isinstance(value, numbers.Real) else math.nan
    except OverflowError:
        found = math.inf
    if isinstance(value, bool) or not math.isfinite(found):
        raise ValueError(f"{name} = {_shown(value)}: expected {expected}")
    return found


def number(name: str, value: Any, *, zero: bool = False) -> float:
    """A keyword's value, above 0 or (``zero``) not below it.

    Raises:
        ValueError: naming the keyword, if it is no such number.
    """
    expected = f"a number {'of at least' if zero else 'above'} 0"
    found = finite(name, value, expected)
    if found < 0 or (found == 0 and not zero):
        raise ValueError(f"{name} = {value!r}: expected {expected}")
    return found


def by_part(name: str, value: Any, check: Callable[[str, Any], float]) -> dict[str, float]:
    """A keyword's value, a table of numbers by part.

    Args:
        name: of the keyword.
        value: of the keyword; None is an empty table.
        check: of each number.

    Raises:
        ValueError: naming the keyword, if it is no table, or the part whose number is not what is expected.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(
            f"{name} = {_shown(value)}: expected numbers by part, such as {{'torso': 1.5}}"
        )
    return {part: check(f"{name}.{part}", each) for part, each in value.items()}


def whole(name: str, value: Any, least: int, most: int = MOST) -> int:
    """A keyword's value, a whole number from ``least`` to ``most``.

    Raises:
        ValueError: naming the keyword, if it is no such number.
    """
    fine = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not fine or not least <= value <= most:
        end = f" to {most:,}" if most < ENDLESS else " on"
        raise ValueError(f"{name} = {_shown(value)}: expected a whole number from {least:,}{end}")
    return int(value)


def span(name: str, value: Any, least: int, most: int = MOST) -> tuple[int, int]:
    """A keyword's value, [least, most] or one whole number that is both, from ``least`` to ``most``.

    Raises:
        ValueError: naming the keyword, if it is no such pair.
    """
    pair = list(value) if isinstance(value, list | tuple) else [value, value]
    if len(pair) != 2:
        raise ValueError(f"{name} = {value!r}: expected a whole number or [least, most]")
    shortest = whole(name, pair[0], least, most)
    return shortest, whole(name, pair[1], shortest, most)


def flag(name: str, value: Any) -> bool:
    """A keyword's value, true or false.

    Raises:
        ValueError: naming the keyword, if it is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} = {value!r}: expected true or false")
    return bool(value)


def share(name: str, value: Any) -> float:
    """A keyword's value, a number from 0 to 1.

    Raises:
        ValueError: naming the keyword, if it is no such number.
    """
    fine = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not fine or not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} = {_shown(value)}: expected a number from 0 to 1")
    return float(value)


def _shown(value: Any) -> str:
    """A value in a message; Python writes no integer of thousands of digits."""
    text = "a huge number" if isinstance(value, int) and abs(value) > 10**50 else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
