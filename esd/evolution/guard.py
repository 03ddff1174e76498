"""An optimizer of the user's own, checked: what it raises becomes one line, what it leaves out is named.

Vectors to be overwritten are undefined memory at first, so one that is not written would give another h on every
machine. The first time they are filled with NaN, which nothing may leave behind.
"""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from esd.config.plugins import users_code
from esd.errors import RunError, UsageError, shortened
from esd.evolution.vectors import Float32s

RESERVED = ("sigma", "sigma_min", "sigma_max", "learning_rate")  # numbers of an algorithm


class GuardedOptimizer:
    """See ``optimizers.Optimizer``; other names are the user's."""

    def __init__(self, build: Callable[[], Any], who: str) -> None:
        """Build it.

        Raises:
            UsageError: if that fails, or its moments or numbers are none.
        """
        self.who, self._first = who, True
        with users_code(who, "building it"):
            self.unguarded = build()
            self.moment_names = self.unguarded.moment_names
        names = self.moment_names
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            raise UsageError(
                f"{who}: moment_names is {described(names)}, expected a tuple of names, such as ('velocity',)"
            )
        refuse_reserved(names, ("h", "sigma"), f"{who}: moment_names")

    def __getattr__(self, name: str) -> Any:
        """Whatever else the user's has."""
        if name == "unguarded":
            raise AttributeError(name)
        return getattr(self.unguarded, name)

    def initial_scalars(self) -> dict[str, float]:
        """See ``Optimizer.initial_scalars``."""
        with users_code(self.who, "initial_scalars"):
            found = self.unguarded.initial_scalars()
        numbers = scalars(found, (), f"{self.who}: initial_scalars")
        refuse_reserved(numbers, RESERVED, f"{self.who}: initial_scalars")
        return numbers

    def step(self, ascent: Any) -> dict[str, float]:
        """See ``Optimizer.step``."""
        given = bool(np.isfinite(ascent.gradient).all()) if self._first else False
        if given:
            for name in self.moment_names:
                ascent.following[name].fill(np.nan)
        following = dict(ascent.following)
        with users_code(self.who, "step", RunError):
            found = self.unguarded.step(ascent)
        check_in_place(following, ascent.following, f"{self.who}: step", "ascent.following")
        if given:
            check_written(
                {name: ascent.following[name] for name in self.moment_names},
                f"{self.who}: step does not write ascent.following",
            )
        self._first = False
        return scalars(found, self.initial_scalars(), f"{self.who}: step")


def refuse_reserved(names: Iterable[str], reserved: Sequence[str], what: str) -> None:
    """Refuse names that an algorithm has for something of its own.

    Raises:
        UsageError: naming them.
    """
    taken = [name for name in names if name in reserved]
    if taken:
        raise UsageError(
            f"{what} has {', '.join(taken)}, which algorithms have for something else: use another name"
        )


def check_in_place(
    given: Mapping[str, Float32s], now: Mapping[str, Float32s], what: str, where: str
) -> None:
    """Refuse other vectors in place of those that were to be written: nobody would read them.

    Raises:
        UsageError: naming them.
    """
    replaced = [name for name, vector in given.items() if now.get(name) is not vector]
    if replaced:
        raise UsageError(
            f"{what} replaces {where}, {shortened(', '.join(replaced))}: write into the vector that is there, for "
            f"example with {where}[{shortened(repr(replaced[0]))}][...] = …"
        )


def check_written(vectors: Mapping[str, Float32s], what: str) -> None:
    """Refuse vectors that still hold what they were filled with.

    Raises:
        UsageError: naming them.
    """
    left = [name for name, vector in vectors.items() if np.isnan(vector).any()]
    if left:
        raise UsageError(
            f"{what}, {shortened(', '.join(left))}: it contains NaN; write every coordinate, for example with "
            "after[...] = …"
        )


def scalars(found: Any, needed: Any, what: str) -> dict[str, float]:
    """A dict of numbers by name, if that is what came; as floats, which is how checkpoints keep them.

    Raises:
        UsageError: if it isn't.
    """
    if not isinstance(found, dict):
        raise UsageError(f"{what} returned {described(found)}, expected a dict of its numbers")
    missing = [name for name in needed if name not in found]
    if missing:
        raise UsageError(f"{what} returned a dict without {shortened(', '.join(missing))}")
    floats = {}
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, numbers.Real | np.floating):
            raise UsageError(
                f"{what} returned {shortened(repr(name), 60)}: {described(value)}, expected names and numbers"
            )
        try:
            floats[name] = float(value)
        except OverflowError:
            raise UsageError(
                f"{what} returned {shortened(repr(name), 60)}: a number that no float64 can hold"
            ) from None
    return floats


def described(value: Any) -> str:
    """What came, for messages."""
    if value is None:
        return "None (is a return missing?)"
    name = shortened(type(value).__name__, 60)
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    with contextlib.suppress(Exception):
        if isinstance(value, str | float | list | tuple | bool):
            return f"{shortened(repr(value), 60)} ({name})"
    return f"a {name}"
