"""A torch.nn.Module as a policy: the documented slower path (a torch call per step costs more than CartPole does)."""

from __future__ import annotations

import random
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from esd.config.keywords import fresh
from esd.config.plugins import in_one_line, is_of_the_users_code
from esd.errors import RunError, UsageError, shortened
from esd.evolution.layout import Layout
from esd.policies.base import Interface
from esd.policies.guard import described

Float32s = npt.NDArray[np.float32]

FLOAT32 = torch.float32
NO_AUTOGRAD = ("does not require grad", "Inference tensors cannot")  # in torch's messages
LOOKS = 3  # first steps in which a module is tried for a memory that nobody clears


class TorchPolicy:
    """Wraps a module whose ``forward`` maps an observation [observation_size] to outputs [action_size].

    The module is built as ``Class(observation_size, action_size, **kwargs)``, with its settings as a third argument if
    it declares some (docs/policies.md); h is its parameters in the order of
    ``named_parameters``, but for frozen ones (``requires_grad=False``), which stay as the constructor makes them with
    torch's generator seeded by 0; in runs of the first format those evolve, too. If it has a method ``reset()``, that
    is called at the start of every episode, after torch's
    generator was seeded for it; a module with a memory clears it there. Forward runs on one CPU thread without
    gradients. Its bits depend on the torch build: the canary at start tells if two machines disagree.

    Attributes:
        module: the module, with the parameters that were loaded last.
        who: the setting that names it, for messages.
        strict: the run is not of the first format.
    """

    squashed = False
    called = "forward"

    def __init__(
        self,
        module_class: type[torch.nn.Module],
        interface: Interface,
        kwargs: dict[str, Any],
        settings: tuple[object, ...] = (),
        who: str = "policy.kind",
        version: int = 2,
    ) -> None:
        """Build the module for one environment.

        Raises:
            UsageError: if it can't be evolved; whatever its constructor raises is raised as it is.
        """
        torch.set_num_threads(1)
        self._arguments = (interface.observation_size, interface.action_size, *settings)
        self._class, self._kwargs, self.who = module_class, kwargs, who
        self.strict = version >= 2
        self.module, self._evolved = self._build(0)
        parameters = dict(self.module.named_parameters())
        self.layout = Layout({name: tuple(parameters[name].shape) for name in self._evolved})
        self._reset = getattr(self.module, "reset", None)
        self._looks = LOOKS if self.strict else 0
        if self.strict:
            self._check_batch_norms()

    def _build(self, seed: int) -> tuple[torch.nn.Module, list[str]]:
        """The module, and the names of the parameters that evolve."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module: torch.nn.Module = self._class(*self._arguments, **fresh(self._kwargs))
        parameters = dict(module.named_parameters())
        self._check_parameters(parameters)
        if self.strict:
            self._check_unregistered(module)
        evolved = [name for name, p in parameters.items() if p.requires_grad or not self.strict]
        if parameters and not evolved:
            raise UsageError(
                f"{self.who}: all its parameters are frozen (requires_grad=False); at least one has to evolve"
            )
        module.eval()
        module.requires_grad_(False)
        return module, evolved

    def _check_parameters(self, parameters: dict[str, torch.nn.Parameter]) -> None:
        """Refuse parameters that h can't hold."""
        for name, parameter in parameters.items():
            named = f"{self.who}: its parameter {shortened(name)}"
            if is_lazy(parameter):
                raise UsageError(
                    f"{named} has no shape before the first forward (a lazy module); give its sizes in the "
                    "constructor, which gets observation_size and action_size"
                )
            if not self.strict:
                continue
            if parameter.device.type != "cpu" or parameter.layout != torch.strided:
                kind = parameter.device if parameter.device.type != "cpu" else parameter.layout
                raise UsageError(
                    f"{named} is on {kind}, expected an ordinary tensor on the cpu; device and batch_members define "
                    "where networks run"
                )
            if parameter.requires_grad and parameter.dtype not in (torch.float32, torch.float64):
                raise UsageError(
                    f"{named} is {_dtype(parameter)}, but h is float32; convert it with .float(), or register it as "
                    "a buffer if it should not evolve"
                )

    def _check_unregistered(self, module: torch.nn.Module) -> None:
        """Refuse layers and parameters in a plain list or dict: torch knows nothing of them, so they don't evolve."""
        registered = {id(p) for p in module.parameters()} | {id(m) for m in module.modules()}
        for part in module.modules():
            for name, value in vars(part).items():
                if name.startswith("_") or not isinstance(value, list | tuple | dict):
                    continue
                items = value.values() if isinstance(value, dict) else value
                for item in items:
                    unknown = isinstance(item, torch.nn.Parameter) or (
                        isinstance(item, torch.nn.Module) and any(True for _ in item.parameters())
                    )
                    if unknown and id(item) not in registered:
                        which = "Module" if isinstance(item, torch.nn.Module) else "Parameter"
                        kind = "Dict" if isinstance(value, dict) else "List"
                        raise UsageError(
                            f"{self.who}: its attribute {shortened(name)} is a plain {type(value).__name__} with a "
                            f"{type(item).__name__} in it, which would not evolve; use a torch.nn.{which}{kind}"
                        )

    def _check_batch_norms(self) -> None:
        """Refuse statistics of a batch, which is one observation here."""
        for name, part in self.module.named_modules():
            if isinstance(part, _BatchNorm) and (part.training or not part.track_running_stats):
                why = "is in training mode" if part.training else "has track_running_stats=False"
                raise UsageError(
                    f"{self.who}: {type(part).__name__} {shortened(name)!r} {why}, so it would use the statistics "
                    "of a batch, which is one observation here; use LayerNorm, or keep it in evaluation mode"
                )

    def initial_parameters(self, seed: int) -> Float32s:
        """The module's own initialization, with torch's generator seeded by the run's seed."""
        module, _ = self._build(seed)
        parameters = dict(module.named_parameters())
        return self.layout.pack({name: parameters[name].numpy() for name in self._evolved})

    def load(self, parameters: Float32s) -> None:
        """Copy the parameters into the module."""
        arrays = self.layout.unpack(parameters)
        own = dict(self.module.named_parameters())
        for name in self._evolved:
            own[name].copy_(torch.from_numpy(arrays[name]))

    def reset(self, seed: int) -> None:
        """Seed torch and clear the module's memory, if it has one."""
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.manual_seed(seed)
        else:  # that also writes down where it was called from, which takes as long as ten steps
            torch.default_generator.manual_seed(seed)
        if self._reset is not None:
            with torch.inference_mode():  # only there may it change in place what forward has made
                self._reset()

    def act(self, observation: Float32s) -> Float32s:
        """Forward; outputs float32 [action_size]."""
        if self._looks:
            return self._looked_at(observation)
        with torch.inference_mode():
            outputs = self.module(torch.from_numpy(observation))
            if type(outputs) is not Tensor or outputs.dtype is not FLOAT32:
                outputs = checked_outputs(outputs, self.who, self.strict)
            flat: Float32s = outputs.numpy()
        return flat.reshape(-1)

    def _looked_at(self, observation: Float32s) -> Float32s:
        """One of the first steps: forward may change nothing that nobody clears.

        A module without ``reset`` is asked twice, from the same state of torch's generator: its second answer may not
        depend on the first.
        """
        self._looks -= 1
        before = {name: tensor.detach().clone() for name, tensor in self._lasting().items()}
        attributes = _attributes(self.module)
        generators = _generators()
        seen = observation.copy()
        first = self._answer(observation).copy()
        self._check_batch_norms()
        for name, tensor in self._lasting().items():
            same = name in before and torch.equal(tensor, before[name])
            if not same and not bool(torch.isnan(tensor).any()):
                what, advice = "buffer", "clear it in a method reset()"
                if isinstance(tensor, torch.nn.Parameter):
                    what = "parameter"
                    advice = "keep changing values in a buffer or an attribute that reset() clears"
                raise UsageError(
                    f"{self.who}: forward changes its {what} {shortened(name)}, which would outlive the episode; "
                    f"{advice}"
                )
        if self._reset is not None:
            return first
        after = _generators()
        _restore(generators)
        second = self._answer(seen)
        _restore(after)
        if first.tobytes() != second.tobytes() and not np.isnan(first).any():
            now = _attributes(self.module)
            changed = [name for name in now if now[name] is not attributes.get(name)]
            kept = f" (it keeps {shortened(', '.join(changed))})" if changed else ""
            raise UsageError(
                f"{self.who}: forward gives two outputs for the same observation{kept}, so it has a memory or an "
                "internal random generator that outlives the episode; add a method reset() that clears it"
            )
        return first

    def _lasting(self) -> dict[str, Tensor]:
        """What an episode must leave as it is, by name: parameters, and buffers if nobody clears them."""
        lasting: dict[str, Tensor] = dict(self.module.named_parameters())
        return lasting if self._reset is not None else lasting | dict(self.module.named_buffers())

    def _answer(self, observation: Float32s) -> Float32s:
        """Forward, with all that may be wrong with it said in one line."""
        try:
            with torch.inference_mode():
                outputs = self.module(torch.from_numpy(observation))
            flat: Float32s = checked_outputs(outputs, self.who).numpy().reshape(-1)
        except BaseException as error:
            self._explained(error, observation.size)
        return flat

    def _explained(self, error: BaseException, size: int) -> NoReturn:
        """Raise what forward's own error becomes, with the shape that it was given."""
        if not is_of_the_users_code(error):
            raise error
        self._check_batch_norms()
        hint = ""
        if isinstance(error, RuntimeError) and any(words in str(error) for words in NO_AUTOGRAD):
            hint = (
                "; forward runs without autograd: compute gradients with torch.func.grad, or on clones within "
                "torch.inference_mode(False) and torch.enable_grad()"
            )
        elif isinstance(error, RuntimeError | ValueError | IndexError):
            hint = "; layers that need a batch axis or the shape of a picture can reshape it first"
        raise UsageError(
            f"{self.who}: forward, given an observation of shape [{size}], raised {in_one_line(error)}{hint}"
        ) from error


def checked_outputs(outputs: Any, who: str, strict: bool = True, anywhere: bool = False) -> Tensor:
    """What forward returned, if it is a tensor of float32 that numpy can read.

    Args:
        outputs: what came.
        who: the setting that names the module.
        strict: False takes other real numbers, too, as the first format of runs does.
        anywhere: it may be on any device.

    Raises:
        RunError: naming what it is instead.
    """
    if not isinstance(outputs, Tensor):
        raise RunError(
            f"{who}: forward returned {described(outputs)}, expected a float32 tensor{_advice(outputs)}"
        )
    elsewhere = outputs.device.type != "cpu" and not anywhere
    if elsewhere or outputs.layout != torch.strided:
        kind = outputs.device if elsewhere else outputs.layout
        raise RunError(
            f"{who}: forward returned a tensor on {kind}, expected an ordinary one on the cpu; remove .to(…)"
        )
    real = outputs.dtype.is_floating_point or not (outputs.is_complex() or outputs.is_quantized)
    if outputs.dtype is not FLOAT32 and (strict or not real):
        raise RunError(
            f"{who}: forward returned {_dtype(outputs)} {list(outputs.shape)}, expected float32"
            + ("" if outputs.is_complex() else "; end it with .float()")
        )
    return outputs.detach().resolve_conj().resolve_neg()


def _advice(outputs: Any) -> str:
    """What to return instead."""
    if isinstance(outputs, list | tuple):
        return "; return the outputs alone, and keep a state in an attribute that reset() clears"
    if isinstance(outputs, torch.distributions.Distribution):
        return "; return its logits or its mean"
    if isinstance(outputs, dict):
        return "; return the outputs alone"
    if isinstance(outputs, np.ndarray):
        return "; leave out .numpy()"
    return ""


def _generators() -> tuple[Any, Any, Tensor]:
    """Where the generators stand that are seeded for every episode."""
    return random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002


def _restore(states: tuple[Any, Any, Tensor]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _attributes(module: torch.nn.Module) -> dict[str, Any]:
    """Everything that the module and its parts keep beside parameters, buffers and parts, by name."""
    found = {}
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            if not (name.startswith("_") and name in _OF_TORCH) and name != "training":
                found[f"{prefix}.{name}" if prefix else name] = value
    return found


_OF_TORCH = frozenset(vars(torch.nn.Module()))
