"""What nested wrappers change of the one MuJoCo model of an environment: their factors multiply.

A wrapper's factors come on top of what the model is when its step comes, in Python and compiled, so that the two have
the same bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from esd_envs.model_change import ModelChange, addresses_of, as_doubles

# numbers of a model: which array, which of its rows, and the factor
Scaled = tuple[npt.NDArray[np.float64], int | slice | list[int], float]


class ModelFactors:
    """Factors on numbers of a model, whatever these are when the factors come: those of several wrappers multiply."""

    def __init__(self, factors: Sequence[Scaled]) -> None:
        """Note the original numbers of a model that is unchanged as yet."""
        self._factors = []
        for array, rows, factor in factors:
            inside = np.zeros(array.shape, bool)
            inside[rows] = True
            where = np.nonzero(inside & (array * factor != array))  # no 0 becomes -0
            if where[0].size:
                self._factors.append((array, where, array[where].copy(), factor))

    def addresses(self) -> set[int]:
        """Where the numbers are in memory."""
        return {
            address for array, where, *_ in self._factors for address in addresses_of(array, where)
        }

    def doubles(self) -> list[tuple[float, float]]:
        """The addresses of the numbers, as doubles with the bits of an integer, and their factors in order."""
        return as_doubles(
            [
                (address, factor)
                for array, where, _, factor in self._factors
                for address in addresses_of(array, where)
            ]
        )

    def apply(self) -> None:
        """Multiply the numbers."""
        for array, where, _, factor in self._factors:
            array[where] *= factor

    def undo(self) -> None:
        """Write the original numbers."""
        for array, where, before, _ in self._factors:
            array[where] = before


Changes = Sequence[ModelFactors | ModelChange]  # of one wrapper


class NestedChanges:
    """The changes that nested wrappers make to the one model, each at its own time."""

    def __init__(self) -> None:
        """Begin with none."""
        self._all: list[Changes] = []
        self._applied: list[Changes] = []  # but for those that a compiled step has applied

    def add(self, changes: Changes) -> None:
        """Add the changes of one more wrapper.

        Raises:
            ValueError: if a factor is on a number that a change writes, and one of the two would be lost.
        """
        self._all.append(changes)
        factors, written = set[int](), set[int]()
        for change in (change for each in self._all for change in each):
            (factors if isinstance(change, ModelFactors) else written).update(change.addresses())
        if factors & written:
            self._all.pop()
            raise ValueError(
                "scale and mass change the damping of a servo, which actuators scales, too: leave one of them out"
            )

    def apply(self, changes: Changes) -> None:
        """Make the changes of a wrapper, on top of those of others."""
        for change in changes:
            change.apply()
        self._applied.append(changes)

    def has_applied(self, changes: Changes) -> bool:
        """Whether the changes of a wrapper are made now."""
        return any(other is changes for other in self._applied)

    def undo(self, changes: Changes) -> None:
        """Take the changes of a wrapper back, and leave those of others."""
        with self.intact():
            self._applied = [other for other in self._applied if other is not changes]

    @contextlib.contextmanager
    def intact(self) -> Iterator[None]:
        """Give the original model back for a while."""
        for change in (change for changes in self._all for change in changes):
            change.undo()
        try:
            yield
        finally:
            for change in (change for changes in self._applied for change in changes):
                change.apply()
