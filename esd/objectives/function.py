"""The user's function: found, called, and what it returns checked.

It may do anything: raise, exit, return text, never return, or change the arrays that it gets. A call ends in float64
values or in ``EvaluationError``, whose text says what came and what was expected.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esd.config.keywords import fresh
from esd.config.kinds import OBJECTIVES
from esd.config.objective import ObjectiveConfig
from esd.config.plugins import in_one_line
from esd.errors import EsdError, UsageError
from esd.evolution.global_generators import seed_global_generators
from esd.objectives.time_limit import TimeLimitError, time_limit

Float64s = npt.NDArray[np.float64]

SEED = "seed"


class EvaluationError(Exception):
    """A call gave no finite values; the text goes on after the function's name: ``returned nan, expected …``."""


class Function:
    """What [objective] names, with its keyword arguments.

    Attributes:
        takes_seed: it has a parameter ``seed`` that no keyword argument fixes, so it may be noisy.
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        """Import it and look at its signature.

        Raises:
            UsageError: if it can't be imported or called with the arguments that it will get.
        """
        self._config = config
        # a function may change the working directory, under which the run's folder lies: it gets one of its own
        with contextlib.chdir("."):
            self._function = _found(config.function)
            self._directory = Path.cwd()
        self.takes_seed = self._check_signature()

    def _check_signature(self) -> bool:
        """Whether it takes a seed."""
        config = self._config
        try:
            signature = inspect.signature(self._function)
        except (TypeError, ValueError):  # some that are written in C have none
            return False
        parameter = signature.parameters.get(SEED)
        by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        takes = parameter is not None and parameter.kind in by_name and SEED not in config.kwargs
        seed = {SEED: 0} if takes else {}
        try:
            signature.bind(None, **config.kwargs, **seed)
        except TypeError as error:
            kwargs = f" and objective.kwargs = {config.kwargs}" if config.kwargs else ""
            raise UsageError(
                f"objective.function = {config.function!r}: has the parameters {signature}, and can't be called with "
                f"one argument{kwargs} ({error})"
            ) from None
        return takes

    def __call__(self, parameters: Mapping[str, Float64s], seed: int) -> Float64s:
        """Call it once.

        Args:
            parameters: arrays by name; the function gets copies: the array if there is one, otherwise the dict, and
                a float in place of an array without axes.
            seed: handed over if it takes one, and set for Python's and numpy's global generators; 32 bits.

        Returns:
            float64 [values], in the user's own sign, finite.

        Raises:
            EvaluationError: if the call raised, took too long, or returned something else.
        """
        arguments = {
            name: array.copy() if array.shape else float(array)
            for name, array in parameters.items()
        }
        argument = arguments if len(arguments) > 1 else next(iter(arguments.values()))
        keywords = {**fresh(self._config.kwargs), **({SEED: seed} if self.takes_seed else {})}
        seed_global_generators(seed)
        limit = self._config.max_seconds
        try:
            with contextlib.chdir(self._directory), time_limit(limit):
                returned = self._function(argument, **keywords)
        except TimeLimitError:
            raise EvaluationError(f"took longer than objective.max_seconds = {limit:g}") from None
        except EsdError:
            raise
        except (Exception, SystemExit) as error:
            raise EvaluationError(f"raised {in_one_line(error)}") from error
        return _checked(returned, self._config.values)


def _found(reference: str) -> Callable[..., Any]:
    """Import a function.

    Raises:
        UsageError: if that isn't possible, or it is none.
    """
    function = OBJECTIVES.find(reference)
    if not callable(function):
        raise UsageError(
            f"objective.function = {reference!r}: is {_described(function)}, expected a function"
        )
    found: Callable[..., Any] = function
    return found


def _checked(returned: Any, names: tuple[str, ...]) -> Float64s:
    """What was returned as float64 [values].

    Raises:
        EvaluationError: if it isn't one finite number, or one for each name.
    """
    if inspect.iscoroutine(returned):
        returned.close()  # or Python warns that it was never awaited
    if names and isinstance(returned, Mapping):
        if {*returned} != {*names}:
            keys = [str(key) for key in returned]
            raise EvaluationError(
                f"returned a dict with keys {keys}, expected those of objective.values = {[*names]}"
            )
        returned = [returned[name] for name in names]
    numbers = _numbers(returned)
    if numbers is None or (names and numbers.shape != (len(names),)):
        count = "a list of 1 number" if len(names) == 1 else f"{len(names)} numbers"
        expected = f"{count}: objective.values = {[*names]}" if names else "a number"
        raise EvaluationError(f"returned {_described(returned)}, expected {expected}")
    if not names and numbers.shape:
        raise EvaluationError(
            f"returned {_described(returned)}, expected one number (several need names: objective.values)"
        )
    values = numbers.reshape(-1)
    for name, value in zip(names or ("",), values, strict=True):
        if not np.isfinite(value):
            named = f"{name} = " if name else ""
            raise EvaluationError(f"returned {named}{value}, expected a finite number")
    return values


def _numbers(returned: Any) -> Float64s | None:
    """As float64, of the shape that it has; None of what isn't numbers."""
    try:
        array = np.asarray(returned)
    except Exception:  # whatever an object raises that is asked for its numbers
        return None
    return array.astype(np.float64) if array.dtype.kind in "fiub" else None


def _described(returned: Any) -> str:
    """What came, for messages."""
    if returned is None:
        return "None"
    numbers = None if np.isscalar(returned) else _numbers(returned)
    if numbers is not None and numbers.shape:
        return f"an array of shape {numbers.shape}"
    text = repr(returned)
    return f"{text if len(text) <= 60 else f'{text[:59]}…'} ({type(returned).__name__})"
