"""CR-FM-NES: natural evolution strategy whose covariance is σ² D(I + v vᵀ)D, a diagonal and one direction.

Nomura & Ono 2022, "Fast Moving Natural Evolution Strategy for High-Dimensional Problems" (CEC 2022, arXiv 2201.11422);
``rank_one_shape`` is the natural gradient of v and D. Members are

    x_k = h + σ D∘y_k,    y_k = z_k + (√(1 + ‖v‖²) − 1)(v̄·z_k) v̄,    v̄ = v/‖v‖

The authors' code samples pairs (z, −z), as our mirrored pairs are. What v and D learn of a member is even in y, so the
two of a pair enter it with the sum of their weights, and the sums over members become three sums over rebuilt ε:
Σ δ_p ε_p, Σ ω_p a_p ε_p and Σ ω_p (ε_p² − 1) with a_p = v̄·ε_p. Nothing of size n·|h| is ever there.

The population is the user's; for a smooth fitness of d coordinates the usual one is 4 + ⌊3 ln d⌋, made even, and more
where it is rugged or noisy.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from esd.config.fields import POSITIVE, setting
from esd.config.settings import EvolutionSettings
from esd.evolution import strict_math
from esd.evolution.algorithm import Algorithm, AlgorithmKind, EvolutionState, Update
from esd.evolution.halves import first_half
from esd.evolution.noise import Noise, Purpose, adapting_noise, normals
from esd.evolution.rank_one_shape import evolve
from esd.evolution.shaping import by_rank, log_rank_weights
from esd.evolution.vectors import PIECE, Float32s, Float64s, pieces
from esd.kernels.reduce import block_sums_of_squares, in_order

f32 = np.float32


@dataclass(frozen=True)
class CRFMNESSettings(EvolutionSettings):
    """[es] with ``algorithm = "cr_fm_nes"``."""

    learning_rate: float = setting(1.0, "Learning rate of h; 1 in the paper", **POSITIVE)

    def problems(self) -> Iterator[str]:
        """See ``EvolutionSettings.problems``."""
        yield from adapting_noise(self.noise)


@dataclass(frozen=True)
class Constants:
    """The paper's constants, from the population and the size of h (its table of recommended settings)."""

    effective: float
    path_sigma: float
    path_c: float
    rank_one: float
    chi: float
    distance: float
    stagnation: float
    convergence: float
    shape: float

    @classmethod
    @functools.lru_cache(maxsize=16)
    def of(cls, population: int, size: int) -> Constants:
        """For n members of d coordinates; the paper's learning rate of p_c is negative for d < 5, where 0 is taken."""
        n, d = float(population), float(size)
        ranked = log_rank_weights(population)
        mu = math.fsum(ranked) ** 2 / math.fsum(ranked * ranked)
        exp, log, tanh = strict_math.exp, strict_math.log, strict_math.tanh
        low, high = 0.0, 10.0  # of the α with (1 + α²) e^(α²/2)/0.24 = 10 + d
        for _ in range(100):
            middle = 0.5 * (low + high)
            too_low = (1.0 + middle**2) * exp(0.5 * middle**2) / 0.24 < 10.0 + min(d, 2000.0)
            low, high = (middle, high) if too_low else (low, middle)
        return cls(
            effective=mu,
            path_sigma=(mu + 2.0) / (d + mu + 5.0),
            path_c=(4.0 + mu / d) / (d + 4.0 + 2.0 * mu / d),
            rank_one=max(0.0, 2.0 / ((d + 1.3) ** 2 + mu) * (d - 5.0) / 6.0),
            chi=math.sqrt(d) * (1.0 - 1.0 / (4.0 * d) + 1.0 / (21.0 * d * d)),
            distance=low * min(1.0, math.sqrt(n / d)),
            stagnation=tanh((0.024 * n + 0.7 * d + 20.0) / (d + 12.0)),
            convergence=2.0 * tanh((0.025 * n + 0.75 * d + 10.0) / (d + 4.0)),
            shape=tanh((min(0.02 * n, 3.0 * log(d)) + 5.0) / (0.23 * d + 25.0)),
        )


@dataclass(frozen=True)
class CRFMNES(Algorithm):
    """CR-FM-NES.

    Attributes:
        noise: where the ε come from.
        population: n, even.
        sigma: σ_0.
        learning_rate: of h.
        reduction: a name in ``reduction.REDUCTIONS``.
    """

    noise: Noise
    population: int
    sigma: float
    learning_rate: float = 1.0
    reduction: str = "mean"

    def start(self, h: Float32s) -> EvolutionState:
        """See ``Algorithm.start``; v_0 is a random direction of the seed."""
        v = normals(self.noise.seed, Purpose.ALGORITHM, h.size)
        v *= f32(1.0 / math.sqrt(h.size))
        deviations = np.sqrt(f32(1.0) + v * v)
        return EvolutionState(
            generation=0,
            h=h,
            vectors={
                "v": v,
                "D": np.ones_like(h),
                "p_sigma": np.zeros_like(h),
                "p_c": np.zeros_like(h),
            },
            scalars={
                "sigma": self.sigma,
                "sigma_min": self.sigma * float(deviations.min()),
                "sigma_max": self.sigma * float(deviations.max()),
                "learning_rate": self.learning_rate,
                "v_square": float(in_order(block_sums_of_squares(v))),
            },
        )

    def summed_first(self, state: EvolutionState, member: int) -> Float64s:
        """v̄·ε of the member's pair, float64 [1]."""
        scratch, nothing = np.empty(min(PIECE, state.h.size), np.float32), np.zeros(1, np.float32)
        pair, t, v = member // 2, state.generation, state.vectors["v"]
        partials = [
            self.noise.correlate(nothing, pair, t, v[piece], scratch[: v[piece].size], piece.start)
            for piece in pieces(v.size)
        ]
        dot = in_order(np.concatenate([blocks[0, 0] for blocks in partials]))
        return np.array([dot / math.sqrt(state.scalars["v_square"])])

    def perturb(
        self, state: EvolutionState, member: int, start: int, out: Float32s, sums: Float64s
    ) -> None:
        """See ``Algorithm.perturb``."""
        here, square = slice(start, start + out.size), state.scalars["v_square"]
        stretch = (math.sqrt(1.0 + square) - 1.0) * float(sums[0]) / math.sqrt(square)
        along = f32(stretch) * state.vectors["v"][here]
        self.noise.perturb(along, 1.0, member & ~1, state.generation, out, start)
        out *= f32(state.sigma) * state.vectors["D"][here]
        (np.add if member % 2 == 0 else np.subtract)(state.h[here], out, out=out)

    def rank_weights(self, ranked: Float64s) -> Float64s:
        """w_k = ŵ_k/Σŵ − 1/n, from ŵ."""
        return _to_zero(ranked)

    def update(self, update: Update) -> dict[str, float]:
        """See ``Algorithm.update``."""
        whole, before, after = update.whole, update.before, update.after
        constants = Constants.of(self.population, whole.size)
        sigma, square = update.scalars["sigma"], update.scalars["v_square"]
        ranked = by_rank(update.fitness, log_rank_weights(self.population))
        by_ranks = self.rank_weights(ranked)

        # the path of σ; v̄·ε and ‖ε‖² of every pair
        path = after["p_sigma"]
        path[...] = 0.0
        c = constants.path_sigma
        pull = math.sqrt(c * (2.0 - c) * constants.effective)
        partials = self.noise.correlate(
            _differences(pull * by_ranks), 0, update.generation, before["v"], path, update.start
        )
        for piece in pieces(path.size):
            path[piece] += f32(1.0 - c) * before["p_sigma"][piece]
        pairs = self.population // 2
        dots, squares = whole.sums(partials.reshape(2 * pairs, -1)).reshape(2, pairs)
        along = dots / math.sqrt(square)
        speed = whole.norm(path)

        # weights, and how fast σ follows
        moves = speed >= constants.chi
        weights = self._far_weights(ranked, squares, constants) if moves else by_ranks
        if moves:
            rate = 1.0
        elif speed >= 0.1 * constants.chi:
            rate = constants.stagnation
        else:
            rate = constants.convergence
        of_pairs = weights[0::2] + weights[1::2]
        growth = math.fsum(of_pairs * (squares - whole.size)) / whole.size
        next_sigma = sigma * strict_math.exp(0.5 * rate * growth)

        omegas = constants.shape * of_pairs
        self._move(update, constants, weights, omegas, along)
        shape = evolve(update, omegas, along, constants.rank_one)
        return {
            "sigma": next_sigma,
            "sigma_min": next_sigma * shape.least,
            "sigma_max": next_sigma * shape.most,
            "learning_rate": update.scalars["learning_rate"],
            "v_square": shape.v_square,
        }

    def _far_weights(self, ranked: Float64s, squares: Float64s, constants: Constants) -> Float64s:
        """Weights that favor members far from h: ŵ_k exp(α‖z_k‖), to the sum 1, − 1/n."""
        lengths = np.repeat(np.sqrt(squares), 2)
        longest = float(lengths.max())  # which cancels, and keeps the exponentials finite
        far = [strict_math.exp(constants.distance * (length - longest)) for length in lengths]
        return _to_zero(ranked * np.array(far))

    def _move(
        self,
        update: Update,
        constants: Constants,
        weights: Float64s,
        omegas: Float64s,
        along: Float64s,
    ) -> None:
        """Write h and p_c; leave Σ ω_p a_p ε_p and Σ ω_p (ε_p² − 1) in place of v and D, for ``evolve``."""
        before, after = update.before, update.after
        sigma, square = update.scalars["sigma"], update.scalars["v_square"]
        alpha = update.scalars["learning_rate"]
        of_pairs = _differences(weights)
        rows = np.stack([of_pairs, (omegas * along).astype(np.float32), first_half(of_pairs)])
        square_weights = omegas.astype(np.float32)
        stretch = (math.sqrt(1.0 + square) - 1.0) / math.sqrt(square)
        stretch *= math.fsum((weights[0::2] - weights[1::2]) * along)
        c = constants.path_c
        pull = math.sqrt(c * (2.0 - c) * constants.effective)
        buffer = np.empty((3, min(PIECE, after["h"].size)), np.float32)
        for piece in pieces(after["h"].size):
            sums = buffer[:, : piece.stop - piece.start]
            start = update.start + piece.start
            squares = after["D"][piece]
            self.noise.moments(rows, square_weights, update.generation, sums, squares, start)
            if update.halves is not None:
                update.halves.see(piece.start, sums[2], sums[0])
            step = before["D"][piece] * (sums[0] + f32(stretch) * before["v"][piece])
            after["h"][piece] = before["h"][piece] + f32(alpha * sigma) * step
            after["p_c"][piece] = f32(1.0 - c) * before["p_c"][piece] + f32(pull) * step
            after["v"][piece] = sums[1]


def _to_zero(weights: Float64s) -> Float64s:
    """As shares of their sum, minus their mean."""
    return weights / math.fsum(weights) - 1.0 / weights.size


def _differences(weights: Float64s) -> Float32s:
    """Of the two members of each pair, float32 [n/2]: the weights of ε_p in Σ_k w_k z_k."""
    return (weights[0::2] - weights[1::2]).astype(np.float32)


def _build(settings: CRFMNESSettings, noise: Noise, population: int, reduction: str) -> CRFMNES:
    return CRFMNES(
        noise=noise,
        population=population,
        sigma=settings.sigma,
        learning_rate=settings.learning_rate,
        reduction=reduction,
    )


CR_FM_NES = AlgorithmKind(CRFMNESSettings, _build)
