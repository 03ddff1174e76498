"""The evolution strategy: ask and tell on flat float32 vectors.

Salimans et al. 2017, "Evolution Strategies as a Scalable Alternative to Reinforcement Learning" (arXiv 1703.03864),
with mirrored pairs. The update is

    h ← h + α/(nσ) Σᵢ Fᵢ εᵢ,    Δhᵢ = σ εᵢ,    εᵢ ~ N(0, I),    members 2p and 2p + 1: +ε and −ε,

written for SGD; other optimizers get g = 1/(nσ) Σ Fᵢ εᵢ as their gradient. F is the shaped fitness (``shaping``), n
the population, σ a standard deviation.

The project's notes print h ← h + α/(nσ) Σ Fᵢ (h + Δhᵢ) and leave open how Fᵢ is evaluated. Fᵢ is the mean return of
the network with coefficients h + Δhᵢ over its episodes, each from new random weights. As printed the formula lacks
εᵢ: read as F applied to h + Δhᵢ it would add a scalar to a vector; read as a product it is, since ΣFᵢ = 0,
Σ Fᵢ Δhᵢ = σ Σ Fᵢ εᵢ: our direction, but σ times our length.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esd.config.fields import BELOW_ONE, NOT_NEGATIVE, POSITIVE, SHARE, setting
from esd.config.settings import EvolutionSettings
from esd.evolution.algorithm import AlgorithmKind
from esd.evolution.noise import Noise
from esd.evolution.optimizers import (
    OPTIMIZERS,
    PIECE,
    Moments,
    Norm,
    Optimizer,
    make_optimizer,
    pieces,
)
from esd.evolution.shaping import SHAPINGS
from esd.kernels.reduce import block_sums_of_squares, in_order

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True)
class OpenAIESSettings(EvolutionSettings):
    """[es] with ``algorithm = "openai_es"``."""

    sigma_decay: float = setting(1.0, "factor on sigma per generation", **SHARE)
    sigma_min: float = setting(0.0, "floor of sigma", **NOT_NEGATIVE)
    learning_rate: float = setting(0.2, "α in the update", **POSITIVE)
    learning_rate_decay: float = setting(1.0, "factor on α per generation", **SHARE)
    learning_rate_min: float = setting(0.0, "floor of α", **NOT_NEGATIVE)
    optimizer: str = setting("sgd", "from gradient to step", choices=tuple(OPTIMIZERS))
    momentum: float = setting(0.9, "of momentum and clipup", **BELOW_ONE)
    beta1: float = setting(0.9, "of adam", **BELOW_ONE)
    beta2: float = setting(0.999, "of adam", **BELOW_ONE)
    epsilon: float = setting(1e-8, "of adam", **POSITIVE)
    max_speed: float = setting(0.0, "of clipup; 0: twice the learning rate", **NOT_NEGATIVE)
    shaping: str = setting("centered_rank", "from returns to weights", choices=tuple(SHAPINGS))
    weight_decay: float = setting(
        0.0, "h shrinks by α·weight_decay·h per generation", **NOT_NEGATIVE
    )

    def problems(self) -> Iterator[str]:
        """See ``EvolutionSettings.problems``."""
        for name in ("sigma", "learning_rate"):
            floor, start = getattr(self, f"{name}_min"), getattr(self, name)
            if floor > start:
                yield f"es.{name}_min = {floor}: expected at most es.{name} = {start}"

    def unused(self) -> Iterator[str]:
        """See ``EvolutionSettings.unused``."""
        used = {field.name for field in dataclasses.fields(OPTIMIZERS[self.optimizer])}
        every = {f.name: None for cls in OPTIMIZERS.values() for f in dataclasses.fields(cls)}
        yield from (name for name in every if name not in used)


@dataclass(frozen=True)
class Decay:
    """A quantity multiplied by ``factor`` each generation, but never below ``floor``."""

    start: float
    factor: float = 1.0
    floor: float = 0.0

    def next(self, value: float) -> float:
        """The value one generation later."""
        return max(self.floor, value * self.factor)


@dataclass(frozen=True)
class EvolutionState:
    """Everything that evolves; what decays is kept as a number, not recomputed from the generation.

    Attributes:
        generation: t, the number of updates made.
        h: float32 [|h|].
        moments: the optimizer's vectors, float32 [|h|] each.
        scalars: sigma, learning_rate and the optimizer's numbers, float64.
    """

    generation: int
    h: Float32s
    moments: dict[str, Float32s]
    scalars: dict[str, float]

    @property
    def sigma(self) -> float:
        """The standard deviation of this generation's perturbations."""
        return self.scalars["sigma"]


@dataclass(frozen=True)
class Strategy:
    """Ask for perturbed vectors, tell their fitness; a pure function of its arguments (laws 1 and 2).

    Attributes:
        noise: where the ε come from.
        population: n, even.
        sigma: schedule of the perturbations' standard deviation.
        learning_rate: schedule of α.
        optimizer: makes a step from the gradient.
        shaping: a name in ``shaping.SHAPINGS``.
        weight_decay: per unit of learning rate: h shrinks by α·weight_decay·h each generation, apart from the
            gradient (as in AdamW).
        reduction: a name in ``reduction.REDUCTIONS``, by which returns on several bodies become a fitness.
    """

    noise: Noise
    population: int
    sigma: Decay
    learning_rate: Decay
    optimizer: Optimizer
    shaping: str = "centered_rank"
    weight_decay: float = 0.0
    reduction: str = "mean"

    def start(self, h: Float32s) -> EvolutionState:
        """The state before the first generation."""
        return EvolutionState(
            generation=0,
            h=h,
            moments={name: np.zeros_like(h) for name in self.optimizer.moment_names},
            scalars={
                "sigma": self.sigma.start,
                "learning_rate": self.learning_rate.start,
                **self.optimizer.initial_scalars(),
            },
        )

    def ask(self, state: EvolutionState, member: int, out: Float32s) -> Float32s:
        """Write h + Δh_member into ``out`` (float32 [|h|]) and return it."""
        self.noise.perturb(state.h, state.sigma, member, state.generation, out)
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
        buffer = np.empty(min(PIECE, state.h.size), np.float32)
        for piece in pieces(state.h.size):
            h = state.h[piece]
            out = buffer[: h.size]
            self.noise.perturb(h, state.sigma, member, state.generation, out, piece.start)
            yield piece.start, out

    def pair_weights(self, fitness: Float64s, sigma: float) -> Float32s:
        """(F₂ₚ − F₂ₚ₊₁)/(nσ) for each mirrored pair p, float32 [n/2]: the weight of ε_p in the gradient."""
        shaped = SHAPINGS[self.shaping](fitness)
        weights: Float64s = (shaped[0::2] - shaped[1::2]) / (self.population * sigma)
        return weights.astype(np.float32)

    def gradient(
        self,
        state: EvolutionState,
        fitness: Float64s,
        start: int = 0,
        out: Float32s | None = None,
    ) -> Float32s:
        """The estimate g = 1/(nσ) Σ Fᵢ εᵢ from rebuilt noise, float32 [|h|], or into ``out`` from ``start`` on."""
        out = np.empty_like(state.h) if out is None else out
        self.noise.accumulate(self.pair_weights(fitness, state.sigma), state.generation, out, start)
        return out

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
        h = np.empty_like(state.h)
        moments = {name: np.empty_like(moment) for name, moment in state.moments.items()}
        scalars = self.tell_slice(state, fitness, slice(0, h.size), h, moments, euclidean_norm)
        return EvolutionState(state.generation + 1, h, moments, scalars)

    def tell_slice(
        self,
        state: EvolutionState,
        fitness: Float64s,
        part: slice,
        h: Float32s,
        moments: Moments,
        norm: Norm,
    ) -> dict[str, float]:
        """Make one update of the coordinates in ``part``; slices that cover h give the bits of the whole.

        Args:
            state: as it was when the members were asked for.
            fitness: float64 [population].
            part: where the slice starts and stops.
            h: float32 [|h|], of the next generation; ``part`` of it is written.
            moments: likewise, by name.
            norm: Euclidean norm of a vector over all slices.

        Returns:
            The next scalars.

        Raises:
            ValueError: if there is not one fitness per member.
        """
        if fitness.shape != (self.population,):
            raise ValueError(f"fitness has shape {fitness.shape}, expected ({self.population},)")
        alpha = state.scalars["learning_rate"]
        before, after = state.h[part], h[part]  # what follows h holds the gradient first
        scalars = self.optimizer.step(
            self.gradient(state, fitness, part.start, after),
            {name: moment[part] for name, moment in state.moments.items()},
            {name: moment[part] for name, moment in moments.items()},
            state.scalars,
            alpha,
            norm,
        )
        for piece in pieces(after.size):
            after[piece] += before[piece]
            if self.weight_decay:
                after[piece] -= np.float32(alpha * self.weight_decay) * before[piece]
        return {
            "sigma": self.sigma.next(state.sigma),
            "learning_rate": self.learning_rate.next(alpha),
            **scalars,
        }


def euclidean_norm(x: Float32s) -> float:
    """‖x‖, summed in fixed blocks."""
    return math.sqrt(in_order(block_sums_of_squares(x)))


def mean_square(pieces: Iterable[Float32s]) -> float:
    """Mean of the squares of a vector given in pieces that start on blocks: what ``fitness_penalty`` multiplies."""
    size, partials = 0, []
    for piece in pieces:
        size += piece.size
        partials.append(block_sums_of_squares(piece))
    return float(in_order(np.concatenate(partials))) / size


def _build(settings: OpenAIESSettings, seed: int, population: int, reduction: str) -> Strategy:
    return Strategy(
        noise=Noise(settings.noise, seed),
        population=population,
        sigma=Decay(settings.sigma, settings.sigma_decay, settings.sigma_min),
        learning_rate=Decay(
            settings.learning_rate, settings.learning_rate_decay, settings.learning_rate_min
        ),
        optimizer=make_optimizer(settings.optimizer, **dataclasses.asdict(settings)),
        shaping=settings.shaping,
        weight_decay=settings.weight_decay,
        reduction=reduction,
    )


OPENAI_ES = AlgorithmKind(OpenAIESSettings, _build)
