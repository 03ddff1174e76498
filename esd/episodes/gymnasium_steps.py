"""Gymnasium's own environments, whose steps are compiled although the classes know nothing of it.

``esd_envs.compiled_steps`` knows which. An episode begins with the environment's own reset, wrappers included; then the
compiled step goes on in the same memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy.typing as npt
from gymnasium.wrappers import OrderEnforcing, TimeLimit

from esd_envs.compiled_around import GoesAround, goes_around
from esd_envs.compiled_steps import CompiledStep, NotCompiledError, compiled_step


class SteppedEnvironment:
    """An environment that resets itself, and whose steps are one C function.

    Attributes:
        step_address: of that function.
        parameters: float64, the same in all episodes.
        state: float64, an episode's own.
        shown: the observation as the step writes it: flat, float32 or float64.
        has_lanes: several episodes may be under way at once, each with a state of its own.
    """

    def __init__(self, step: Any, reset: Callable[[int, npt.NDArray[Any]], None]) -> None:
        """Play an environment.

        Args:
            step: what the environment offers, a ``compiled_episodes.CompiledStep``.
            reset: resets it with a seed, and writes the first observation.
        """
        self._step, self._reset = step, reset
        self.step_address, self.parameters = step.step_address, step.parameters
        self.state, self.shown = step.state, step.observation
        self.has_lanes = bool(getattr(step, "has_lanes", False))

    def begin(self, seed: int) -> None:
        """Begin the episode of a seed."""
        self._reset(seed, self.shown)
        self._step.begin()

    def info(self, steps: int) -> dict[str, Any]:
        """What the environment says at the end of an episode of so many steps."""
        told = getattr(self._step, "info", None)
        return dict(told(steps)) if told is not None else {}


def peeled(
    env: gymnasium.Env[Any, Any], limit: int
) -> tuple[gymnasium.Env[Any, Any], list[GoesAround]]:
    """An environment without the wrappers that compiled code does without, or has a step around a step for.

    Args:
        env: with its wrappers.
        limit: of an episode's steps.

    Returns:
        What is left, and the wrappers with a step of their own, innermost first.
    """
    found: list[GoesAround] = []
    while isinstance(env, gymnasium.Wrapper):
        if not keeps_steps(env, limit):
            wrapper = goes_around(env)
            if wrapper is None:
                break
            found.insert(0, wrapper)
        env = env.env
    return env, found


def known_step(env: gymnasium.Env[Any, Any], limit: int) -> tuple[CompiledStep | None, str]:
    """The compiled step of an environment inside of its wrappers.

    Args:
        env: with its wrappers.
        limit: of an episode's steps.

    Returns:
        The step, or None and the reason in words; the reason is empty for an environment that is not known.
    """
    try:
        while isinstance(env, gymnasium.Wrapper):
            if not keeps_steps(env, limit):
                inside = compiled_step(env.unwrapped) is not None
                return None, f"the wrapper {type(env).__name__} changes its steps" if inside else ""
            env = env.env
        return compiled_step(env), ""
    except NotCompiledError as error:
        return None, str(error)


def keeps_steps(wrapper: gymnasium.Wrapper[Any, Any, Any, Any], limit: int) -> bool:
    """Whether a wrapper does nothing to a step that the compiled loop doesn't do, too.

    Args:
        wrapper: any.
        limit: after so many steps the loop ends an episode.
    """
    if type(wrapper) is TimeLimit:
        return wrapper._max_episode_steps >= limit
    # ChangedBody is imported only if somebody has: it needs MuJoCo
    name = f"{type(wrapper).__module__}:{type(wrapper).__name__}"
    if name == "esd_envs.changed_body:ChangedBody":
        return bool(wrapper.changes_only_at_reset)  # type: ignore[attr-defined]
    return type(wrapper) is OrderEnforcing
