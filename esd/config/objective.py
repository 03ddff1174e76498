"""[objective]: a function of the user's own, in place of a policy in an environment."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from esd.config.fields import MILLION, POSITIVE, SECOND_VERSION, setting
from esd.errors import shortened

MINIMIZE, MAXIMIZE = "minimize", "maximize"
UNIFORM = "uniform"
LARGEST = 1e30  # h is float32, and its squares are summed
STOP, WORST = ON_FAILURE = ("stop", "worst")
CLIP, REFLECT, TRANSFORM = BOUNDS = ("clip", "reflect", "transform")


@dataclass(frozen=True)
class ParameterConfig:
    """[objective.parameters.NAME]: one array of numbers that evolve."""

    shape: tuple[int, ...] = setting(
        (),
        "Shape of the array; [] for a single number",
        expected="lengths of 1 or more",
        check=lambda v: all(length >= 1 for length in v),
    )
    initial: Any = setting(
        0.0,
        'Initial value: a number, nested lists of the shape, or "uniform" for a random value between low and high',
    )
    low: Any = setting(None, "Lower bound: a number, or nested lists of the shape")
    high: Any = setting(None, "Upper bound: a number, or nested lists of the shape")
    bounds: str = setting(
        CLIP,
        "How values are limited to low and high: clip, reflect at the bound, or transform by tanh, which scales "
        "es.sigma to the range",
        choices=BOUNDS,
    )

    def problems(self) -> Iterator[str]:
        """What is wrong although every setting by itself is right: a line each, which names the key first."""
        for key in ("initial", "low", "high"):
            value = getattr(self, key)
            drawn = key == "initial" and value == UNIFORM
            if value is not None and not drawn and not self._fits(value):
                lists = f", or nested lists of shape {list(self.shape)}" if self.shape else ""
                word = ', or "uniform"' if key == "initial" else ""
                yield f"{key} = {_short(value)}: expected a number from −1e30 to 1e30{lists}{word}"
                return
        needs_both = [
            f"{key} = {value!r}"
            for key, value in (("initial", self.initial), ("bounds", self.bounds))
            if value in (UNIFORM, TRANSFORM)
        ]
        if needs_both and (self.low is None or self.high is None):
            yield f"{needs_both[0]}: needs both low and high"
            return
        yield from self._out_of_order()

    def _fits(self, value: Any) -> bool:
        """Whether a value is a number, or numbers in lists of the shape."""
        return _is_number(value) or _has_shape(value, self.shape)

    def _out_of_order(self) -> Iterator[str]:
        """Whether low < high, with ``initial`` between them."""
        in_lists = any(isinstance(value, list) for value in (self.low, self.high, self.initial))
        count = math.prod(self.shape) if in_lists else 1  # numbers alone are compared once
        low = _numbers(-math.inf if self.low is None else self.low, count)
        high = _numbers(math.inf if self.high is None else self.high, count)
        for a, b in zip(low, high, strict=True):
            if a >= b:
                yield f"low = {a:g}, high = {b:g}: expected low below high"
                return
        if self.initial == UNIFORM:
            return
        strictly = self.bounds == TRANSFORM
        for a, x, b in zip(low, _numbers(self.initial, count), high, strict=True):
            if not (a < x < b if strictly else a <= x <= b):
                range_ = f"{a:g} (low) to {b:g} (high)"
                if strictly:
                    range_ = f"more than {a:g} (low) and less than {b:g} (high), with bounds = {self.bounds!r}"
                elif self.high is None:
                    range_ = f"{a:g} (low) or more"
                elif self.low is None:
                    range_ = f"{b:g} (high) or less"
                yield f"initial = {x:g}: expected {range_}"
                return


def _is_number(value: Any) -> bool:
    return isinstance(value, float) and abs(value) <= LARGEST


def _has_shape(value: Any, shape: tuple[int, ...]) -> bool:
    if not shape:
        return _is_number(value)
    return (
        isinstance(value, list)
        and len(value) == shape[0]
        and all(_has_shape(item, shape[1:]) for item in value)
    )


def _numbers(value: Any, count: int) -> list[float]:
    """A number ``count`` times, or those in nested lists."""
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item, 1)]
    return [float(value)] * count


def _short(value: Any) -> str:
    return shortened(repr(value), 60)


@dataclass(frozen=True)
class ObjectiveConfig:
    """[objective]: a function whose value is minimized or maximized; without one, policies live in [env]."""

    function: str = setting(
        "",
        "Function to optimize: module:name of a Python function, or a test function (esd list objectives)",
    )
    direction: str = setting(
        "",
        "Whether to minimize or maximize the value. Required",
        expected="minimize or maximize",
        check=lambda v: v in ("", MINIMIZE, MAXIMIZE),
    )
    kwargs: dict[str, Any] = setting({}, "Keyword arguments of the function")
    parameters: dict[str, ParameterConfig] = setting(
        {},
        "Arrays to optimize, as [objective.parameters.NAME] tables with shape, initial, low, high, bounds",
    )
    values: tuple[str, ...] = setting(
        (),
        "Names of the values if a call returns several. [variants] defines how they are reduced to one",
    )
    evaluations_per_member: int = setting(
        1, "Calls per member, each with its own seed. The fitness is their mean", **MILLION
    )
    max_seconds: float | None = setting(
        None,
        "Time limit of a call in seconds. A member that takes longer counts as failed",
        **POSITIVE,
    )
    check_at_start: bool = setting(
        True,
        "Check before training that the function is repeatable: every rank evaluates the initial parameters twice, "
        "and two members in between. Set it to false if a call takes hours",
    )

    on_failure: str = setting(
        WORST,
        "What happens if a call raises an error, takes longer than max_seconds, returns no finite number, or "
        "crashes its process three times. worst: the member ranks last in its generation; stop: the run ends",
        choices=ON_FAILURE,
        since=SECOND_VERSION,
    )

    @property
    def named(self) -> bool:
        """Whether there is a function, and so an objective."""
        return bool(self.function)

    def problems(self) -> Iterator[str]:
        """What is wrong although every setting by itself is right: a line each."""
        if not self.named:
            if self != ObjectiveConfig():
                yield 'objective.function is missing; expected "module:name" or one of esd list objectives'
            return
        if not self.direction:
            yield 'objective.direction is missing; expected "minimize" or "maximize"'
        if not self.parameters:
            yield (
                "objective.parameters is missing; describe each parameter in a table [objective.parameters.NAME] "
                "with shape and initial"
            )
        for name, parameter in self.parameters.items():
            if not name.replace("-", "_").isidentifier():
                yield (
                    f"objective.parameters.{name!r}: expected a name of letters, digits, _ and - that does not begin "
                    "with a digit"
                )
            for problem in parameter.problems():
                yield f"objective.parameters.{name}.{problem}"
        named = all(name and name.isprintable() for name in self.values)
        if len({*self.values}) < len(self.values) or not named:
            yield f"objective.values = {list(self.values)}: expected names that all differ, without control characters"

    def meanings(self) -> dict[str, tuple[Any, Any] | None]:
        """By parameter, the bounds that its h is transformed to; None where h holds the values themselves."""
        return {
            name: (p.low, p.high) if p.bounds == TRANSFORM else None
            for name, p in self.parameters.items()
        }
