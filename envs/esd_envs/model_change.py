"""Changing a MuJoCo model in place and back, between episodes or in the middle of one.

A changed body is compiled from an edited model file, never patched by hand: masses, inertias, bounding volumes and the
constants of the constraint solver all follow from the geometry, and MuJoCo's compiler is the one that knows how. What
then differs from the intact model is written into the model that is being simulated, whose state stays as it is.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt


class ModelChange:
    """The numbers in which two models of the same layout differ."""

    def __init__(
        self, model: mujoco.MjModel, changed: mujoco.MjModel, intact: mujoco.MjModel | None = None
    ) -> None:
        """Compare the models.

        Args:
            model: which is simulated, unchanged as yet.
            changed: what it is to become.
            intact: what ``changed`` is compared with; ``model`` itself, if not given.

        Raises:
            ValueError: if the change adds or takes away bodies, joints or geoms.
        """
        reference = model if intact is None else intact
        self._arrays = []
        for owner, before, after in (
            (model, reference, changed),
            (model.opt, reference.opt, changed.opt),
        ):
            for name in _arrays(owner):
                old, new = getattr(before, name), getattr(after, name)
                if old.shape != new.shape:
                    raise ValueError(
                        f"the change gives {name} the shape {new.shape}, expected {old.shape}"
                    )
                where = np.nonzero(old != new)
                if where[0].size:
                    array = getattr(owner, name)
                    self._arrays.append((array, where, array[where].copy(), new[where].copy()))
        # the solver measures its progress in units of this; the other statistics are for drawing
        self._model, self._inertia = model, model.stat.meaninertia
        self._changed_inertia = (
            changed.stat.meaninertia
            if reference.stat.meaninertia != changed.stat.meaninertia
            else self._inertia
        )

    def addresses(self) -> set[int]:
        """Where the changed numbers are in memory, but for the mean inertia."""
        return {
            address for array, where, *_ in self._arrays for address in addresses_of(array, where)
        }

    def doubles(self) -> list[tuple[float, float]]:
        """The addresses of the changed numbers, as doubles with the bits of an integer, and what they become.

        Raises:
            ValueError: if one of them is no float64.
        """
        found: list[tuple[int, float]] = []
        for array, where, _, after in self._arrays:
            if array.dtype != np.float64 or not array.flags.c_contiguous:
                raise ValueError("the change is not of float64 alone")
            found += zip(addresses_of(array, where), after.tolist(), strict=True)
        if self._changed_inertia != self._inertia:
            # in mjStatistic it stands four numbers before the center
            center = self._model.stat.center
            address = center.ctypes.data - 4 * center.itemsize
            if ctypes.c_double.from_address(address).value != self._model.stat.meaninertia:
                raise ValueError("this release of MuJoCo has its statistics in another order")
            found.append((address, self._changed_inertia))
        return as_doubles(found)

    def apply(self) -> None:
        """Write the changed numbers."""
        for array, where, _, after in self._arrays:
            array[where] = after
        self._write_inertia(self._changed_inertia)

    def undo(self) -> None:
        """Write the original numbers."""
        for array, where, before, _ in self._arrays:
            array[where] = before
        self._write_inertia(self._inertia)

    def _write_inertia(self, value: float) -> None:
        if self._changed_inertia != self._inertia:  # or it is another change's
            self._model.stat.meaninertia = value


def addresses_of(array: npt.NDArray[Any], where: tuple[npt.NDArray[np.intp], ...]) -> list[int]:
    """Where numbers of an array are in memory, which are given as ``np.nonzero`` gives them."""
    places: list[int] = np.ravel_multi_index(where, array.shape).tolist()
    return [array.ctypes.data + array.itemsize * place for place in places]


def as_doubles(found: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """A table for a compiled step: addresses, as doubles with the bits of an integer, and a number for each."""
    addresses = np.array([address for address, _ in found], np.int64).view(np.float64)
    return list(zip(addresses.tolist(), [value for _, value in found], strict=True))


def _arrays(owner: Any) -> list[str]:
    return [
        name
        for name in dir(owner)
        if not name.startswith("_") and isinstance(getattr(owner, name), np.ndarray)
    ]


def read_specification(model: mujoco.MjModel, path: str) -> mujoco.MjSpec:
    """Read a compiled model's file, with densities that give the masses of the model."""
    specification = mujoco.MjSpec.from_file(path)
    total = getattr(specification.compiler, "settotalmass", -1.0)  # MuJoCo is about to drop it
    if total > 0.0:
        specification.compiler.settotalmass = -1.0
    compiled = specification.compile()  # from now on its parts have the ids of the model
    if total > 0.0:
        # HalfCheetah sets its total mass: a lighter shin would make every other part heavier
        for geom in specification.geoms:
            scale_mass(geom, model.body_mass.sum() / compiled.body_mass.sum())
    return specification


def scale_mass(geom: mujoco.MjsGeom, factor: float) -> None:
    """Scale a geom's mass, whichever way the file gives it."""
    if np.isnan(geom.mass):
        geom.density *= factor
    else:
        geom.mass *= factor
