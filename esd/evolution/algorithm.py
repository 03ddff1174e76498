"""What an algorithm is to the rest of esd: ask for perturbed vectors, tell their fitness.

An algorithm is a pure function of its arguments (laws 1 and 2). All that evolves is in an ``EvolutionState``: h, other
vectors of its size, and numbers. A member is made piece by piece, from the state and rebuilt noise. An update is made
slice by slice: every rank of a node writes its own coordinates, and where a sum over all of them is needed it meets the
others in ``Update.whole``. docs/algorithms.md has an example of one's own.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from esd.evolution.halves import Halves
from esd.evolution.noise import Noise
from esd.evolution.optimizers import Ascent, Optimizer
from esd.evolution.vectors import PIECE, Float32s, Float64s, Gather, Whole, pieces


@dataclass(frozen=True)
class AlgorithmKind:
    """One line of ``config.kinds.ALGORITHMS``.

    Attributes:
        settings: what [es] may hold with it, a subclass of ``config.settings.EvolutionSettings``.
        build: makes the algorithm from (settings, noise, population, reduction over variants).
    """

    settings: type[Any]
    build: Callable[[Any, Noise, int, str], Algorithm]


@dataclass(frozen=True)
class EvolutionState:
    """Everything that evolves; what decays is kept as a number, not recomputed from the generation.

    Attributes:
        generation: t, the number of updates made.
        h: float32 [|h|].
        vectors: the algorithm's and its optimizer's vectors by name, float32 [|h|] each.
        scalars: sigma, learning_rate and the numbers of the algorithm and its optimizer, float64.
    """

    generation: int
    h: Float32s
    vectors: dict[str, Float32s]
    scalars: dict[str, float]

    @property
    def sigma(self) -> float:
        """The standard deviation of this generation's perturbations; their geometric mean if coordinates differ."""
        return self.scalars["sigma"]

    @property
    def sigma_range(self) -> tuple[float, float]:
        """The smallest and the largest standard deviation of a coordinate."""
        return (
            self.scalars.get("sigma_min", self.sigma),
            self.scalars.get("sigma_max", self.sigma),
        )

    def named(self) -> dict[str, Float32s]:
        """H and the other vectors, by name."""
        return {"h": self.h, **self.vectors}


@dataclass(frozen=True)
class Update:
    """One slice of an update.

    Attributes:
        generation: t, whose members were evaluated.
        fitness: float64 [population], member by member; NaN and ±inf are failures.
        start: the coordinate at which the slice starts, a multiple of 4,096.
        before: h and the other vectors of state_t by name, the slice's coordinates, float32 [n]; not to be written.
        after: those of state_{t+1}, to be overwritten; what is in them is undefined.
        scalars: the numbers of state_t.
        whole: sums over all slices. Every slice has to ask for the same ones in the same order.
        halves: if given, is shown the gradient's first half on the way (``halves``), as ``Noise.accumulate`` does it.
    """

    generation: int
    fitness: Float64s
    start: int
    before: Mapping[str, Float32s]
    after: Mapping[str, Float32s]
    scalars: Mapping[str, float]
    whole: Whole
    halves: Halves | None = None

    def follow(self, optimizer: Optimizer, learning_rate: float, decay: float) -> dict[str, float]:
        """From the gradient in ``after["h"]`` to the next h, by an optimizer and with weight decay.

        Args:
            optimizer: its moments are among the vectors.
            learning_rate: α.
            decay: h shrinks by α·decay·h, apart from the gradient (as in AdamW).

        Returns:
            The optimizer's next numbers.
        """
        before, after = self.before["h"], self.after["h"]
        scalars = optimizer.step(
            Ascent(
                gradient=after,
                moments={name: self.before[name] for name in optimizer.moment_names},
                following={name: self.after[name] for name in optimizer.moment_names},
                scalars=self.scalars,
                learning_rate=learning_rate,
                norm=self.whole.norm,
            )
        )
        for piece in pieces(after.size):
            after[piece] += before[piece]
            if decay:
                after[piece] -= np.float32(learning_rate * decay) * before[piece]
        return scalars


class Algorithm(abc.ABC):
    """Ask and tell on flat float32 vectors; an algorithm of one's own defines ``start``, ``perturb`` and ``update``.

    Attributes:
        noise: where the ε come from: members 2p and 2p + 1 share ε_p, with the signs + and −.
        population: n, even.
        reduction: a name in ``reduction.REDUCTIONS``, by which returns on several bodies become a fitness.
    """

    noise: Noise
    population: int
    reduction: str

    @abc.abstractmethod
    def start(self, h: Float32s) -> EvolutionState:
        """The state before the first generation; among its scalars are ``sigma`` and ``learning_rate``."""

    @abc.abstractmethod
    def perturb(
        self, state: EvolutionState, member: int, start: int, out: Float32s, sums: Float64s
    ) -> None:
        """Write coordinates of h + Δh_member.

        Args:
            state: of the member's generation.
            member: 0 to n − 1.
            start: the coordinate of out[0], a multiple of 4,096.
            out: float32 [n], overwritten.
            sums: what ``summed_first`` returned for this member.
        """

    @abc.abstractmethod
    def update(self, update: Update) -> dict[str, float]:
        """Write ``update.after`` of every vector and return all scalars of the next state."""

    def summed_first(self, state: EvolutionState, member: int) -> Float64s:
        """Sums over all coordinates that ``perturb`` needs, in fixed blocks; every rank makes them itself."""
        return np.empty(0)

    def deviations(self, state: EvolutionState) -> float | Float32s | None:
        """What ε is multiplied by, for all coordinates or for each; None if a perturbation is more than that."""
        return None

    def ask(self, state: EvolutionState, member: int, out: Float32s) -> Float32s:
        """Write h + Δh_member into ``out`` (float32 [|h|]) and return it."""
        sums = self.summed_first(state, member)
        for piece in pieces(out.size):
            self.perturb(state, member, piece.start, out[piece], sums)
        return out

    def ask_pieces(
        self, state: EvolutionState, member: int | None
    ) -> Iterator[tuple[int, Float32s]]:
        """H + Δh_member piece by piece, so that it is never whole; without a member, h itself.

        Yields:
            The first coordinate of a piece and the piece, float32, in memory that the next one overwrites. Pieces
            start on blocks of 4,096.
        """
        if member is None:
            yield 0, state.h
            return
        sums = self.summed_first(state, member)
        buffer = np.empty(min(PIECE, state.h.size), np.float32)
        for piece in pieces(state.h.size):
            out = buffer[: piece.stop - piece.start]
            self.perturb(state, member, piece.start, out, sums)
            yield piece.start, out

    def ask_many(self, state: EvolutionState, members: Sequence[int | None], out: Float32s) -> None:
        """Write h + Δh of several members of a small h, or h itself for None, into ``out`` (float32 [members, |h|])."""
        for member, own in zip(members, out, strict=True):
            for start, piece in self.ask_pieces(state, member):
                own[start : start + piece.size] = piece

    def tell(self, state: EvolutionState, fitness: Float64s) -> EvolutionState:
        """Make one update.

        Args:
            state: as it was when the members were asked for.
            fitness: float64 [population], member by member; NaN and ±inf rank worst.

        Returns:
            The next state, in new memory.

        Raises:
            ValueError: if there is not one fitness per member.
        """
        after = {name: np.empty_like(vector) for name, vector in state.named().items()}
        whole = slice(0, state.h.size)
        scalars = self.tell_slice(state, fitness, whole, after, lambda partials: partials)
        return EvolutionState(state.generation + 1, after.pop("h"), after, scalars)

    def tell_slice(
        self,
        state: EvolutionState,
        fitness: Float64s,
        part: slice,
        after: Mapping[str, Float32s],
        gather: Gather,
        halves: Halves | None = None,
    ) -> dict[str, float]:
        """Make one update of the coordinates in ``part``; slices that cover h give the bits of the whole.

        Args:
            state: as it was when the members were asked for.
            fitness: float64 [population].
            part: where the slice starts (on a block of 4,096) and stops.
            after: h and the other vectors of the next generation, float32 [|h|] each; ``part`` of them is written.
            gather: see ``Whole``.
            halves: see ``Update``.

        Returns:
            The next scalars.

        Raises:
            ValueError: if there is not one fitness per member.
        """
        if fitness.shape != (self.population,):
            raise ValueError(f"fitness has shape {fitness.shape}, expected ({self.population},)")
        return self.update(
            Update(
                generation=state.generation,
                fitness=fitness,
                start=part.start,
                before={name: vector[part] for name, vector in state.named().items()},
                after={name: vector[part] for name, vector in after.items()},
                scalars=state.scalars,
                whole=Whole(state.h.size, gather),
                halves=halves,
            )
        )
