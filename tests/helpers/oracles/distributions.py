"""PGPE, SNES and CR-FM-NES as their papers have them: float64, one row per member, no pairs, no slices.

Members' samples z are given, float64 [n, d], and so is the order of members (no ties). All maximize.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Float64s = npt.NDArray[np.float64]


def ranks(fitness: Float64s) -> npt.NDArray[np.intp]:
    """0 for the best."""
    return np.argsort(np.argsort(-fitness))


def steps(optimizer: str, alpha: float, factor: float) -> Iterator[Float64s]:
    """A coroutine: gets gradients, gives increments; at default settings, α multiplied by ``factor`` after each."""
    v: Float64s | float = 0.0
    s: Float64s | float = 0.0
    t = 0
    step: Float64s = np.empty(0)
    while True:
        g = yield step
        t += 1
        if optimizer == "sgd":
            step = alpha * g
        elif optimizer == "momentum":
            v = 0.9 * v + g
            step = alpha * v
        elif optimizer == "adam":
            v = 0.9 * v + 0.1 * g
            s = 0.999 * s + 0.001 * g * g
            step = alpha * (v / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
        else:
            v = 0.9 * v + alpha * g / np.linalg.norm(g)
            v = v * min(1.0, 2 * alpha / float(np.linalg.norm(v)))
            step = v
        alpha *= factor


@dataclass
class PlainPGPE:
    """Sehnke et al. 2010, symmetric samples: z[2p + 1] = −z[2p]; centered ranks in [−½, ½]."""

    h: Float64s
    sigma: Float64s
    optimizer: str = "sgd"
    alpha: float = 0.1
    factor: float = 1.0
    sigma_alpha: float = 0.1
    limit: float = 0.2
    decay: float = 0.0

    def __post_init__(self) -> None:
        self._steps = steps(self.optimizer, self.alpha, self.factor)
        next(self._steps)

    def tell(self, z: Float64s, fitness: Float64s) -> None:
        n = len(fitness)
        shaped = 0.5 - ranks(fitness) / (n - 1)
        baseline = shaped.mean()
        of_h, of_sigma = np.zeros_like(self.h), np.zeros_like(self.h)
        for p in range(n // 2):
            e = self.sigma * z[2 * p]
            of_h += (shaped[2 * p] - shaped[2 * p + 1]) / n * e
            both = shaped[2 * p] + shaped[2 * p + 1] - 2 * baseline
            of_sigma += both / n * (e**2 - self.sigma**2) / self.sigma
        self.h = self.h + self._steps.send(of_h) - self.alpha * self.decay * self.h
        self.alpha *= self.factor
        change = np.clip(self.sigma_alpha * of_sigma / self.sigma, -self.limit, self.limit)
        self.sigma = self.sigma * (1 + change)


def log_weights(n: int) -> Float64s:
    """max(0, ln(n/2 + 1) − ln k), k = 1…n."""
    return np.maximum(0.0, np.log(n / 2 + 1) - np.log(np.arange(1, n + 1)))


@dataclass
class PlainSNES:
    """Schaul et al. 2011, algorithm 1."""

    h: Float64s
    sigma: Float64s
    alpha: float = 1.0

    def tell(self, z: Float64s, fitness: Float64s) -> None:
        n, d = z.shape
        u = (log_weights(n) / log_weights(n).sum() - 1 / n)[ranks(fitness)]
        eta = (3 + math.log(d)) / (5 * math.sqrt(d))
        self.h = self.h + self.alpha * self.sigma * (u @ z)
        self.sigma = self.sigma * np.exp(eta / 2 * (u @ (z**2 - 1)))


@dataclass
class PlainCRFMNES:
    """Nomura & Ono 2022, algorithm 1, with VD-CMA's natural gradient member by member."""

    h: Float64s
    sigma: float
    v: Float64s
    alpha: float = 1.0
    D: Float64s = field(init=False)
    p_sigma: Float64s = field(init=False)
    p_c: Float64s = field(init=False)

    def __post_init__(self) -> None:
        self.D = np.ones_like(self.h)
        self.p_sigma, self.p_c = np.zeros_like(self.h), np.zeros_like(self.h)

    def y(self, z: Float64s) -> Float64s:
        """What z becomes by (I + v vᵀ)^½, float64 [n, d]."""
        length = np.linalg.norm(self.v)
        unit = self.v / length
        return z + (math.sqrt(1 + length**2) - 1) * np.outer(z @ unit, unit)

    def members(self, z: Float64s) -> Float64s:
        return self.h + self.sigma * self.D * self.y(z)

    def tell(self, z: Float64s, fitness: Float64s) -> None:
        n, d = z.shape
        w_hat = log_weights(n)
        mu_eff = 1 / ((w_hat / w_hat.sum()) ** 2).sum()
        w_hat = w_hat[ranks(fitness)]
        w = w_hat / w_hat.sum() - 1 / n
        c_s = (mu_eff + 2) / (d + mu_eff + 5)
        self.p_sigma = (1 - c_s) * self.p_sigma + math.sqrt(c_s * (2 - c_s) * mu_eff) * (w @ z)
        length = np.linalg.norm(self.p_sigma)
        chi = math.sqrt(d) * (1 - 1 / (4 * d) + 1 / (21 * d**2))
        if length >= chi:
            alpha = self.h_inverse(d) * min(1, math.sqrt(n / d))
            w = w_hat * np.exp(alpha * np.linalg.norm(z, axis=1))
            w = w / w.sum() - 1 / n
            eta_s = 1.0
        elif length >= 0.1 * chi:
            eta_s = math.tanh((0.024 * n + 0.7 * d + 20) / (d + 12))
        else:
            eta_s = 2 * math.tanh((0.025 * n + 0.75 * d + 10) / (d + 4))

        y = self.y(z)
        step = w @ (self.D * y)
        c_c = (4 + mu_eff / d) / (d + 4 + 2 * mu_eff / d)
        self.p_c = (1 - c_c) * self.p_c + math.sqrt(c_c * (2 - c_c) * mu_eff) * step
        self.h = self.h + self.alpha * self.sigma * step

        weights = math.tanh((min(0.02 * n, 3 * math.log(d)) + 5) / (0.23 * d + 25)) * w
        c_1 = 2 / ((d + 1.3) ** 2 + mu_eff) * (d - 5) / 6
        norm2 = float(self.v @ self.v)
        v_bar, gamma = self.v / math.sqrt(norm2), 1 + norm2
        alpha = math.sqrt(norm2**2 + (2 * gamma - math.sqrt(gamma)) / (v_bar**2).max())
        alpha = min(1.0, alpha / (2 + norm2))
        b = -(1 - alpha**2) * norm2**2 / gamma + 2 * alpha**2
        big_h = 2 - (b + 2 * alpha**2) * v_bar**2
        ratio = v_bar**2 / big_h
        of_v, of_d = np.zeros(d), np.zeros(d)
        for weight, x in [*zip(weights, y, strict=True), (c_1, self.p_c / self.D)]:
            along = x @ v_bar
            t = along * x - v_bar / 2 * (along**2 + gamma)
            s = x**2 - norm2 / gamma * along * v_bar * x - 1
            s -= alpha / gamma * ((2 + norm2) * v_bar * t - norm2 * (v_bar @ t) * v_bar**2)
            s = s / big_h - b / (1 + b * (v_bar**2 @ ratio)) * (s @ ratio) * ratio
            t -= alpha * ((2 + norm2) * v_bar * s - (s @ v_bar**2) * v_bar)
            of_v += weight * t
            of_d += weight * s
        self.v = self.v + of_v / math.sqrt(norm2)
        self.D = self.D + self.D * of_d
        log_root = np.log(self.D).mean() + math.log(1 + self.v @ self.v) / (2 * d)
        self.D = self.D / math.exp(log_root)
        self.sigma *= math.exp(eta_s / 2 * (w @ (z**2 - 1).sum(axis=1)) / d)

    @staticmethod
    def h_inverse(d: int) -> float:
        """The α with (1 + α²) e^(α²/2) = 0.24 (10 + d), by a search among 10⁶ values."""
        alpha = np.linspace(0, 10, 1_000_001)
        return float(
            np.interp(0.24 * (10 + min(d, 2000)), (1 + alpha**2) * np.exp(alpha**2 / 2), alpha)
        )
