"""Optimizers: from the estimated gradient to the increment of h.

Each works on any slice of h: everything is elementwise but for whole-vector norms, which go through ``norm``, the one
place where slices have to meet. Nothing of the slice's size is allocated: an increment takes the place of its
gradient, and what lies between is computed in pieces that stay in cache.

Sources: Kingma & Ba 2015 (Adam); Toklu, Liskowski & Srivastava 2020 (ClipUp, arXiv 2008.02387).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Float32s = npt.NDArray[np.float32]
Norm = Callable[[Float32s], float]
Moments = Mapping[str, Float32s]
Scalars = Mapping[str, float]


PIECE = 65_536  # coordinates
SHORTEST = 1e-30  # a gradient below this has no direction that float32 could hold


def pieces(size: int) -> Iterator[slice]:
    """Cut a vector into pieces that fit a core's cache together with their temporaries."""
    return (slice(start, start + PIECE) for start in range(0, size, PIECE))


class Optimizer(Protocol):
    """One ascent step at a time; all memory is in the moments and scalars that go in and come out."""

    @property
    def moment_names(self) -> tuple[str, ...]:
        """The vectors of |h| that the optimizer keeps, zero at the start."""

    def initial_scalars(self) -> dict[str, float]:
        """The numbers that the optimizer keeps, as they are before the first step."""

    def step(
        self,
        gradient: Float32s,
        moments: Moments,
        following: Moments,
        scalars: Scalars,
        learning_rate: float,
        norm: Norm,
    ) -> dict[str, float]:
        """Compute one step uphill.

        Args:
            gradient: float32 [n]; becomes the increment of h.
            moments: this optimizer's vectors, float32 [n] each; not changed.
            following: overwritten with the next moments, float32 [n] each.
            scalars: this optimizer's numbers; not changed.
            learning_rate: of this generation.
            norm: Euclidean norm of a vector over all slices.

        Returns:
            The next scalars.
        """


@dataclass(frozen=True)
class SGD:
    """Increment = α g."""

    moment_names = ()

    def initial_scalars(self) -> dict[str, float]:
        """None are kept."""
        return {}

    def step(
        self,
        gradient: Float32s,
        moments: Moments,
        following: Moments,
        scalars: Scalars,
        learning_rate: float,
        norm: Norm,
    ) -> dict[str, float]:
        """See ``Optimizer.step``."""
        gradient *= np.float32(learning_rate)
        return {}


@dataclass(frozen=True)
class Momentum:
    """v ← m v + g, increment = α v."""

    momentum: float = 0.9
    moment_names = ("velocity",)

    def initial_scalars(self) -> dict[str, float]:
        """None are kept."""
        return {}

    def step(
        self,
        gradient: Float32s,
        moments: Moments,
        following: Moments,
        scalars: Scalars,
        learning_rate: float,
        norm: Norm,
    ) -> dict[str, float]:
        """See ``Optimizer.step``."""
        for piece in pieces(gradient.size):
            g, v = gradient[piece], following["velocity"][piece]
            v[...] = np.float32(self.momentum) * moments["velocity"][piece] + g
            g[...] = np.float32(learning_rate) * v
        return {}


@dataclass(frozen=True)
class Adam:
    """Adam, bias-corrected.

    The powers β₁ᵗ and β₂ᵗ are kept, so that a resumed run multiplies on instead of guessing t.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    moment_names = ("first_moment", "second_moment")

    def initial_scalars(self) -> dict[str, float]:
        """β₁⁰ and β₂⁰."""
        return {"beta1_power": 1.0, "beta2_power": 1.0}

    def step(
        self,
        gradient: Float32s,
        moments: Moments,
        following: Moments,
        scalars: Scalars,
        learning_rate: float,
        norm: Norm,
    ) -> dict[str, float]:
        """See ``Optimizer.step``."""
        powers = {
            "beta1_power": scalars["beta1_power"] * self.beta1,
            "beta2_power": scalars["beta2_power"] * self.beta2,
        }
        step_size = np.float32(learning_rate / (1.0 - powers["beta1_power"]))
        correction = np.float32(1.0 / (1.0 - powers["beta2_power"]))
        for piece in pieces(gradient.size):
            g = gradient[piece]
            first, second = following["first_moment"][piece], following["second_moment"][piece]
            first[...] = np.float32(self.beta1) * moments["first_moment"][piece]
            first += np.float32(1.0 - self.beta1) * g
            second[...] = np.float32(self.beta2) * moments["second_moment"][piece]
            second += np.float32(1.0 - self.beta2) * (g * g)
            g[...] = step_size * first / (np.sqrt(correction * second) + np.float32(self.epsilon))
        return powers


@dataclass(frozen=True)
class ClipUp:
    """ClipUp: v ← m v + α g/‖g‖, then ‖v‖ clipped to the maximum speed; increment = v.

    Args:
        momentum: m.
        max_speed: the longest step, in units of h; 0 means twice the learning rate, as its authors advise.
    """

    momentum: float = 0.9
    max_speed: float = 0.0
    moment_names = ("velocity",)

    def initial_scalars(self) -> dict[str, float]:
        """None are kept."""
        return {}

    def step(
        self,
        gradient: Float32s,
        moments: Moments,
        following: Moments,
        scalars: Scalars,
        learning_rate: float,
        norm: Norm,
    ) -> dict[str, float]:
        """See ``Optimizer.step``."""
        velocity = following["velocity"]
        length = norm(gradient)
        for piece in pieces(gradient.size):
            velocity[piece] = np.float32(self.momentum) * moments["velocity"][piece]
            if length > SHORTEST:
                velocity[piece] += np.float32(learning_rate / length) * gradient[piece]
        max_speed = self.max_speed or 2.0 * learning_rate
        speed = norm(velocity)
        if speed > max_speed:
            velocity *= np.float32(max_speed / speed)
        gradient[...] = velocity
        return {}


OPTIMIZERS: dict[str, type[SGD] | type[Momentum] | type[Adam] | type[ClipUp]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "adam": Adam,
    "clipup": ClipUp,
}


def make_optimizer(name: str, **settings: Any) -> Optimizer:
    """Build an optimizer by its name in OPTIMIZERS; settings that it doesn't have are not used.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer {name!r}: expected one of {', '.join(OPTIMIZERS)}")
    own = {field.name for field in dataclasses.fields(OPTIMIZERS[name])}
    return OPTIMIZERS[name](**{key: value for key, value in settings.items() if key in own})
