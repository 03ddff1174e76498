"""The seam between the loop and whatever maps a vector to a score.

A problem names the parameters, makes h_0 from a seed, and evaluates members into records. Two kinds exist: a policy in
Gymnasium environments (``episodes``) and a function of the user's own (``objectives``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from esd.evolution.algorithm import Algorithm
from esd.evolution.canary import Canary
from esd.evolution.layout import Layout
from esd.evolution.records import Records
from esd.evolution.state import RunState
from esd.policies.base import Interface

Float32s = npt.NDArray[np.float32]


class Evaluator(Protocol):
    """Evaluates rows of records; a fitness is a pure function of (config, state_t, generation, member) (law 1)."""

    def fill(self, state: RunState, rows: Iterator[int], records: Records) -> None:
        """Evaluate rows of the generation that ``state`` stands before, as they are drawn, and write them."""

    def canary(self, h0: Float32s, journal_version: int) -> Canary:
        """Hash what this process computes: settings, noise, h_0, and a little of an evaluation.

        Args:
            h0: float32 [|h|].
            journal_version: of the journal that it is compared with: what is hashed has changed between them.

        Raises:
            RunError: if evaluating the same thing twice gives two results.
        """

    def close(self) -> None:
        """Close what was opened."""


class Problem(Protocol):
    """What is evolved.

    Attributes:
        layout: the named arrays in h.
        interface: what the journal keeps so that h_0 can be rebuilt without the problem: the sizes of an environment.
        variants: the names of the values that an evaluation gives, one per variant; one empty name without variants.
        observation_size: numbers per observation whose statistics travel in the records; 0 without.
        center_episodes: evaluations of the center, where it is evaluated.
        notes: what a user should know of how members are evaluated, a line each.
    """

    @property
    def layout(self) -> Layout:
        """The named arrays in h."""

    @property
    def interface(self) -> Interface:
        """The sizes that h_0 depends on beside the settings."""

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of what an evaluation gives."""

    @property
    def observation_size(self) -> int:
        """Numbers per observation whose statistics travel in the records."""

    @property
    def center_episodes(self) -> int:
        """Evaluations of the center, where it is evaluated."""

    @property
    def notes(self) -> list[str]:
        """What a user should know of how members are evaluated, a line each."""

    def initial_parameters(self, seed: int) -> Float32s:
        """h_0, float32 [layout.size], a pure function of the seed."""

    def evaluator(self, algorithm: Algorithm, ranks: int, node_rank: int) -> Evaluator:
        """What evaluates members of an algorithm.

        Args:
            algorithm: makes the members' parameters.
            ranks: how many share the rows.
            node_rank: this rank's number on its machine.
        """

    def close(self) -> None:
        """Close what was opened."""
