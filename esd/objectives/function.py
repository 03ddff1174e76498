"""The user's function: found, called, and what it returns checked.

It may do anything: raise, exit, return text, never return, or change the arrays that it gets. A call ends in float64
values or in ``EvaluationError``, whose text says what came and what was expected.
"""

from __future__ import annotations

import contextlib
import decimal
import inspect
import numbers
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from esd.config.keywords import fresh
from esd.config.kinds import OBJECTIVES
from esd.config.objective import ObjectiveConfig
from esd.config.plugins import directory_after, in_one_line, is_of_the_users_code
from esd.errors import UsageError, shortened
from esd.evolution.global_generators import seed_global_generators
from esd.forks import end_child_of
from esd.time_limit import TimeLimitError, time_limit

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
        # a module may change the working directory, under which the run's folder lies: its functions get their own
        self._function = _found(config.function)
        self._directory = directory_after(config.function)
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
                f"objective.function = {config.function!r}: has the parameters {signature}, so it can't be called "
                f"with one argument{kwargs} ({error})"
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
        limit, process = self._config.max_seconds, os.getpid()
        try:
            with contextlib.chdir(self._directory), time_limit(limit, "objective.max_seconds"):
                returned = self._function(argument, **keywords)
        except TimeLimitError:
            raise EvaluationError(f"took longer than objective.max_seconds = {limit:g}") from None
        except BaseException as error:
            if not is_of_the_users_code(error):
                raise
            raise EvaluationError(f"raised {in_one_line(error)}") from error
        finally:
            end_child_of(process)
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
        try:
            keys = list(returned)
            items = [returned[name] for name in names if name in keys]
        except Exception as error:  # of a mapping of their own
            raise EvaluationError(f"returned a dict that raised {in_one_line(error)}") from error
        if {*map(str, keys)} != {*names} or len(items) != len(names):
            shown = shortened(str([shortened(str(key), 40) for key in keys[:20]]), 200)
            raise EvaluationError(
                f"returned a dict with keys {shown}, expected those of objective.values = {[*names]}"
            )
        returned = items
    found = _numbers(returned)
    if found is None or (names and found.shape != (len(names),)):
        count = "a list of 1 number" if len(names) == 1 else f"{len(names)} numbers"
        expected = f"{count}: objective.values = {[*names]}" if names else "a number"
        raise EvaluationError(f"returned {_described(returned)}, expected {expected}")
    if not names and found.shape:
        raise EvaluationError(
            f"returned {_described(returned)}, expected one number (several need names: objective.values)"
        )
    values = found.reshape(-1)
    for name, value in zip(names or ("",), values, strict=True):
        if not np.isfinite(value):
            named = f"{name} = " if name else ""
            raise EvaluationError(f"returned {named}{value}, expected a finite number")
    return values


def detached(value: Any) -> Any:
    """A tensor of torch's, which may have a gradient or be on a GPU, as NumPy takes it; anything else as it is."""
    if not hasattr(value, "detach"):
        return value
    value = value.detach().cpu()
    return value.double() if value.is_floating_point() else value


def _numbers(returned: Any) -> Float64s | None:
    """As float64, of the shape that it has; None of what isn't real numbers.

    What converts itself without asking isn't taken at its word: a masked element would become what is behind the mask,
    and a complex number its real part.
    """
    try:
        if isinstance(returned, np.ma.MaskedArray):
            return None
        returned = detached(returned)
        if isinstance(returned, list | tuple):
            return _joined([_numbers(item) for item in returned])
        if isinstance(returned, numbers.Real | decimal.Decimal):
            return np.array(float(returned))
        array = np.asarray(returned)
        if array.dtype.kind not in "fiub":
            return None
        with np.errstate(over="ignore"):  # a long double may not fit: infinite, which is named
            return array.astype(np.float64)
    except OverflowError:  # an integer, or a fraction, that no float can hold
        return np.array(np.inf)
    except Exception:  # whatever an object raises that is asked for its numbers
        return None


def _joined(items: list[Float64s | None]) -> Float64s | None:
    """Items of a list as one array; None if one isn't numbers, or they differ in shape."""
    arrays = [item for item in items if item is not None]
    if len(arrays) < len(items) or len({array.shape for array in arrays}) > 1:
        return None
    return np.array(arrays, np.float64)


def _described(returned: Any) -> str:
    """What came, for messages."""
    if returned is None:
        return "None (is a return missing?)"
    name = shortened(type(returned).__name__, 60)
    if isinstance(returned, np.ma.MaskedArray):
        return f"a masked array of shape {returned.shape}"
    found = None if np.isscalar(returned) else _numbers(returned)
    if found is not None and found.shape:
        return f"an array of shape {found.shape}"
    try:
        text = repr(returned)
    except Exception:  # of theirs, or an integer of more than 4,300 digits
        return f"a {name}"
    return f"{shortened(text, 60)} ({name})"
