"""Policy gradients with parameter-based exploration (PGPE): a normal distribution with a learned σ per coordinate.

Sehnke et al. 2010, "Parameter-exploring policy gradients" (Neural Networks 23), with symmetric sampling; Toklu,
Liskowski & Srivastava 2020 (arXiv 2008.02387), who follow its gradient by ClipUp. With e_p = σ∘ε_p, and F shaped,

    ∇h = 1/n Σ_p (F⁺_p − F⁻_p) e_p,    ∇σ = 1/n Σ_p (F⁺_p + F⁻_p − 2F̄)·(e_p² − σ²)/σ

∇h goes through an optimizer; σ ← σ + α_σ ∇σ, by at most a share of itself. Steps are proportional to σ, as in evosax
and evotorch, where those of ``openai_es`` are to 1/σ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from esd.config.fields import NOT_NEGATIVE, POSITIVE, setting
from esd.evolution.algorithm import Algorithm, AlgorithmKind, EvolutionState, Update
from esd.evolution.halves import first_half
from esd.evolution.noise import Noise, adapting_noise
from esd.evolution.optimizers import GradientSettings, Optimizer
from esd.evolution.schedules import Decay
from esd.evolution.shaping import SHAPINGS
from esd.evolution.vectors import Float32s, Float64s, pieces


@dataclass(frozen=True)
class PGPESettings(GradientSettings):
    """[es] with ``algorithm = "pgpe"``."""

    learning_rate: float = setting(
        0.1,
        "Learning rate α of the update; with clipup, the length of the first update",
        **POSITIVE,
    )
    optimizer: str = setting(
        "clipup", "Optimizer that turns the gradient into an update (esd list optimizers)"
    )
    sigma_learning_rate: float = setting(0.1, "Learning rate of sigma", **NOT_NEGATIVE)
    sigma_max_change: float = setting(
        0.2,
        "Largest relative change of a coordinate's sigma in one generation",
        expected="0 or more and below 1",
        check=lambda value: 0 <= value < 1,
    )

    def problems(self) -> Iterator[str]:
        """See ``EvolutionSettings.problems``."""
        yield from super().problems()
        yield from adapting_noise(self.noise)


@dataclass(frozen=True)
class PGPE(Algorithm):
    """PGPE with symmetric sampling.

    Attributes:
        noise: where the ε come from.
        population: n, even.
        sigma: σ_0 of every coordinate.
        learning_rate: schedule of α.
        optimizer: makes a step from ∇h.
        sigma_learning_rate: α_σ.
        sigma_max_change: the largest share of itself by which σ changes.
        shaping: a name in ``shaping.SHAPINGS``.
        weight_decay: h shrinks by α·weight_decay·h each generation, apart from the gradient.
        reduction: a name in ``reduction.REDUCTIONS``.
    """

    noise: Noise
    population: int
    sigma: float
    learning_rate: Decay
    optimizer: Optimizer
    sigma_learning_rate: float = 0.1
    sigma_max_change: float = 0.2
    shaping: str = "centered_rank"
    weight_decay: float = 0.0
    reduction: str = "mean"

    def start(self, h: Float32s) -> EvolutionState:
        """See ``Algorithm.start``."""
        moments = {name: np.zeros_like(h) for name in self.optimizer.moment_names}
        return EvolutionState(
            generation=0,
            h=h,
            vectors={**moments, "sigma": np.full_like(h, self.sigma)},
            scalars={
                **self.optimizer.initial_scalars(),
                **dict.fromkeys(("sigma", "sigma_min", "sigma_max"), self.sigma),
                "learning_rate": self.learning_rate.start,
            },
        )

    def deviations(self, state: EvolutionState) -> Float32s:
        """See ``Algorithm.deviations``."""
        return state.vectors["sigma"]

    def perturb(
        self, state: EvolutionState, member: int, start: int, out: Float32s, sums: Float64s
    ) -> None:
        """See ``Algorithm.perturb``."""
        here = slice(start, start + out.size)
        sigma = state.vectors["sigma"][here]
        self.noise.perturb(state.h[here], sigma, member, state.generation, out, start)

    def weights(self, fitness: Float64s) -> tuple[Float32s, Float32s]:
        """Of ε_p in ∇h/σ and of ε_p² − 1 in ∇σ/σ; float32 [n/2] both."""
        shaped = SHAPINGS[self.shaping](fitness)
        better, worse = shaped[0::2], shaped[1::2]
        mean = math.fsum(shaped) / self.population
        of_squares = better + worse - 2.0 * mean
        return (
            ((better - worse) / self.population).astype(np.float32),
            (of_squares / self.population).astype(np.float32),
        )

    def update(self, update: Update) -> dict[str, float]:
        """See ``Algorithm.update``."""
        weights, square_weights = self.weights(update.fitness)
        before, gradient = update.before["sigma"], update.after["h"]
        sigma, limit = update.after["sigma"], np.float32(self.sigma_max_change)
        rows = np.stack([weights, first_half(weights)])
        for piece in pieces(gradient.size):
            g, s = gradient[piece], sigma[piece]
            start = update.start + piece.start
            sums = np.empty((2, g.size), np.float32)
            self.noise.moments(rows, square_weights, update.generation, sums, s, start)
            g[...] = sums[0]
            if update.halves is not None:
                update.halves.see(piece.start, sums[1], sums[0])
            g *= before[piece]
            s *= np.float32(self.sigma_learning_rate)
            np.clip(s, -limit, limit, out=s)
            s += np.float32(1.0)
            s *= before[piece]
        alpha = update.scalars["learning_rate"]
        scalars = update.follow(self.optimizer, alpha, self.weight_decay)
        return {
            **scalars,
            **update.whole.spread(sigma).scalars(),
            "learning_rate": self.learning_rate.next(alpha),
        }


def _build(settings: PGPESettings, noise: Noise, population: int, reduction: str) -> PGPE:
    return PGPE(
        noise=noise,
        population=population,
        sigma=settings.sigma,
        learning_rate=settings.learning_rates,
        optimizer=settings.make_optimizer(),
        sigma_learning_rate=settings.sigma_learning_rate,
        sigma_max_change=settings.sigma_max_change,
        shaping=settings.shaping,
        weight_decay=settings.weight_decay,
        reduction=reduction,
    )


PGPE_KIND = AlgorithmKind(PGPESettings, _build)
