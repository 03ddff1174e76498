"""The compiled step of an environment inside of wrappers that do something to every step: a step around a step.

``goes_around`` says which wrappers have one; each has a method ``compiled_around``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import gymnasium
import numpy as np
import numpy.typing as npt

from esd_envs.compiled_steps import CompiledStep, NotCompiledError
from esd_envs.kernels import around as kernels

Float64s = npt.NDArray[np.float64]

WITH_A_STEP = (
    "esd_envs.changed_body:ChangedBody",
    "esd_envs.last_action:LastActionAndReward",
)  # by module and name: importing the first needs MuJoCo


class GoesAround(Protocol):
    """A wrapper whose own part of a step is compiled, too."""

    def compiled_around(self, inside: Any) -> StepAround:
        """The step of the wrapper around that of what is inside of it.

        Raises:
            NotCompiledError: if there is none; the reason in words.
        """


def goes_around(wrapper: gymnasium.Env[Any, Any]) -> GoesAround | None:
    """A wrapper as one that has a compiled step of its own; None if it has none. A subclass may do anything."""
    known = f"{type(wrapper).__module__}:{type(wrapper).__qualname__}" in WITH_A_STEP
    return cast(GoesAround, wrapper) if known else None


class StepAround:
    """A compiled step around another one, and the memory of both.

    Attributes:
        step_address: of the C function that makes a step.
        reset_address: of the C function that begins an episode; 0: the environment resets itself.
        parameters: float64, what both read.
        state: float64, an episode's own.
        observation: of the type that the step writes; flat.
        has_lanes: the step reads nothing of the environment but parameters and state.
        weighs: see ``CompiledStep``.
    """

    def __init__(
        self,
        inside: Any,
        step_address: int,
        table: Sequence[tuple[int | float, float]] | Float64s,
        observation: npt.NDArray[Any],
        own_state: int = 0,
        reset_address: int = 0,
    ) -> None:
        """Put the memory together.

        Raises:
            NotCompiledError: if the step inside begins its episodes in memory that can't be another's.

        Args:
            inside: what offers the step inside, see ``esd.episodes.compiled_episodes``.
            step_address: of the step around it.
            table: of that step, float64 [n, 2].
            observation: as it writes it.
            own_state: numbers that it keeps.
            reset_address: of the reset around the one inside, if that is a C function.
        """
        pairs = np.array(table, np.float64).reshape(-1, 2)
        head = kernels.TABLE + pairs.size
        own = np.zeros(head)
        resets_in_c = bool(getattr(inside, "reset_address", 0)) and reset_address != 0
        own[: kernels.HEAD].view(np.int64)[:] = (
            inside.step_address,
            inside.reset_address if resets_in_c else 0,
        )
        shown = getattr(inside, "observation", observation)
        own[kernels.HEAD : kernels.TABLE] = (head, observation.size, shown.size, len(pairs))
        own[kernels.TABLE :] = pairs.ravel()
        self.parameters: Float64s = np.concatenate([own, inside.parameters])
        self.state: Float64s = np.concatenate([np.zeros(own_state), inside.state])
        self._inside, self._head, self._own_state = inside, head, own_state
        self._share()
        if hasattr(inside, "info"):
            self.info = inside.info
        self.observation = observation
        self.step_address = step_address
        self.reset_address = reset_address if resets_in_c else 0
        self.weighs = bool(getattr(inside, "weighs", False))
        self.has_lanes = bool(getattr(inside, "has_lanes", resets_in_c))

    def _share(self) -> None:
        """Let the step inside begin its episodes in this memory."""
        inside = self._inside
        if not hasattr(inside, "begin"):
            return
        if not isinstance(inside, CompiledStep | StepAround):
            raise NotCompiledError("a wrapper has no compiled step around one of your own")
        inside.parameters = self.parameters[self._head :]
        inside.state = self.state[self._own_state :]
        if isinstance(inside, StepAround):
            inside._share()

    def begin(self) -> None:
        """Write what an episode begins with; the environment has just been reset."""
        if hasattr(self._inside, "begin"):
            self._inside.begin()
