"""Reversible residual blocks as a torch module whose memory doesn't grow with depth.

Gomez et al. 2017 (arXiv 1707.04585): the forward pass keeps the last state alone; the backward pass undoes block after
block, computes each function once more, now with gradients, and forgets it again. It costs a second forward pass; what
autograd keeps is two tensors and the parameters, whatever the depth. See ``reversible`` for the blocks themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from esd.errors import RunError, UsageError

Halves = tuple[torch.Tensor, torch.Tensor]


class ReversibleSequence(torch.nn.Module):
    """y₁ = x₁ + F(x₂), y₂ = x₂ + G(y₁), block after block.

    Gradients are those of the plain computation, but for the rounding of the rebuilt activations. F and G are computed
    again when gradients are, so there are rules for them:

    - They depend on their input and their own parameters. What else they get from outside gets no gradient.
    - They may draw random numbers (dropout) from torch's generator of the CPU: its state is kept, 5 kB for each
      function that draws, so that the same numbers come again. A seed gives the numbers that it gives to plain blocks.
    - They must not change their buffers: batch normalization in training is refused.
    - Hooks on parameters are called as always, once per backward pass; forward hooks on modules in F and G twice.

    Between forward and backward neither parameters, buffers nor ``training`` may change; that is refused. Gradients of
    gradients are refused by torch. Tensors have to be on the CPU: states of other generators are not kept.

    Attributes:
        functions: F and G of the first block, of the second, and so on.
    """

    def __init__(self, blocks: Iterable[tuple[torch.nn.Module, torch.nn.Module]]) -> None:
        """Take F and G of each block; a module may stand in several places."""
        super().__init__()
        self.functions = torch.nn.ModuleList(function for f, g in blocks for function in (f, g))

    def forward(self, x1: torch.Tensor, x2: torch.Tensor) -> Halves:
        """The state behind all blocks.

        Args:
            x1: float32 or float64, any shape.
            x2: of the same kind and shape.

        Raises:
            UsageError: halves don't fit, are not on the CPU, or a function gives another shape or changes its buffers.
        """
        _check(x1, x2)
        parameters = [p for p in self.parameters() if p.requires_grad]
        if torch.is_grad_enabled() and any(t.requires_grad for t in (x1, x2, *parameters)):
            halves: Halves = _Rebuilt.apply(self, parameters, x1, x2, *parameters)  # type: ignore[no-untyped-call]
            return halves
        return self._advanced(x1, x2)[0]

    @torch.no_grad()
    def inverse(self, y1: torch.Tensor, y2: torch.Tensor) -> Halves:
        """The state in front of all blocks, up to rounding (see ``reversible.inverse``), without gradients.

        Raises:
            UsageError: halves don't fit, or a function draws random numbers, which nobody has kept.
        """
        _check(y1, y2)
        for number, f, g in reversed(self._blocks()):
            y2 = y2 - _undrawn("G", number, g, y1)
            y1 = y1 - _undrawn("F", number, f, y2)
        return y1, y2

    def _blocks(self) -> list[tuple[int, torch.nn.Module, torch.nn.Module]]:
        functions = list(self.functions)
        pairs = zip(functions[::2], functions[1::2], strict=True)
        return [(number, f, g) for number, (f, g) in enumerate(pairs)]

    def _advanced(self, x1: torch.Tensor, x2: torch.Tensor) -> tuple[Halves, list[Any]]:
        """The state behind all blocks, and the generator's states in front of the functions that have drawn."""
        states = []
        for number, f, g in self._blocks():
            given, state = _given("F", number, f, x2)
            x1 = x1 + given
            states.append(state)
            given, state = _given("G", number, g, x1)
            x2 = x2 + given
            states.append(state)
        return (x1, x2), states

    def _condition(self) -> list[Any]:
        """What functions depend on, but for the values of parameters, which autograd itself looks after."""
        return [
            *(id(parameter) for parameter in self.parameters()),
            *((id(buffer), buffer._version) for buffer in self.buffers()),
            *(module.training for module in self.modules()),
        ]


class _Rebuilt(torch.autograd.Function):
    """All blocks as one operation."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def forward(
        ctx: Any,
        sequence: ReversibleSequence,
        parameters: list[torch.nn.Parameter],
        x1: torch.Tensor,
        x2: torch.Tensor,
        *_: torch.nn.Parameter,
    ) -> Halves:
        before = sequence._condition()
        (y1, y2), ctx.states = sequence._advanced(x1, x2)
        ctx.sequence, ctx.condition = sequence, sequence._condition()
        if ctx.condition != before:
            raise UsageError(
                "a function changes its buffers when it is computed, as batch normalization does in training: expected "
                "the same for the same input; call eval() on it, or use layer normalization"
            )
        if not len(sequence.functions):  # an operation may not give what it was given
            y1, y2 = y1.clone(), y2.clone()
        ctx.save_for_backward(y1, y2, *parameters)
        return y1, y2

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *given: torch.Tensor) -> Any:  # type: ignore[override]
        d1, d2 = given
        y1, y2, *parameters = ctx.saved_tensors
        if ctx.sequence._condition() != ctx.condition:
            raise RunError(
                "parameters were exchanged, or buffers or train()/eval() changed, between forward and backward: "
                "activations can't be rebuilt"
            )
        places = {id(parameter): place for place, parameter in enumerate(parameters)}
        gradients: list[torch.Tensor | None] = [None] * len(parameters)

        def undo(
            function: torch.nn.Module,
            state: Any,
            half: torch.Tensor,
            total: torch.Tensor,
            d: torch.Tensor,
        ) -> Halves:
            """Take the function off the total; also its input's gradient, given that of what it gave."""
            own = {name: p for name, p in function.named_parameters() if id(p) in places}
            # aliases: hooks on parameters are to see the sum of all blocks once, not what each of them adds
            aliases = {name: p.detach().requires_grad_() for name, p in own.items()}
            half = half.detach().requires_grad_()
            with torch.enable_grad():
                given = _replayed(function, state, aliases, half)
            rest = total - given.detach()
            if not given.requires_grad:
                return rest, torch.zeros_like(half)
            found = torch.autograd.grad(
                given, (half, *aliases.values()), d.to(given.dtype), allow_unused=True
            )
            for parameter, gradient in zip(own.values(), found[1:], strict=True):
                place = places[id(parameter)]
                earlier = gradients[place]
                if gradient is not None:
                    gradients[place] = gradient if earlier is None else earlier + gradient
            return rest, torch.zeros_like(half) if found[0] is None else found[0]

        states = list(ctx.states)
        for _, f, g in reversed(ctx.sequence._blocks()):
            y2, through = undo(g, states.pop(), y1, y2, d2)
            d1 = d1 + through
            y1, through = undo(f, states.pop(), y2, y1, d1)
            d2 = d2 + through
        return None, None, d1, d2, *gradients


def _check(x1: torch.Tensor, x2: torch.Tensor) -> None:
    kinds = (torch.float32, torch.float64)
    if x1.shape != x2.shape or x1.dtype != x2.dtype or x1.dtype not in kinds:
        raise UsageError(
            f"halves are {x1.dtype} {tuple(x1.shape)} and {x2.dtype} {tuple(x2.shape)}: expected float32 or float64, "
            "and the same for both"
        )
    for half in (x1, x2):
        if half.device.type != "cpu":
            raise UsageError(f"a half is on {half.device}: expected the CPU; move it there")


def _given(
    name: str, number: int, function: torch.nn.Module, half: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What F or G says, and the state of the generator before, if it has drawn from it."""
    state = torch.get_rng_state()
    given = function(half)
    if not isinstance(given, torch.Tensor) or given.shape != half.shape:
        shape = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
        raise UsageError(f"{name} of block {number} gives {shape}: expected {tuple(half.shape)}")
    return given, None if torch.equal(state, torch.get_rng_state()) else state


def _undrawn(name: str, number: int, function: torch.nn.Module, half: torch.Tensor) -> torch.Tensor:
    given, state = _given(name, number, function, half)
    if state is not None:
        raise UsageError(
            f"{name} of block {number} draws random numbers: expected none for an inverse; call eval() first"
        )
    return given


def _replayed(
    function: torch.nn.Module,
    state: torch.Tensor | None,
    parameters: dict[str, torch.Tensor],
    half: torch.Tensor,
) -> torch.Tensor:
    """What a function says with these parameters and the generator as it was, which is left as it is."""
    now = None if state is None else torch.get_rng_state()
    if state is not None:
        torch.set_rng_state(state)
    given: torch.Tensor = torch.func.functional_call(function, parameters, (half,))
    if now is not None:
        torch.set_rng_state(now)
    return given
