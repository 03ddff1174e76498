"""Policies that answer for many members at once; each member has a slot, and every call computes all slots.

Because the shapes never change and no operation mixes slots, what a slot computes doesn't depend on the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esd.config.kinds import POLICIES
from esd.config.plugins import in_one_line, is_of_the_users_code
from esd.config.settings import Config
from esd.errors import UsageError, shortened
from esd.evolution.layout import Layout
from esd.kernels.plastic import SMALLEST
from esd.lockstep.elementary import square_root, tanh
from esd.lockstep.guard import GuardedBatch
from esd.lockstep.layout import unpacked
from esd.lockstep.module import BatchModule, members_at_once
from esd.policies.base import Interface, Policy
from esd.policies.guard import unguarded
from esd.policies.hebbian import RULE_COEFFICIENTS, HebbianPolicy, HebbianSettings
from esd.policies.perceptron import InitialWeights
from esd.policies.registry import find_kind
from esd.policies.static import StaticSettings
from esd.policies.torch_module import TorchPolicy

Float32s = npt.NDArray[np.float32]


class BatchPolicy(Protocol):
    """The policies of all slots.

    Attributes:
        same_bits: its outputs are those of the policy alone, bit for bit, in whatever slot. Otherwise they may depend
            on the slot (but on nothing else): the library takes other code for other alignments.
    """

    same_bits: bool

    def load(self, slots: Sequence[int], parameters: Tensor) -> None:
        """Put members into slots; float32 [len(slots), |h|]."""

    def reset(self, slot: int, seed: int) -> None:
        """Begin an episode in a slot, see ``Policy.reset``."""

    def act(self, observations: Float32s) -> Float32s:
        """All slots' observations [slots, observation_size] to their outputs [slots, action_size]."""


def make_batch_policy(
    config: Config, policy: Policy, interface: Interface, device: torch.device
) -> BatchPolicy:
    """The batch path of a policy.

    Args:
        config: of the run.
        policy: the policy that plays alone.
        interface: what it meets.
        device: where to compute.

    Raises:
        UsageError: naming a policy that has none.
    """
    kind, settings, _ = find_kind(config.policy, config.format)
    build = kind.lockstep_builder()
    if build is None:
        can = [name for name in POLICIES.built_in if POLICIES.find(name).lockstep is not None]
        raise UsageError(
            f"policy.kind = {config.policy.kind!r}: can't be evaluated in lock-step; only {', '.join(can)}, a "
            "torch.nn.Module and a class with a lock-step builder can (docs/policies.md). "
            'Use device = "cpu" and batch_members = 0'
        )
    slots = slots_of(config, policy, device)
    if config.policy.kind in POLICIES.built_in:
        batch: BatchPolicy = build(policy, settings, interface, slots, device)
        return batch
    who = f"policy.kind = {shortened(repr(config.policy.kind))}"
    try:
        own = build(unguarded(policy), settings, interface, slots, device)
    except BaseException as error:
        if not is_of_the_users_code(error) or "memory" in str(error).lower():
            raise
        raise UsageError(f"{who}: its lock-step builder raised {in_one_line(error)}") from error
    return GuardedBatch(own, who, interface, slots, config.format)


def slots_of(config: Config, policy: Policy, device: torch.device) -> int:
    """How many members every call computes.

    On the CPU a module's bits depend on that number, so there it is the module's own, whatever ``batch_members`` says
    (but for runs of the first format).
    """
    if config.format > 1 and device.type == "cpu" and isinstance(unguarded(policy), TorchPolicy):
        return members_at_once(policy.layout.size)
    return config.batch_members


def hebbian(
    policy: HebbianPolicy,
    settings: HebbianSettings,
    interface: Interface,
    slots: int,
    device: torch.device,
) -> BatchPolicy:
    """The lock-step builder of ``hebbian``, see ``policies.kind.PolicyKind``."""
    scheme = settings.initial_weights
    plasticity = Plasticity(
        RULE_COEFFICIENTS[settings.rule],
        float(np.float32(settings.rate)),
        settings.normalization,
        settings.freeze_after or np.iinfo(np.int64).max,
        None if scheme == "coevolved" else scheme,
        settings.every,
        settings.average and settings.every > 1,
    )
    squashed = interface.bounded and settings.output == "tanh"
    batch = _perceptron(policy, settings, interface, slots, device, squashed, plasticity)
    batch.share(policy.by_synapse, policy.index)
    return batch


def static(
    policy: Policy, settings: StaticSettings, interface: Interface, slots: int, device: torch.device
) -> BatchPolicy:
    """The lock-step builder of ``static``."""
    return _perceptron(policy, settings, interface, slots, device, interface.bounded, None)


def module(
    policy: TorchPolicy, settings: object, interface: Interface, slots: int, device: torch.device
) -> BatchPolicy:
    """The lock-step builder of a torch.nn.Module."""
    return BatchModule(policy, interface, slots, device)


def _perceptron(
    policy: Policy,
    settings: HebbianSettings | StaticSettings,
    interface: Interface,
    slots: int,
    device: torch.device,
    squashed: bool,
    plasticity: Plasticity | None,
) -> BatchPerceptron:
    if settings.convolutions:
        raise UsageError(
            "policy.convolutions = true: can't be evaluated in lock-step. "
            'Use device = "cpu" and batch_members = 0'
        )
    sizes = (interface.observation_size, *settings.hidden, interface.action_size)
    functions = (settings.activation, "tanh" if squashed else "none")
    return BatchPerceptron(policy.layout, sizes, functions, plasticity, slots, device)


class _Layer:
    """One layer of all slots: weights [slots, inputs, outputs], stored a factor off as in ``esd.kernels.plastic``."""

    def __init__(self, slots: int, shape: tuple[int, int], device: torch.device) -> None:
        self.weights = torch.zeros(slots, *shape, dtype=torch.float32, device=device)
        self.scale = torch.ones(slots, 1, dtype=torch.float32, device=device)
        self._spare, self._products = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        self.evolved = torch.zeros_like(
            self.weights
        )  # what episodes start from, if that is part of h
        self.coefficients = {name: torch.zeros_like(self.weights) for name in "ABCD"}

    def forward(self, x: Tensor) -> Tensor:
        """Σ w·x over the inputs [slots, inputs], to [slots, outputs], the missing factor included."""
        return in_order(torch.mul(self.weights, x[:, :, None], out=self._products)) * self.scale

    def rewire(self, x: Tensor, y: Tensor, idle: Tensor | None, normalization: str) -> None:
        """Update by the previous step's activities and normalize, but for slots that have no update now.

        Args:
            x: the layer's inputs then, [slots, inputs].
            y: its outputs then, [slots, outputs].
            idle: bool [slots]; None if no slot is.
            normalization: after the update.
        """
        x, y = x[:, :, None], y[:, None, :]
        c = self.coefficients
        # (A·x + C)·y + (B·x + D) + w·scale, in memory kept for it: fresh memory takes the CPU longer than the sums
        delta = torch.mul(c["A"], x, out=self._spare).add_(c["C"]).mul_(y)
        delta.add_(torch.mul(c["B"], x, out=self._products).add_(c["D"]))
        before, scale = self.weights, self.scale
        self.weights = delta.add_(torch.mul(before, scale[:, :, None], out=self._products))
        self._spare = before
        if idle is not None:
            self.weights = torch.where(idle[:, None, None], before, self.weights)
        self.scale = self._normalizer(normalization)
        if idle is not None:
            self.scale = torch.where(idle[:, None], scale, self.scale)

    def _normalizer(self, kind: str) -> Tensor:
        """The factor that the stored weights lack, [slots, 1]. A NaN weight ends the episode in any case."""
        if kind == "none":
            return torch.ones_like(self.scale)
        if kind == "max":
            size = self.weights.abs().amax((1, 2))
        else:
            squares = in_order(self.weights * self.weights)
            size = square_root(in_order(squares[:, :, None])[:, 0])
        return torch.where(size > float(SMALLEST), size.reciprocal(), 1.0)[:, None]


def in_order(values: Tensor) -> Tensor:
    """Σ over the second axis, first to last: [slots, n, m] to [slots, m]."""
    total = torch.zeros_like(values[:, 0])
    for value in values.unbind(1):
        total += value
    return total


@dataclass(frozen=True)
class Plasticity:
    """How a perceptron learns.

    Attributes:
        rule: the coefficients that a connection has.
        rate: factor on every change of a weight.
        normalization: after every update.
        last_update: updates that follow later steps of an episode are not made.
        initial_weights: the scheme of an episode's first weights; None: they are part of h.
        every: updates follow each so many-th step.
        average: by the means of the activities since the last update.
    """

    rule: tuple[str, ...]
    rate: float
    normalization: str
    last_update: int
    initial_weights: str | None
    every: int = 1
    average: bool = False


class BatchPerceptron:
    """``hebbian`` and ``static``: their kernel's arithmetic, operation by operation."""

    same_bits = True

    def __init__(
        self,
        layout: Layout,
        sizes: Sequence[int],
        functions: tuple[str, str],
        plasticity: Plasticity | None,
        slots: int,
        device: torch.device,
    ) -> None:
        """Allocate for all slots.

        Args:
            layout: of the policy that plays alone.
            sizes: of the layers, from input to output.
            functions: activations of the hidden layers and of the last one.
            plasticity: None: weights are h and stay as they are.
            slots: members at once.
            device: where to compute.
        """
        self._layout, self._device, self._plasticity = layout, device, plasticity
        self._index: Tensor | None = None
        shapes = list(itertools.pairwise(sizes))
        self._layers = [_Layer(slots, shape, device) for shape in shapes]
        self._initial_weights: InitialWeights | None = None
        if plasticity is not None and plasticity.initial_weights is not None:
            self._initial_weights = InitialWeights(plasticity.initial_weights, shapes)
        activations = {"tanh": tanh, "relu": _relu, "none": _identity}
        hidden, last = (activations[name] for name in functions)
        self._functions = [*(hidden for _ in sizes[2:]), last]
        self._before = [
            torch.zeros(slots, size, dtype=torch.float32, device=device) for size in sizes
        ]
        self._sums = [torch.zeros_like(own) for own in self._before]  # since the last update
        self._steps = np.zeros(slots, np.int64)  # made in each slot's episode

    def share(self, layout: Layout, index: npt.NDArray[np.int64] | None) -> None:
        """Take the layout of parameters with a rule for every synapse, and where in h each of them is."""
        self._layout = layout
        if index is not None:
            self._index = torch.from_numpy(index).to(self._device)

    def load(self, slots: Sequence[int], parameters: Tensor) -> None:
        """See ``BatchPolicy.load``; folds the rate and η into the other coefficients."""
        if self._index is not None:
            parameters = parameters[:, self._index]
        arrays = unpacked(self._layout, parameters)
        index = torch.tensor(slots, device=self._device)
        for number, layer in enumerate(self._layers):
            own = {
                n.partition(".")[2]: a for n, a in arrays.items() if n.startswith(f"layer{number}.")
            }
            eta = own.get("eta", 1.0)
            rate = 1.0 if self._plasticity is None else self._plasticity.rate
            folded = {name: own[name] * rate * eta for name in "ABCD" if name in own}
            if "D_out" in own:
                outside = own["D_out"] * rate
                folded["D"] = folded["D"] + outside if "D" in folded else outside
            for name, values in folded.items():
                layer.coefficients[name][index] = values
            if "w" in own:
                layer.evolved[index] = own["w"]

    def reset(self, slot: int, seed: int) -> None:
        """See ``BatchPolicy.reset``."""
        self._steps[slot] = 0
        for sums in self._sums:
            sums[slot] = 0.0
        scheme = self._initial_weights
        drawn = None if scheme is None else scheme.draw(seed)
        start = 0
        for number, layer in enumerate(self._layers):
            weights = layer.weights[slot]
            layer.scale[slot] = 1.0
            if scheme is None or drawn is None:
                weights.copy_(layer.evolved[slot])
            else:
                stop = start + weights.numel()
                values = torch.from_numpy(drawn[start:stop] * scheme.bounds[number])
                weights.copy_(values.reshape(weights.shape))
                start = stop

    def act(self, observations: Float32s) -> Float32s:
        """See ``BatchPolicy.act``: rewire by the previous step, then forward."""
        activities = [torch.from_numpy(observations).to(self._device, copy=True)]
        plasticity = self._plasticity
        last_update, every = (
            (0, 1) if plasticity is None else (plasticity.last_update, plasticity.every)
        )
        learns = (self._steps > 0) & (self._steps <= last_update) & (self._steps % every == 0)
        idle = None if learns.all() else torch.from_numpy(~learns).to(self._device)
        averages = plasticity is not None and plasticity.average
        if averages and learns.any():
            self._before = [sums / float(every) for sums in self._sums]
            over = torch.from_numpy(learns).to(self._device)[:, None]
            self._sums = [torch.where(over, 0.0, sums) for sums in self._sums]
        for number, (layer, function) in enumerate(zip(self._layers, self._functions, strict=True)):
            if plasticity is not None and learns.any():
                x, y = self._before[number], self._before[number + 1]
                layer.rewire(x, y, idle, plasticity.normalization)
            activities.append(function(layer.forward(activities[-1])))
        self._before = activities
        if averages:
            for sums, own in zip(self._sums, activities, strict=True):
                sums += own
        self._steps += 1
        outputs: Float32s = activities[-1].cpu().numpy()
        return outputs


def _relu(x: Tensor) -> Tensor:
    return torch.where(x < 0.0, 0.0, x)


def _identity(x: Tensor) -> Tensor:
    return x
