"""What an environment raises or returns, in words that name the environment, the call and the step.

Gymnasium trusts an environment, so a wrong answer would be broadcast, cast or unpacked into something else without a
word. Observations are checked while they are flattened (``observations``); here is the rest of an answer.
"""

from __future__ import annotations

import numbers
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from esd import errors
from esd.config.objective import STOP
from esd.config.plugins import in_one_line, text_of
from esd.config.settings import EnvironmentConfig
from esd.errors import EXTRAS, UsageError, missing_module

LONGEST = 160  # characters of a value or a space in a message
API = "Gymnasium's API since 0.26"
FIVE = "5 values, observation, reward, terminated, truncated and info"
REAL = (float, int, np.floating, np.integer, np.bool_, numbers.Real)


class MisfitError(ValueError):
    """An answer that does not fit what was declared: which part of it, what came and what was expected."""


class BrokenEnvironmentError(UsageError):
    """An environment (or a wrapper of it) raised, or returned what does not fit its spaces."""


def shortened(value: object) -> str:
    """An object of the user's as part of a message."""
    return errors.shortened(text_of(value), LONGEST)


def described(value: Any) -> str:
    """What a value is: its type, its shape and dtype if it has any, and the value if it is short."""
    kind, package = type(value).__name__, type(value).__module__.partition(".")[0]
    name = kind if package == "builtins" else f"{package}.{kind}"
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None and not (shape == () and package == "numpy"):
        return f"a {name} of shape {tuple(shape)} and dtype {dtype}"
    if value is None:
        return "None"
    try:
        text = shortened(value if isinstance(value, np.generic) else reprlib.repr(value))
    except Exception:  # of a class of the user's
        return f"a {name}"
    return f"{text} ({name})"


def named(config: EnvironmentConfig) -> str:
    """The environment and the user's wrappers around it."""
    wrappers = [wrapper.id for wrapper in config.wrappers if not wrapper.id.startswith("esd.")]
    around = f" in {', '.join(wrappers)}" if wrappers else ""
    return shortened(f"env.id = {config.id!r}{around}")


def raised(who: str, call: str, error: BaseException) -> BrokenEnvironmentError:
    """What is said of an exception in an environment's code.

    Args:
        who: as ``named`` gives it.
        call: such as "step 3".
        error: the exception.
    """
    hint = ""
    if isinstance(error, TypeError) and "unexpected keyword" in str(error) and call == "reset":
        hint = f"; {API}: reset(self, *, seed=None, options=None)"
    elif isinstance(error, TypeError | ValueError) and "unpack" in str(error):
        # of a wrapper such as Gymnasium's TimeLimit, which sees the answer first
        answers = {"reset": "a pair, observation and info", "close": "nothing"}
        hint = f"; {call.split()[0]} has to return {answers.get(call, FIVE)}: {API}"
    elif isinstance(error, ModuleNotFoundError) and missing_module(error) is None and error.name:
        package = error.name.partition(".")[0]
        hint = f"; install the missing package, such as with pip install {package}"
    elif (missing := missing_module(error)) is not None:
        hint = f"; install it with pip install 'esd-mpi[{EXTRAS[missing][1]}]'"
    return BrokenEnvironmentError(f"{who}, {call}: raised {in_one_line(error)}{hint}")


def too_long(config: EnvironmentConfig) -> BrokenEnvironmentError:
    """What is said of an episode that ``env.episode_seconds`` has ended."""
    way_out = '. Increase it, or let such members rank last: --set env.on_failure="worst"'
    return BrokenEnvironmentError(
        f"{named(config)}: an episode took longer than env.episode_seconds = {config.episode_seconds:g}"
        f"{way_out if config.on_failure == STOP else ''}"
    )


def call(steps: int) -> str:
    """What gave the answer after so many steps of an episode."""
    return f"step {steps}" if steps else "reset"


def of_reset(answer: Any, checks: bool) -> Any:
    """The observation in what reset returned.

    Args:
        answer: of reset.
        checks: whether the second part has to be a dict.

    Raises:
        MisfitError: if that is not a pair of an observation and an info dict.
    """
    if type(answer) is tuple and len(answer) == 2:
        if checks and not isinstance(answer[1], Mapping):
            raise MisfitError(
                f"returned {described(answer[1])} as info: expected the pair (observation, info) with a dict, {API}"
            )
        return answer[0]
    if not checks:
        try:
            observation, _ = answer
        except (TypeError, ValueError):
            pass
        else:
            return observation
    raise MisfitError(
        f"returned {described(answer)}: expected the pair (observation, info), {API}; an environment of the older API "
        "returns the observation alone"
    )


def of_step(answer: Any) -> Any:
    """What step returned, if it is five values.

    Raises:
        MisfitError: if it is not.
    """
    expected = f"expected {FIVE}"
    if isinstance(answer, tuple | list):
        if len(answer) == 5:
            return answer
        old = (
            "; an environment of the older API returns 4, with one done" if len(answer) == 4 else ""
        )
        raise MisfitError(f"returned {len(answer)} values: {expected}, {API}{old}")
    raise MisfitError(f"returned {described(answer)}: {expected}")


def reward(value: Any, checks: bool) -> float:
    """A reward as a float; NaN and infinity too, which make a member fail but end no run.

    Args:
        value: the reward.
        checks: False: whatever Python makes a float of.

    Raises:
        MisfitError: if it is not one real number.
    """
    if not checks or isinstance(value, REAL) or _is_scalar(value, ("float", "int", "bool")):
        try:
            return float(value)
        except Exception as error:
            raise MisfitError(
                f"the reward is {described(value)}: expected one real number ({shortened(error)})"
            ) from None
    hint = ""
    if getattr(value, "shape", None) == (1,):
        hint = "; return float(reward[0])"
    raise MisfitError(f"the reward is {described(value)}: expected one real number{hint}")


def _is_scalar(value: Any, kinds: tuple[str, ...]) -> bool:
    """Whether a value is an array or a tensor without dimensions, of one of the kinds."""
    dtype = str(getattr(value, "dtype", ""))
    return getattr(value, "shape", None) == () and any(kind in dtype for kind in kinds)


def end(name: str, value: Any) -> bool:
    """Terminated or truncated as a bool.

    Raises:
        MisfitError: if it is none.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if _is_scalar(value, ("bool",)):
        return bool(value)
    raise MisfitError(f"{name} is {described(value)}: expected a bool")


def info(value: Any) -> dict[str, Any]:
    """What a step said beside its observation.

    Raises:
        MisfitError: if it is not a dict.
    """
    if isinstance(value, dict):
        return value
    if isinstance(value, Mapping):
        return dict(value)
    raise MisfitError(f"info is {described(value)}: expected a dict")


def not_finite(observation: npt.NDArray[Any]) -> str:
    """Which number of a flat observation is not finite."""
    first = np.flatnonzero(~np.isfinite(observation))[0]
    return (
        f"the observation is not finite: number {first} of its {observation.size} (counted from 0) is "
        f"{observation[first]} as {observation.dtype}"
    )
