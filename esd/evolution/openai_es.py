"""OpenAI-ES: a gradient estimated from mirrored pairs of perturbations, which an optimizer follows.

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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from esd.config.fields import NOT_NEGATIVE, SHARE, setting
from esd.evolution.algorithm import Algorithm, AlgorithmKind, EvolutionState, Update
from esd.evolution.noise import Noise
from esd.evolution.optimizers import GradientSettings, Optimizer
from esd.evolution.schedules import Decay
from esd.evolution.shaping import SHAPINGS
from esd.evolution.vectors import Float32s, Float64s


@dataclass(frozen=True)
class OpenAIESSettings(GradientSettings):
    """[es] with ``algorithm = "openai_es"``."""

    sigma_decay: float = setting(
        1.0, "Factor by which sigma is multiplied in each generation", **SHARE
    )
    sigma_min: float = setting(0.0, "Lower limit of sigma", **NOT_NEGATIVE)

    def problems(self) -> Iterator[str]:
        """See ``EvolutionSettings.problems``."""
        if self.sigma_min > self.sigma:
            yield f"es.sigma_min = {self.sigma_min}: expected at most es.sigma = {self.sigma}"
        yield from super().problems()


@dataclass(frozen=True)
class Strategy(Algorithm):
    """OpenAI-ES.

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
        """See ``Algorithm.start``."""
        return EvolutionState(
            generation=0,
            h=h,
            vectors={name: np.zeros_like(h) for name in self.optimizer.moment_names},
            scalars={
                "sigma": self.sigma.start,
                "learning_rate": self.learning_rate.start,
                **self.optimizer.initial_scalars(),
            },
        )

    def deviations(self, state: EvolutionState) -> float:
        """See ``Algorithm.deviations``."""
        return state.sigma

    def perturb(
        self, state: EvolutionState, member: int, start: int, out: Float32s, sums: Float64s
    ) -> None:
        """See ``Algorithm.perturb``."""
        h = state.h[start : start + out.size]
        self.noise.perturb(h, state.sigma, member, state.generation, out, start)

    def ask_many(self, state: EvolutionState, members: Sequence[int | None], out: Float32s) -> None:
        """See ``Algorithm.ask_many``."""
        numbers = np.array([-1 if member is None else member for member in members], np.int64)
        self.noise.perturb_many(state.h, state.sigma, numbers, state.generation, out)

    def pair_weights(self, fitness: Float64s, sigma: float) -> Float32s:
        """(F₂ₚ − F₂ₚ₊₁)/(nσ) for each mirrored pair p, float32 [n/2]: the weight of ε_p in the gradient."""
        shaped = SHAPINGS[self.shaping](fitness)
        weights: Float64s = (shaped[0::2] - shaped[1::2]) / (self.population * sigma)
        return weights.astype(np.float32)

    def gradient(self, state: EvolutionState, fitness: Float64s) -> Float32s:
        """The estimate g = 1/(nσ) Σ Fᵢ εᵢ from rebuilt noise, float32 [|h|]."""
        out = np.empty_like(state.h)
        self.noise.accumulate(self.pair_weights(fitness, state.sigma), state.generation, out)
        return out

    def update(self, update: Update) -> dict[str, float]:
        """See ``Algorithm.update``."""
        sigma, alpha = update.scalars["sigma"], update.scalars["learning_rate"]
        weights = self.pair_weights(update.fitness, sigma)
        # what follows h holds the gradient first
        gradient = update.after["h"]
        self.noise.accumulate(weights, update.generation, gradient, update.start, update.halves)
        return {
            **update.follow(self.optimizer, alpha, self.weight_decay),
            "sigma": self.sigma.next(sigma),
            "learning_rate": self.learning_rate.next(alpha),
        }


def _build(settings: OpenAIESSettings, noise: Noise, population: int, reduction: str) -> Strategy:
    return Strategy(
        noise=noise,
        population=population,
        sigma=Decay(settings.sigma, settings.sigma_decay, settings.sigma_min),
        learning_rate=settings.learning_rates,
        optimizer=settings.make_optimizer(),
        shaping=settings.shaping,
        weight_decay=settings.weight_decay,
        reduction=reduction,
    )


OPENAI_ES = AlgorithmKind(OpenAIESSettings, _build)
