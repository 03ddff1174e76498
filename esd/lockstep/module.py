"""A torch.nn.Module of many members: one ``torch.func.vmap`` over their parameters and observations.

Every call computes all slots, whoever plays, so its shapes never change and no slot depends on what is in the others.
The library takes other code for other alignments, so the bits may depend on the slot.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call, vmap

from esd.config.plugins import text_of
from esd.episodes.environments import global_generators
from esd.errors import EsdError, UsageError, shortened
from esd.lockstep.layout import unpacked
from esd.lockstep.recorded import Function, recorded
from esd.policies.base import Interface
from esd.policies.torch_module import TorchPolicy, checked_outputs

Float32s = npt.NDArray[np.float32]

MOST, FEWEST = 64, 16  # members at once
# of all members' parameters at once; beyond, they leave the caches, and one member alone is faster
MOST_NUMBERS = 2**21


class NotTogetherError(UsageError):
    """A module that can't be evaluated for many members at once.

    Attributes:
        why: in words.
    """

    def __init__(self, who: str, why: str) -> None:
        """Say whose it is, and why."""
        super().__init__(
            f'{who}: can\'t be evaluated in lock-step: {why} (device = "cpu" with batch_members = 0 evaluates one '
            "member at a time)"
        )
        self.why = why


def members_at_once(parameters: int) -> int:
    """How many members of a module with so many parameters are computed in one call.

    By nothing else, so that the bits are the same for any ``batch_members``, population and number of ranks.
    """
    members = MOST
    while members > FEWEST and members * parameters > MOST_NUMBERS:
        members //= 2
    return members


def pays(parameters: int) -> bool:
    """Whether a module with so many parameters is faster for many members at once than alone."""
    return members_at_once(parameters) * parameters <= MOST_NUMBERS


class BatchModule:
    """A torch.nn.Module of every slot; see ``lockstep.policies.BatchPolicy``.

    Attributes:
        is_recorded: see ``lockstep.recorded``.
    """

    same_bits = False
    is_recorded = False

    def __init__(
        self, policy: TorchPolicy, interface: Interface, slots: int, device: torch.device
    ) -> None:
        """Allocate for all slots, and try it.

        Raises:
            NotTogetherError: if the module keeps a memory of its own, or torch can't run it on many members at once.
        """
        if hasattr(policy.module, "reset"):
            raise NotTogetherError(
                policy.who,
                "it has a memory that reset() clears, which can hold only the state of one member",
            )
        self._layout, self._who, self._strict = policy.layout, policy.who, policy.strict
        self._module = copy.deepcopy(policy.module).to(device)
        self._parameters = {
            name: torch.zeros(slots, *shape, dtype=torch.float32, device=device)
            for name, shape in policy.layout.shapes.items()
        }
        # torch's own memory, aligned alike in every process: the bits of a matrix product depend on it
        self._observations = torch.zeros(
            slots, interface.observation_size, dtype=torch.float32, device=device
        )
        forward = vmap(self._forward_one)
        self._forward: Function = lambda observations: forward(self._parameters, observations)
        self._try()
        self._record()

    def _forward_one(self, parameters: dict[str, Tensor], observation: Tensor) -> Tensor:
        """What every slot does."""
        outputs = functional_call(self._module, parameters, (observation,))
        return (
            outputs
            if isinstance(outputs, Tensor)
            else checked_outputs(outputs, self._who, self._strict)
        )

    def _try(self) -> None:
        """Make a step."""
        generators = _generators()
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                self.act(np.zeros(tuple(self._observations.shape), np.float32))
        except Exception as error:
            if "memory" in str(error).lower():
                raise
            if isinstance(error, EsdError):
                raise UsageError(str(error)) from error
            why = f"torch.func.vmap says: {shortened(text_of(error), 300)}"
            raise NotTogetherError(self._who, why) from error
        for warning in warned:
            without = re.search(r"batching rule for (\S+?)\.?\s", str(warning.message))
            if without and self._strict:
                why = f"torch has no batching rule for {without[1]}, and would compute members one after another"
                raise NotTogetherError(self._who, why)
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
        if self._strict and _generators() != generators:
            raise NotTogetherError(self._who, "its forward draws random numbers")

    def _record(self) -> None:
        """Leave out from now on what surrounds torch's own calls, if that gives the same bits."""
        rng = np.random.default_rng(0)
        with torch.inference_mode():
            found = recorded(self._forward, _filled(self._observations, rng))
            if found is None:
                return
            for _ in range(2):
                for parameter in self._parameters.values():
                    parameter.copy_(_filled(parameter, rng))
                self._observations.copy_(_filled(self._observations, rng))
                expected = self._forward(self._observations.clone())
                if not _are_same(found(self._observations.clone()), expected):
                    return
        self._forward, self.is_recorded = found, True

    def load(self, slots: Sequence[int], parameters: Tensor) -> None:
        """See ``BatchPolicy.load``."""
        for name, values in unpacked(self._layout, parameters).items():
            self._parameters[name][torch.tensor(slots, device=values.device)] = values

    def reset(self, slot: int, seed: int) -> None:
        """Nothing about an episode is random: vmap refuses a module that draws numbers."""

    def act(self, observations: Float32s) -> Float32s:
        """See ``BatchPolicy.act``."""
        with torch.inference_mode():
            self._observations.copy_(torch.from_numpy(observations))
            outputs = self._forward(self._observations)
            if type(outputs) is not Tensor or outputs.dtype is not torch.float32:
                outputs = checked_outputs(outputs, self._who, self._strict, anywhere=True)
            flat: Float32s = outputs.reshape(len(observations), -1).cpu().numpy()
        return flat


def _are_same(one: Any, other: Any) -> bool:
    """Whether two tensors have the same bits."""
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return False
    same_kind = one.dtype is other.dtype and one.shape == other.shape
    return same_kind and one.cpu().numpy().tobytes() == other.cpu().numpy().tobytes()


def _filled(like: Tensor, rng: np.random.Generator) -> Tensor:
    """Normal numbers in the shape of a tensor."""
    values = rng.standard_normal(tuple(like.shape)).astype(np.float32)
    return torch.from_numpy(values).to(like.device)


def _generators() -> tuple[Any, ...]:
    """Where all generators stand that a module may draw from."""
    return (*global_generators(), torch.get_rng_state().numpy().tobytes())
