"""Separable natural evolution strategies (SNES): one σ per coordinate, learned by the natural gradient.

Schaul, Glasmachers & Schmidhuber 2011, "High dimensions and heavy tails for natural evolution strategies" (GECCO),
algorithm 1. Members ranked k = 1…n (best first) have the utilities

    u_k = max(0, ln(n/2 + 1) − ln k)/Σ_j max(0, ln(n/2 + 1) − ln j) − 1/n

and with their samples z_k

    h ← h + η_h σ∘Σ u_k z_k,    σ ← σ∘exp(½ η_σ Σ u_k (z_k² − 1)),    η_h = 1, η_σ = (3 + ln d)/(5 √d)

The paper draws all z independently; here they are mirrored pairs (z, −z), which estimate the mean's gradient with less
variance, and one ε is rebuilt for two members.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from esd.config.fields import NOT_NEGATIVE, POSITIVE, setting
from esd.config.settings import EvolutionSettings
from esd.evolution import strict_math
from esd.evolution.algorithm import Algorithm, AlgorithmKind, EvolutionState, Update
from esd.evolution.halves import first_half
from esd.evolution.noise import Noise, adapting_noise
from esd.evolution.shaping import by_rank, log_rank_weights
from esd.evolution.vectors import Float32s, Float64s, pieces
from esd.kernels.distribution import exponentials


@dataclass(frozen=True)
class SNESSettings(EvolutionSettings):
    """[es] with ``algorithm = "snes"``."""

    learning_rate: float = setting(1.0, "Learning rate η_h of h", **POSITIVE)
    sigma_learning_rate: float = setting(
        0.0, "Learning rate η_σ of sigma. 0: (3 + ln |h|)/(5 √|h|)", **NOT_NEGATIVE
    )

    def problems(self) -> Iterator[str]:
        """See ``EvolutionSettings.problems``."""
        yield from adapting_noise(self.noise)


@dataclass(frozen=True)
class SNES(Algorithm):
    """SNES with mirrored pairs.

    Attributes:
        noise: where the ε come from.
        population: n, even.
        sigma: σ_0 of every coordinate.
        learning_rate: η_h.
        sigma_learning_rate: η_σ; 0: by the size of h.
        reduction: a name in ``reduction.REDUCTIONS``.
    """

    noise: Noise
    population: int
    sigma: float
    learning_rate: float = 1.0
    sigma_learning_rate: float = 0.0
    reduction: str = "mean"

    def start(self, h: Float32s) -> EvolutionState:
        """See ``Algorithm.start``."""
        return EvolutionState(
            generation=0,
            h=h,
            vectors={"sigma": np.full_like(h, self.sigma)},
            scalars={
                **dict.fromkeys(("sigma", "sigma_min", "sigma_max"), self.sigma),
                "learning_rate": self.learning_rate,
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

    def utilities(self, fitness: Float64s) -> Float64s:
        """U of each member, float64 [n]; ties share theirs."""
        weights = log_rank_weights(self.population)
        return by_rank(fitness, weights / math.fsum(weights)) - 1.0 / self.population

    def update(self, update: Update) -> dict[str, float]:
        """See ``Algorithm.update``."""
        size, alpha = update.whole.size, update.scalars["learning_rate"]
        eta = self.sigma_learning_rate or (3.0 + strict_math.log(size)) / (5.0 * math.sqrt(size))
        u = self.utilities(update.fitness)
        weights, square_weights = (
            x.astype(np.float32) for x in (u[0::2] - u[1::2], u[0::2] + u[1::2])
        )
        h, sigma, before = update.after["h"], update.after["sigma"], update.before["sigma"]
        rows = np.stack([weights, first_half(weights)])
        for piece in pieces(h.size):
            x, s = h[piece], sigma[piece]
            start = update.start + piece.start
            sums = np.empty((2, x.size), np.float32)
            self.noise.moments(rows, square_weights, update.generation, sums, s, start)
            x[...] = sums[0]
            if update.halves is not None:
                update.halves.see(piece.start, sums[1], sums[0])
            x *= np.float32(alpha) * before[piece]
            x += update.before["h"][piece]
            s *= np.float32(0.5 * eta)
            exponentials(s, s)
            s *= before[piece]
        return {**update.whole.spread(sigma).scalars(), "learning_rate": alpha}


def _build(settings: SNESSettings, noise: Noise, population: int, reduction: str) -> SNES:
    return SNES(
        noise=noise,
        population=population,
        sigma=settings.sigma,
        learning_rate=settings.learning_rate,
        sigma_learning_rate=settings.sigma_learning_rate,
        reduction=reduction,
    )


SNES_KIND = AlgorithmKind(SNESSettings, _build)
