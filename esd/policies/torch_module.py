"""A torch.nn.Module as a policy: the documented slower path (a torch call per step costs more than CartPole does)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from esd.config.keywords import fresh
from esd.evolution.layout import Layout
from esd.policies.base import Interface

Float32s = npt.NDArray[np.float32]


class TorchPolicy:
    """Wraps a module whose ``forward`` maps an observation [observation_size] to outputs [action_size].

    The module is built as ``Class(observation_size, action_size, **kwargs)``, with its settings as a third argument if
    it declares some (docs/policies.md); h is its parameters in the order of
    ``named_parameters``. If it has a method ``reset()``, that is called at the start of every episode, after torch's
    generator was seeded for it; a module with a memory clears it there. Forward runs on one CPU thread without
    gradients. Its bits depend on the torch build: the canary at start tells if two machines disagree.

    Attributes:
        module: the module, with the parameters that were loaded last.
    """

    squashed = False

    def __init__(
        self,
        module_class: type[torch.nn.Module],
        interface: Interface,
        kwargs: dict[str, Any],
        settings: tuple[object, ...] = (),
    ) -> None:
        """Build the module for one environment."""
        torch.set_num_threads(1)
        self._arguments = (interface.observation_size, interface.action_size, *settings)
        self._class, self._kwargs = module_class, kwargs
        self.module = self._build(0)
        parameters = dict(self.module.named_parameters())
        self.layout = Layout({name: tuple(p.shape) for name, p in parameters.items()})
        self._reset = getattr(self.module, "reset", None)

    def _build(self, seed: int) -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module: torch.nn.Module = self._class(*self._arguments, **fresh(self._kwargs))
        return module.eval().requires_grad_(False)

    def initial_parameters(self, seed: int) -> Float32s:
        """The module's own initialization, with torch's generator seeded by the run's seed."""
        module = self._build(seed)
        return self.layout.pack({name: p.numpy() for name, p in module.named_parameters()})

    def load(self, parameters: Float32s) -> None:
        """Copy the parameters into the module."""
        arrays = self.layout.unpack(parameters)
        for name, parameter in self.module.named_parameters():
            parameter.copy_(torch.from_numpy(arrays[name]))

    def reset(self, seed: int) -> None:
        """Seed torch and clear the module's memory, if it has one."""
        torch.manual_seed(seed)
        if self._reset is not None:
            self._reset()

    def act(self, observation: Float32s) -> Float32s:
        """Forward; outputs float32 [action_size]."""
        with torch.inference_mode():
            outputs: Float32s = self.module(torch.from_numpy(observation)).numpy()
        return outputs.reshape(-1)
