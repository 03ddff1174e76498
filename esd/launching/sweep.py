"""The tasks of a submission: every combination of the values of its swept settings. Pure functions of texts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from esd.errors import UsageError, shown

MOST_TASKS = 10_000
LARGEST = 2**63 - 1
_RANGE = re.compile(r"(-?\d{1,19})(?:-(\d{1,19})(?::(\d{1,19}))?)?")
_PAIRS = {"[": "]", "{": "}"}


@dataclass(frozen=True)
class Axis:
    """A setting and its values.

    Attributes:
        key: such as ``es.sigma``.
        values: as texts, as ``--set`` takes them.
    """

    key: str
    values: tuple[str, ...]

    def settings(self) -> Iterator[str]:
        """One ``key=value`` for each value."""
        return (f"{self.key}={value}" for value in self.values)


def array_axis(text: str) -> tuple[Axis, int | None]:
    """What ``--array`` names: whole numbers, as SLURM writes them.

    Args:
        text: such as ``seed=0-4``, ``seed=0,3,8-20:4`` or ``seed=0-99%10``.

    Returns:
        The axis, and how many tasks run at the same time at most; None for no limit.

    Raises:
        UsageError: if it is anything else.
    """
    key, values = _key_and_values("--array", text, "seed=0-4")
    ranges, percent, at_once = values.partition("%")
    if percent and not re.fullmatch(r"[1-9]\d{0,8}", at_once):
        raise UsageError(
            f"--array {shown(text)}: expected a number of at least 1 after %, such as {key}={ranges or '0-4'}%10"
        )
    numbers: list[int] = []
    for part in ranges.split(","):
        found = _RANGE.fullmatch(part.strip())
        if not found:
            raise UsageError(
                f"--array {shown(text)}: {shown(part)} is not a number or a range; expected values such as "
                f"{key}=0-4 or {key}=0,3,8-20:4. Vary other values with --grid {key}=…"
            )
        first = int(found[1])
        last = first if found[2] is None else int(found[2])
        step = 1 if found[3] is None else int(found[3])
        if last < first or step < 1 or last > LARGEST:
            raise UsageError(
                f"--array {shown(text)}: the range {shown(part)} is empty; expected FIRST-LAST or FIRST-LAST:STEP"
            )
        if len(numbers) + (last - first) // step >= MOST_TASKS:
            raise UsageError(
                f"--array {shown(text)}: more than {MOST_TASKS:,} tasks; use fewer values"
            )
        numbers += range(first, last + 1, step)
    return _distinct("--array", text, Axis(key, tuple(map(str, numbers)))), (
        int(at_once) if percent else None
    )


def grid_axis(text: str) -> Axis:
    """What a ``--grid`` names: values between commas. Commas in lists, tables and quotes don't count.

    Args:
        text: such as ``es.sigma=0.05,0.1`` or ``policy.hidden=[64, 32],[128]``.

    Raises:
        UsageError: if there is no key, a value is empty or is given twice, or a bracket is not closed.
    """
    key, values = _key_and_values("--grid", text, "es.sigma=0.05,0.1")
    parts, begin, open_ones, quote = [], 0, [], ""
    for position, mark in enumerate(values):
        if quote:
            quote = "" if mark == quote else quote
        elif mark in "\"'":
            quote = mark
        elif mark in _PAIRS:
            open_ones.append(_PAIRS[mark])
        elif open_ones and mark == open_ones[-1]:
            open_ones.pop()
        elif mark == "," and not open_ones:
            parts.append(values[begin:position])
            begin = position + 1
    parts.append(values[begin:])
    if open_ones:
        raise UsageError(f"--grid {shown(text)}: a {open_ones[-1]} is missing")
    if not all(part.strip() for part in parts):
        raise UsageError(
            f"--grid {shown(text)}: a value is empty; expected values between commas, such as {key}=0.05,0.1"
        )
    return _distinct("--grid", text, Axis(key, tuple(part.strip() for part in parts)))


def combinations(axes: Sequence[Axis]) -> list[tuple[str, ...]]:
    """The settings of every task, one of each axis; the last axis changes first. One task without axes.

    Raises:
        UsageError: if two axes are about one setting, or there are too many tasks.
    """
    seen: set[str] = set()
    count = 1
    for axis in axes:
        if axis.key in seen:
            raise UsageError(
                f"{axis.key}: is varied twice; list all its values in one --grid or --array"
            )
        seen.add(axis.key)
        count *= len(axis.values)
    if count > MOST_TASKS:
        raise UsageError(
            f"--array and --grid: {count:,} tasks, expected at most {MOST_TASKS:,}; submit it in parts"
        )
    return list(itertools.product(*(axis.settings() for axis in axes)))


def _key_and_values(flag: str, text: str, example: str) -> tuple[str, str]:
    key, equals, values = text.partition("=")
    if not equals or not key.strip() or not values.strip():
        raise UsageError(
            f"{flag} {shown(text)}: expected a setting and its values, such as {flag} {example}"
        )
    return key.strip(), values.strip()


def _distinct(flag: str, text: str, axis: Axis) -> Axis:
    twice = (
        next((value for value in axis.values if axis.values.count(value) > 1), None)
        if (len(set(axis.values)) < len(axis.values))
        else None
    )
    if twice is not None:
        raise UsageError(f"{flag} {shown(text)}: the value {shown(twice)} is given twice")
    return axis
