"""What every policy is to the rest of esd."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from esd.evolution.layout import Layout

Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Interface:
    """What a policy meets: the flattened environment.

    Attributes:
        observation_size: numbers in an observation.
        action_size: numbers that the policy has to put out (logits for discrete actions).
        bounded: every output is an action within finite bounds. A policy may then end in a tanh and say so by
            ``squashed``; otherwise the rollout applies the tanh.
        actions: the action space in a word, such as "Box(6,)", for messages; empty where only the sizes are known.
    """

    observation_size: int
    action_size: int
    bounded: bool
    actions: str = field(default="", compare=False)

    def described(self) -> str:
        """In words, for messages."""
        kind = "bounded " if self.bounded else ""
        return f"{self.observation_size} observations and {self.action_size} {kind}outputs"


@runtime_checkable
class Policy(Protocol):
    """A policy of one environment; all its memory of an episode is reset by ``reset``.

    Attributes:
        layout: the named arrays in its parameters, and so |h|.
        squashed: its outputs lie in [−1, 1] already.
    """

    layout: Layout
    squashed: bool

    def initial_parameters(self, seed: int) -> Float32s:
        """h_0, float32 [layout.size], a pure function of the seed."""

    def load(self, parameters: Float32s) -> None:
        """Become the member with these parameters, float32 [layout.size]; the array may change after the next load."""

    def reset(self, seed: int) -> None:
        """Begin an episode; whatever is random about it comes from this 64-bit seed alone."""

    def act(self, observation: Float32s) -> Float32s:
        """Map an observation [observation_size] to outputs [action_size], both float32, and learn from it if it learns.

        The array returned may be overwritten by the next call.
        """


@runtime_checkable
class Traceable(Protocol):
    """A policy whose inside can be recorded (``evaluation.trace``); what it returns the next act may overwrite.

    Before the first act only the sizes are right.
    """

    def activities(self) -> list[Float32s]:
        """The last act's activities, layer by layer from what the network saw to its outputs, float32 [units]."""

    def weights(self) -> list[Float32s]:
        """The weights between them that the last act used, float32 [inputs, outputs]."""


@runtime_checkable
class LoadsPieces(Protocol):
    """A policy that takes its parameters piece by piece, so that no perturbed copy of h is ever whole."""

    def load_piece(self, start: int, values: Float32s) -> None:
        """Take the coordinates from ``start`` on, float32 [n]; pieces come in order and together cover h."""
