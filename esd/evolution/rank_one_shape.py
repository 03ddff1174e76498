"""The natural gradient of D and v in a covariance D(I + v vᵀ)D, D diagonal, and the step along it.

Akimoto, Auger & Hansen 2014, "Comparison-based natural gradient optimization in high dimension" (GECCO, VD-CMA), as
``cr_fm_nes`` uses it. For samples y_k with weights ω_k, v̄ = v/‖v‖, γ = 1 + ‖v‖², c_k = v̄·y_k:

    t_k = c_k y_k − ½ (c_k² + γ) v̄
    s_k = y_k² − ‖v‖²/γ c_k v̄∘y_k − 1 − α/γ ((2 + ‖v‖²) v̄∘t_k − ‖v‖² (v̄·t_k) v̄²)
    s_k ← s_k/H − b/(1 + b q) (Σ s_k v̄²/H) v̄²/H,    H = 2 − (b + 2α²) v̄²,    q = Σ v̄⁴/H
    t_k ← t_k − α ((2 + ‖v‖²) v̄∘s_k − (Σ s_k v̄²) v̄)
    v ← v + Σ ω_k t_k/‖v‖,    D ← D + D∘Σ ω_k s_k

All of it is linear in t_k and s_k, so only their weighted sums are made. D is then divided by the d-th root of
det(D²(I + v vᵀ))^½, which leaves the size of the distribution to σ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from esd.evolution import strict_math
from esd.evolution.algorithm import Update
from esd.evolution.vectors import Float32s, Float64s, pieces
from esd.kernels.distribution import block_dots, block_spreads
from esd.kernels.reduce import block_sums_of_squares, in_order

f32 = np.float32
_LONGEST = 2.0  # step of v, if ‖v‖ is not longer
_MOST = 1.1  # change of a coordinate of D, as a share of it
_LEAST = f32(-0.9)  # likewise: D stays positive


@dataclass(frozen=True)
class Evolved:
    """The next shape in numbers.

    Attributes:
        v_square: ‖v‖².
        least: of the coordinates' deviations D √(1 + v²), the smallest.
        most: the largest.
    """

    v_square: float
    least: float
    most: float


@dataclass(frozen=True)
class _Gradient:
    """The sums over samples, and all that is the same for every coordinate.

    Attributes:
        square: ‖v‖².
        alpha: the damping α of the Fisher matrix.
        b: see the module.
        rank_one: the weight of the sample p_c/D.
        along_path: its c.
        weights: Σ ω_k, that sample's included.
        squares: Σ ω_k c_k², likewise.
        pair_squares: Σ ω_p a_p² of the members, by pairs.
        update: whose slice.
    """

    square: float
    alpha: float
    b: float
    rank_one: float
    along_path: float
    weights: float
    squares: float
    pair_squares: float
    update: Update

    def direction(self, piece: slice) -> tuple[Float32s, Float32s]:
        """v̄ and v̄²/H."""
        return _direction(self.update.before["v"][piece], self.square, self.alpha, self.b)

    def summed(self, piece: slice) -> tuple[Float32s, Float32s]:
        """Σ ω t and Σ ω s, t and s before they have to do with each other."""
        before, after = self.update.before, self.update.after
        gamma, alpha = 1.0 + self.square, self.alpha
        stretch = math.sqrt(gamma) - 1.0
        along, of_squares = after["v"][piece], after["D"][piece]  # over z; of y they are:
        v_bar, _ = self.direction(piece)
        path = after["p_c"][piece] / before["D"][piece]
        first = f32(math.sqrt(gamma)) * (along + f32(stretch * self.pair_squares) * v_bar)
        first += f32(self.rank_one * self.along_path) * path
        second = of_squares + f32(2.0 * stretch) * (v_bar * along)
        second += f32(stretch * stretch * self.pair_squares) * (v_bar * v_bar)
        second += f32(self.rank_one) * (path * path - f32(1.0))
        t = first - f32(0.5 * (self.squares + gamma * self.weights)) * v_bar
        s = second - f32(self.square / gamma) * (v_bar * first)
        dot = 0.5 * (self.squares - gamma * self.weights)  # v̄·t
        s -= f32(alpha / gamma * (2.0 + self.square)) * (t * v_bar)
        s += f32(alpha / gamma * self.square * dot) * (v_bar * v_bar)
        return t, s


def evolve(update: Update, omegas: Float64s, along: Float64s, rank_one: float) -> Evolved:
    """Write the next v and D.

    Args:
        update: whose ``after`` holds Σ ω_p a_p ε_p as v, Σ ω_p (ε_p² − 1) as D, and the next p_c.
        omegas: ω_p of mirrored pairs, float64 [pairs].
        along: a_p = v̄·ε_p.
        rank_one: weight of the sample p_c/D.
    """
    whole, before, after = update.whole, update.before, update.after
    size, square = after["v"].size, update.scalars["v_square"]
    gamma = 1.0 + square
    most = whole.largest(before["v"]) ** 2 / square  # of v̄²
    alpha = math.sqrt(square * square + (2.0 * gamma - math.sqrt(gamma)) / most) / (2.0 + square)
    alpha = min(1.0, alpha)
    b = -(1.0 - alpha * alpha) * square * square / gamma + 2.0 * alpha * alpha

    def path_and_direction(piece: slice) -> Float64s:
        v_bar, ratio = _direction(before["v"][piece], square, alpha, b)
        path = after["p_c"][piece] / before["D"][piece]
        return np.stack([block_dots(path, v_bar), block_dots(v_bar * v_bar, ratio)])

    along_path, q = whole.sums(_over_pieces(size, 2, path_and_direction))
    pair_squares = math.fsum(omegas * along * along)
    gradient = _Gradient(
        square=square,
        alpha=alpha,
        b=b,
        rank_one=rank_one,
        along_path=float(along_path),
        weights=math.fsum(omegas) + rank_one,
        squares=gamma * pair_squares + rank_one * float(along_path) ** 2,
        pair_squares=pair_squares,
        update=update,
    )

    def along_ratio(piece: slice) -> Float64s:
        _, s = gradient.summed(piece)
        _, ratio = gradient.direction(piece)
        dots: Float64s = block_dots(s, ratio)[None]
        return dots

    dot = float(whole.sums(_over_pieces(size, 1, along_ratio))[0])
    denominator = 1.0 + b * float(q)
    dot_after = dot / denominator if denominator else 0.0  # Σ s v̄²
    step = 1.0 / math.sqrt(square)
    for piece in pieces(size):
        t, s = gradient.summed(piece)
        v_bar, ratio = gradient.direction(piece)
        s = s / _h(v_bar, alpha, b) - f32(b * dot_after) * ratio
        t -= f32(alpha * (2.0 + square)) * (s * v_bar)
        t += f32(alpha * dot_after) * v_bar
        after["v"][piece] = f32(step) * t
        after["D"][piece] = s
    share = f32(_share_of_step(update))
    for piece in pieces(size):
        v, d = before["v"][piece], before["D"][piece]
        after["v"][piece] = v + share * after["v"][piece]
        after["D"][piece] = d + d * np.maximum(share * after["D"][piece], _LEAST)
    return _normalized(update)


def _share_of_step(update: Update) -> float:
    """How much of the step that ``after`` holds is made: all of it, but where it would leave what it is valid for.

    Not in the papers: where the covariance that is needed is far from this form, a rare step makes v a hundred times
    longer or D negative, and nothing is ever right again. Steps on functions that it is made for stay below.
    """
    longest = max(_LONGEST, math.sqrt(update.scalars["v_square"]))
    length = update.whole.norm(update.after["v"])
    most = update.whole.largest(update.after["D"])
    return min(1.0, longest / max(length, longest), _MOST / max(most, _MOST))


def _normalized(update: Update) -> Evolved:
    """Divide D by the d-th root of the determinant of D(I + v vᵀ)^½."""
    whole, v, d = update.whole, update.after["v"], update.after["D"]

    def spreads(piece: slice) -> Float64s:
        deviations = d[piece] * np.sqrt(f32(1.0) + v[piece] * v[piece])
        logs = block_spreads(d[piece])[:1]
        return np.vstack([logs, block_sums_of_squares(v[piece]), block_spreads(deviations)[1:]])

    logs, squares, least, most = whole.gather(_over_pieces(v.size, 4, spreads))
    square = float(in_order(squares))
    log = (float(in_order(logs)) + 0.5 * strict_math.log(1.0 + square)) / whole.size
    scale = strict_math.exp(-log)
    least_of_all, most_of_all = float(least.min()), float(most.max())
    d *= f32(scale)
    return Evolved(square, scale * least_of_all, scale * most_of_all)


def _h(v_bar: Float32s, alpha: float, b: float) -> Float32s:
    return f32(2.0) - f32(b + 2.0 * alpha * alpha) * (v_bar * v_bar)


def _direction(v: Float32s, square: float, alpha: float, b: float) -> tuple[Float32s, Float32s]:
    """v̄ and v̄²/H."""
    v_bar: Float32s = f32(1.0 / math.sqrt(square)) * v
    ratio: Float32s = v_bar * v_bar / _h(v_bar, alpha, b)
    return v_bar, ratio


def _over_pieces(size: int, rows: int, partials: Callable[[slice], Float64s]) -> Float64s:
    """Partials of blocks, float64 [rows, blocks], from those of pieces."""
    return np.concatenate([np.empty((rows, 0)), *map(partials, pieces(size))], axis=1)
