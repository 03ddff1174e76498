"""One step of a policy as plain arrays and settings: what the formats ``mat``, ``onnx`` and ``torch`` are made of.

Our kernels make the update of step t at the beginning of step t + 1. Here it follows the forward pass of its own step,
which gives the same outputs: all that is left of a step is then the weights, and the state of a file is just that.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from esd.episodes.weight_seeds import WeightSeeds
from esd.errors import UsageError
from esd.export.subject import Subject
from esd.kernels import clock, convolution
from esd.policies.base import Policy, Traceable
from esd.policies.convolutional import SHAPES, areas
from esd.policies.guard import unguarded
from esd.policies.hebbian import RULE_COEFFICIENTS, HebbianPolicy
from esd.policies.registry import find_kind, make_policy
from esd.policies.static import StaticSettings

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

SUPPORTED = ("hebbian", "static", "gru")
STEP = "step"  # the state's number of steps made, where something depends on it
HIDDEN = "gru.h"


@dataclass(frozen=True)
class Layer:
    """One layer of a perceptron without biases.

    Attributes:
        name: such as "layer0".
        weights: float32 [inputs, outputs]; of a plastic layer those that the episode with seed 0 begins with.
        coefficients: A, B, C and D, the rate, η and D₂ folded in, float32 [inputs, outputs]; none of a static layer.
        activation: "tanh", "relu" or "none".
    """

    name: str
    weights: Float32s
    coefficients: Mapping[str, Float32s]
    activation: str

    @property
    def state_name(self) -> str:
        """What its weights are called in the state."""
        return f"{self.name}.w"


@dataclass(frozen=True)
class Convolutions:
    """Two convolutions in front, see ``esd.kernels.convolution``.

    Attributes:
        size: of a picture's side.
        shrink: float32 [84, size], the share of each pixel in each of 84 parts.
        first: float32 [6, 3, 3, 3].
        second: float32 [8, 6, 5, 5].
    """

    size: int
    shrink: Float32s
    first: Float32s
    second: Float32s


@dataclass(frozen=True)
class Gru:
    """A gated recurrent unit, see ``esd.kernels.gru``.

    Attributes:
        input: float32 [features, 3 · units].
        recurrent: float32 [units, 3 · units].
        faces: for each period float32 [period, 2], sine and cosine of each step.
    """

    input: Float32s
    recurrent: Float32s
    faces: tuple[Float32s, ...]

    @property
    def units(self) -> int:
        """Of its state."""
        return len(self.recurrent)


@dataclass(frozen=True)
class Network:
    """A policy from raw observations to actions.

    Attributes:
        observation_size: numbers in an observation.
        observation_dtype: "float32", or "float64" where only that holds what is normalized.
        scale: mean and inverse deviation that observations are normalized by; None: they are not.
        convolutions: in front; None: there are none.
        gru: in front; None: there is none.
        layers: of the perceptron behind.
        normalization: of a plastic layer after every update: "max", "l2" or "none".
        freeze_after: updates that are made; 0: all.
        action_space: of the environment.
        squashed: the outputs are within [−1, 1] already.
    """

    observation_size: int
    observation_dtype: str
    scale: tuple[Float64s, Float64s] | None
    convolutions: Convolutions | None
    gru: Gru | None
    layers: tuple[Layer, ...]
    normalization: str
    freeze_after: int
    action_space: gymnasium.Space[Any]
    squashed: bool

    def initial_state(self) -> dict[str, npt.NDArray[Any]]:
        """What an episode begins with, by name; the random weights are those of the episode with seed 0."""
        state: dict[str, npt.NDArray[Any]] = {}
        if self.gru is not None:
            state[HIDDEN] = np.zeros(self.gru.units, np.float32)
        state |= {layer.state_name: layer.weights for layer in self.layers if layer.coefficients}
        if self.counts:
            state[STEP] = np.zeros((), np.int64)
        return state

    @property
    def counts(self) -> bool:
        """Whether a step depends on its number."""
        frozen = self.freeze_after > 0 and any(layer.coefficients for layer in self.layers)
        return frozen or (self.gru is not None and bool(self.gru.faces))


def policy_of(subject: Subject) -> Policy:
    """The policy with its parameters, at the beginning of the episode with seed 0, as ``esd.Policy`` begins it."""
    policy = make_policy(subject.config.policy, subject.interface, subject.config.format)
    policy.load(subject.state.h)
    policy.reset(WeightSeeds(subject.config).of_seed(0))
    return policy


def require_policy(subject: Subject, format: str) -> None:
    """Refuse the run of an objective.

    Raises:
        UsageError: saying what to use instead.
    """
    if subject.config.objective.named:
        raise UsageError(
            f"--format {format}: {subject.folder.path} is a run of an objective, which has no policy; use --format "
            "safetensors or mat"
        )


def network_of(subject: Subject, format: str) -> Network:
    """The network of a run.

    Args:
        subject: what is exported.
        format: its name, for messages.

    Raises:
        UsageError: if the policy is of a kind that can't be written so.
    """
    require_policy(subject, format)
    config = subject.config
    if config.policy.kind not in SUPPORTED:
        others = (
            "safetensors or mat" if format == "torch" else "safetensors, mat or (a module) torch"
        )
        raise UsageError(
            f"--format {format}: not supported for policy.kind = {config.policy.kind!r}, only for "
            f"{', '.join(SUPPORTED)}. Use --format {others}"
        )
    _, settings, _ = find_kind(config.policy, config.format)
    policy = unguarded(policy_of(subject))
    assert isinstance(policy, Traceable)
    if getattr(settings, "every", 1) > 1:
        raise UsageError(
            f"--format {format}: policy.every = {settings.every} is not supported; only networks that are updated "
            "after every step can be exported in this format. Use --format safetensors or mat"
        )
    arrays = subject.layout.unpack(subject.state.h)
    if isinstance(policy, HebbianPolicy) and policy.index is not None:
        arrays = policy.by_synapse.unpack(subject.state.h[policy.index])
    gru = config.policy.kind == "gru"
    linear = gru and settings.head == "linear"
    plastic = not linear and not isinstance(settings, StaticSettings)
    rule = (settings.head if gru else settings.rule) if plastic else ""
    rate = (settings.head_rate if gru else settings.rate) if plastic else 1.0
    hidden = "tanh" if gru else settings.activation
    bounded = subject.interface.bounded and (gru or not plastic or settings.output == "tanh")
    weights = policy.weights()
    layers = []
    for number, first_weights in enumerate(weights):
        own = {
            name.rpartition(".")[2]: array
            for name, array in arrays.items()
            if name.removeprefix("head.").startswith(f"layer{number}.")
        }
        last = number == len(weights) - 1
        layers.append(
            Layer(
                f"layer{number}",
                np.array(first_weights, np.float32),
                folded(rule, rate, own) if plastic else {},
                ("tanh" if bounded else "none") if last else hidden,
            )
        )
    return Network(
        subject.interface.observation_size,
        subject.observation_dtype,
        subject.scale,
        None if gru or not settings.convolutions else _convolutions(subject, arrays),
        _gru(arrays, settings.clock) if gru else None,
        tuple(layers),
        "max" if gru else getattr(settings, "normalization", "none"),
        0 if gru else getattr(settings, "freeze_after", 0),
        subject.spaces[1],
        policy.squashed,
    )


def folded(rule: str, rate: float, own: Mapping[str, Float32s]) -> dict[str, Float32s]:
    """A rule's A, B, C and D with the rate, η and D₂ in them, float32 [inputs, outputs]; zeros where it has none."""
    factor = np.float32(rate)
    shape = next(iter(own.values())).shape
    eta = own.get("eta", np.ones(shape, np.float32))
    found = {}
    for name in "ABCD":
        has = name in RULE_COEFFICIENTS[rule]
        found[name] = own[name] * factor * eta if has else np.zeros(shape, np.float32)
    if "D_out" in own:
        found["D"] = found["D"] + own["D_out"] * factor
    return found


def _convolutions(subject: Subject, arrays: Mapping[str, Float32s]) -> Convolutions:
    size = round((subject.interface.observation_size / convolution.CHANNELS) ** 0.5)
    first, share = areas(size, convolution.SIDE)
    shrink = np.zeros((convolution.SIDE, size), np.float32)
    for part, (start, shares) in enumerate(zip(first, share, strict=True)):
        shrink[part, start : start + shares.size] = shares
    one, two = (np.ascontiguousarray(arrays[name]) for name in SHAPES)
    return Convolutions(size, shrink, one, two)


def _gru(arrays: Mapping[str, Float32s], periods: tuple[int, ...]) -> Gru:
    face = np.zeros(sum(periods), clock.FACE)
    clock.draw_face(np.array(periods, np.int64), face)
    ends = np.cumsum([0, *periods])
    table = np.stack([face["sine"], face["cosine"]], axis=1)
    faces = tuple(table[a:b] for a, b in itertools.pairwise(ends))
    return Gru(np.array(arrays["input"]), np.array(arrays["recurrent"]), faces)
