"""Optimizers: from the estimated gradient to the increment of h.

Each works on any slice of h: everything is elementwise but for whole-vector norms, which go through ``norm``, the one
place where slices have to meet. Nothing of the slice's size is allocated: an increment takes the place of its
gradient, and what lies between is computed in pieces that stay in cache. The table of their names is
``config.kinds.OPTIMIZERS``; docs/algorithms.md has an example of one's own.

Sources: Kingma & Ba 2015 (Adam); Toklu, Liskowski & Srivastava 2020 (ClipUp, arXiv 2008.02387).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from esd.config.fields import BELOW_ONE, NOT_NEGATIVE, POSITIVE, SHARE, setting
from esd.config.kinds import OPTIMIZERS
from esd.config.settings import EvolutionSettings
from esd.errors import UsageError, shortened
from esd.evolution.guard import GuardedOptimizer
from esd.evolution.schedules import Decay
from esd.evolution.shaping import SHAPINGS
from esd.evolution.vectors import Float32s, Norm, pieces

Moments = Mapping[str, Float32s]
Scalars = Mapping[str, float]

SHORTEST = 1e-30  # a gradient below this has no direction that float32 could hold


@dataclass(frozen=True)
class GradientSettings(EvolutionSettings):
    """[es] of an algorithm that follows a gradient by an optimizer.

    An optimizer adds what it has beside these (``config.algorithms.settings_of_algorithm``).
    """

    learning_rate: float = setting(0.2, "Learning rate α of the update", **POSITIVE)
    learning_rate_decay: float = setting(
        1.0, "Factor by which the learning rate is multiplied in each generation", **SHARE
    )
    learning_rate_min: float = setting(0.0, "Lower limit of the learning rate", **NOT_NEGATIVE)
    optimizer: str = setting(
        "sgd", "Optimizer that turns the gradient into an update (esd list optimizers)"
    )
    momentum: float = setting(0.9, "Momentum of the momentum and clipup optimizers", **BELOW_ONE)
    beta1: float = setting(0.9, "Decay rate of Adam's first moment", **BELOW_ONE)
    beta2: float = setting(0.999, "Decay rate of Adam's second moment", **BELOW_ONE)
    epsilon: float = setting(
        1e-8,
        "Term added to Adam's denominator for numerical stability",
        expected="1e-18 or more",
        check=lambda v: v >= 1e-18,  # float32 loses the squares of gradients that are smaller
    )
    max_speed: float = setting(
        0.0,
        "Maximum length of an update of the clipup optimizer. 0: twice the learning rate",
        **NOT_NEGATIVE,
    )
    weight_decay: float = setting(
        0.0, "Weight decay: h shrinks by α · weight_decay · h in each generation", **NOT_NEGATIVE
    )
    shaping: str = setting(
        "centered_rank",
        "Fitness shaping: how returns become the weights of the update. Ranks and sign see which member is "
        "better, standardize and raw by how much",
        choices=tuple(SHAPINGS),
    )

    @property
    def learning_rates(self) -> Decay:
        """The schedule of α."""
        return Decay(self.learning_rate, self.learning_rate_decay, self.learning_rate_min)

    def make_optimizer(self) -> Optimizer:
        """The optimizer with its settings."""
        return make_optimizer(self.optimizer, **dataclasses.asdict(self))

    def problems(self) -> Iterator[str]:
        """See ``EvolutionSettings.problems``."""
        yield from super().problems()
        if self.learning_rate_min > self.learning_rate:
            yield (
                f"es.learning_rate_min = {self.learning_rate_min}: expected at most es.learning_rate = "
                f"{self.learning_rate}"
            )

    def unused(self) -> Iterator[str]:
        """See ``EvolutionSettings.unused``."""
        used = {field.name for field in own_fields(OPTIMIZERS.find(self.optimizer))}
        here = {field.name for field in dataclasses.fields(self)}
        every = {
            field.name: None
            for name in OPTIMIZERS.built_in
            for field in own_fields(OPTIMIZERS.find(name))
        }
        yield from (name for name in every if name in here - used)


@dataclass(frozen=True)
class Ascent:
    """What an optimizer makes one step of: a slice, or all of h.

    Attributes:
        gradient: float32 [n]; becomes the increment of h.
        moments: this optimizer's vectors, float32 [n] each; not to be changed.
        following: to be overwritten with the next moments, float32 [n] each.
        scalars: numbers of the state, this optimizer's among them.
        learning_rate: of this generation.
        norm: Euclidean norm of a vector over all slices, from this slice of it.
    """

    gradient: Float32s
    moments: Moments
    following: Moments
    scalars: Scalars
    learning_rate: float
    norm: Norm


class Optimizer(Protocol):
    """One ascent step at a time; all memory is in the moments and scalars that go in and come out."""

    @property
    def moment_names(self) -> tuple[str, ...]:
        """The vectors of |h| that the optimizer keeps, zero at the start."""

    def initial_scalars(self) -> dict[str, float]:
        """The numbers that the optimizer keeps, as they are before the first step."""

    def step(self, ascent: Ascent) -> dict[str, float]:
        """Make one step uphill: turn the gradient into the increment of h, and return the next scalars."""


@dataclass(frozen=True)
class SGD:
    """Gradient ascent: increment = α g."""

    moment_names = ()

    def initial_scalars(self) -> dict[str, float]:
        """None are kept."""
        return {}

    def step(self, ascent: Ascent) -> dict[str, float]:
        """See ``Optimizer.step``."""
        gradient = ascent.gradient
        gradient *= np.float32(ascent.learning_rate)
        return {}


@dataclass(frozen=True)
class Momentum:
    """Gradient ascent with momentum: v ← m v + g, increment = α v."""

    momentum: float = 0.9
    moment_names = ("velocity",)

    def initial_scalars(self) -> dict[str, float]:
        """None are kept."""
        return {}

    def step(self, ascent: Ascent) -> dict[str, float]:
        """See ``Optimizer.step``."""
        for piece in pieces(ascent.gradient.size):
            g, v = ascent.gradient[piece], ascent.following["velocity"][piece]
            v[...] = np.float32(self.momentum) * ascent.moments["velocity"][piece] + g
            g[...] = np.float32(ascent.learning_rate) * v
        return {}


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction.

    The powers β₁ᵗ and β₂ᵗ are kept, so that a resumed run multiplies on instead of guessing t.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    moment_names = ("first_moment", "second_moment")

    def initial_scalars(self) -> dict[str, float]:
        """β₁⁰ and β₂⁰."""
        return {"beta1_power": 1.0, "beta2_power": 1.0}

    def step(self, ascent: Ascent) -> dict[str, float]:
        """See ``Optimizer.step``."""
        powers = {
            "beta1_power": ascent.scalars["beta1_power"] * self.beta1,
            "beta2_power": ascent.scalars["beta2_power"] * self.beta2,
        }
        moments, following = ascent.moments, ascent.following
        step_size = np.float32(ascent.learning_rate / (1.0 - powers["beta1_power"]))
        correction = np.float32(1.0 / (1.0 - powers["beta2_power"]))
        for piece in pieces(ascent.gradient.size):
            g = ascent.gradient[piece]
            first, second = following["first_moment"][piece], following["second_moment"][piece]
            first[...] = np.float32(self.beta1) * moments["first_moment"][piece]
            first += np.float32(1.0 - self.beta1) * g
            second[...] = np.float32(self.beta2) * moments["second_moment"][piece]
            second += np.float32(1.0 - self.beta2) * (g * g)
            g[...] = step_size * first / (np.sqrt(correction * second) + np.float32(self.epsilon))
            if second.max() == np.inf:  # its steps would be 0; NaN ends the training with a message
                g[second == np.inf] = np.nan
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

    def step(self, ascent: Ascent) -> dict[str, float]:
        """See ``Optimizer.step``."""
        gradient, learning_rate = ascent.gradient, ascent.learning_rate
        velocity = ascent.following["velocity"]
        length = ascent.norm(gradient)
        for piece in pieces(gradient.size):
            velocity[piece] = np.float32(self.momentum) * ascent.moments["velocity"][piece]
            if not length <= SHORTEST:  # also if it is NaN, which ends the training with a message
                velocity[piece] += np.float32(learning_rate / length) * gradient[piece]
        max_speed = self.max_speed or 2.0 * learning_rate
        speed = ascent.norm(velocity)
        if speed > max_speed:
            velocity *= np.float32(max_speed / speed)
        gradient[...] = velocity
        return {}


def own_fields(optimizer: Any) -> tuple[dataclasses.Field[Any], ...]:
    """The settings of an optimizer's class: the fields of its dataclass, if it is one."""
    return dataclasses.fields(optimizer) if dataclasses.is_dataclass(optimizer) else ()


def make_optimizer(name: str, **settings: Any) -> Optimizer:
    """Build an optimizer by its name in ``config.kinds.OPTIMIZERS``; settings that it doesn't have are not used.

    Raises:
        UsageError: for an unknown name, or what is no optimizer.
    """
    kind = OPTIMIZERS.find(name)
    missing = [
        part for part in ("moment_names", "initial_scalars", "step") if not hasattr(kind, part)
    ]
    if not isinstance(kind, type) or missing:
        lacks = f", which lacks {', '.join(missing)}" if isinstance(kind, type) else ""
        raise UsageError(
            f"es.optimizer = {shortened(repr(name))}: is {shortened(repr(kind))}{lacks}; expected a class as in "
            "docs/algorithms.md"
        )
    own = {field.name for field in own_fields(kind)}
    given = {key: value for key, value in settings.items() if key in own}
    if name in OPTIMIZERS.built_in:
        optimizer: Optimizer = kind(**given)
        return optimizer
    return GuardedOptimizer(lambda: kind(**given), f"es.optimizer = {shortened(repr(name))}")
