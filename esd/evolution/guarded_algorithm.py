"""An algorithm of the user's own, checked as its optimizer is (``evolution.guard``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from esd.config.plugins import in_one_line, is_of_the_users_code, users_code
from esd.errors import RunError, UsageError, shortened
from esd.evolution.algorithm import Algorithm, EvolutionState, Update
from esd.evolution.guard import check_in_place, check_written, described, scalars
from esd.evolution.vectors import Float32s, Float64s

PARTS = ("noise", "population", "reduction", "start", "perturb", "update")


class GuardedAlgorithm(Algorithm):
    """See ``algorithm.Algorithm``; other names are the user's."""

    def __init__(self, build: Callable[[], Any], who: str) -> None:
        """Build it.

        Raises:
            UsageError: if that fails, or something is missing.
        """
        self._who = who
        self._look_at_piece = self._look_at_update = True
        with users_code(who, "building it"):
            self.unguarded = build()
            missing = [part for part in PARTS if not hasattr(self.unguarded, part)]
        if missing or not isinstance(self.unguarded, Algorithm):
            lacks = f", which lacks {', '.join(missing)}" if missing else ""
            raise UsageError(
                f"{who}: build returned {described(self.unguarded)}{lacks}; expected a subclass of "
                "esd.evolution.algorithm.Algorithm"
            )
        own = self.unguarded
        self.noise, self.population, self.reduction = own.noise, own.population, own.reduction

    def __getattr__(self, name: str) -> Any:
        """Whatever else the user's has."""
        if name == "unguarded":
            raise AttributeError(name)
        return getattr(self.unguarded, name)

    def start(self, h: Float32s) -> EvolutionState:
        """See ``Algorithm.start``."""
        with users_code(self._who, "start"):
            state = self.unguarded.start(h)
        if not isinstance(state, EvolutionState):
            raise UsageError(
                f"{self._who}: start returned {described(state)}, expected an EvolutionState"
            )
        found = scalars(state.scalars, ("sigma", "learning_rate"), f"{self._who}: start")
        for name, vector in state.named().items():
            if (
                not isinstance(vector, np.ndarray)
                or vector.dtype != np.float32
                or vector.shape != h.shape
            ):
                raise UsageError(
                    f"{self._who}: start returned {described(vector)} as {shortened(name)}, expected float32 "
                    f"[{h.size}] like h"
                )
        return replace(state, scalars=found)

    def perturb(
        self, state: EvolutionState, member: int, start: int, out: Float32s, sums: Float64s
    ) -> None:
        """See ``Algorithm.perturb``."""
        look = self._look_at_piece and bool(np.isfinite(state.h).all())
        if look:
            out.fill(np.nan)
        with users_code(self._who, "perturb", RunError):
            self.unguarded.perturb(state, member, start, out, sums)
        if look:
            self._look_at_piece = False
            check_written({"all of it": out}, f"{self._who}: perturb does not write out")

    def update(self, update: Update) -> dict[str, float]:
        """See ``Algorithm.update``."""
        look = self._look_at_update and all(
            np.isfinite(vector).all() for vector in update.before.values()
        )
        if look:
            for vector in update.after.values():
                vector.fill(np.nan)
        after = dict(update.after)
        with users_code(self._who, "update", RunError):
            found = self.unguarded.update(update)
        check_in_place(after, update.after, f"{self._who}: update", "update.after")
        if look and np.isfinite(update.fitness).all():
            check_written(update.after, f"{self._who}: update does not write update.after")
        self._look_at_update = False
        return scalars(found, ("sigma", "learning_rate"), f"{self._who}: update")

    def summed_first(self, state: EvolutionState, member: int) -> Float64s:
        """See ``Algorithm.summed_first``."""
        with users_code(self._who, "summed_first", RunError):
            sums: Float64s = self.unguarded.summed_first(state, member)
        return sums

    def deviations(self, state: EvolutionState) -> float | Float32s | None:
        """See ``Algorithm.deviations``."""
        with users_code(self._who, "deviations", RunError):
            found: float | Float32s | None = self.unguarded.deviations(state)
        return found

    def ask_pieces(
        self, state: EvolutionState, member: int | None
    ) -> Iterator[tuple[int, Float32s]]:
        """See ``Algorithm.ask_pieces``, which the user's may have of its own."""
        if type(self.unguarded).ask_pieces is Algorithm.ask_pieces:
            yield from super().ask_pieces(state, member)
            return
        found = self.unguarded.ask_pieces(state, member)
        while True:
            try:
                piece = next(found)
            except StopIteration:
                return
            except BaseException as error:
                if not is_of_the_users_code(error):
                    raise
                raise RunError(f"{self._who}: ask_pieces raised {in_one_line(error)}") from error
            yield piece
