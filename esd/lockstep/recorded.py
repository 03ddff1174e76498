"""A function of one tensor as the calls of torch that it makes, so that a step leaves out all Python around them.

``torch.func.vmap`` and a module's own Python take three times as long as the arithmetic of 64 small networks. So the
calls below both are recorded once and from then on made directly, in the same order with the same arguments: they are
the same calls, and so have the same bits. What can't be recorded is called as it is.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Function = Callable[[Tensor], Any]

aten = torch.ops.aten


class _NotRecordedError(Exception):
    """Why a function can't be recorded."""


def recorded(function: Function, inputs: Tensor) -> Function | None:
    """What a function does to a tensor of this shape.

    Tensors that it reads from elsewhere may change their contents later, and only those. It may not do different
    things at different times, nor by the contents of its input.

    Args:
        function: to be recorded.
        inputs: an example of its input.

    Returns:
        The same function, made of nothing but torch's own calls; None if there is no such thing.
    """
    recorder = _Recorder(inputs)
    try:
        with recorder:
            outputs = function(inputs)
        return recorder.function(outputs)
    except _NotRecordedError:
        return None


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down calls.

    What is no result of a call that was written down is a constant: its values are those of the time of the call.
    """

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._graph = fx.Graph()
        self._last_input = self._graph.placeholder("inputs")
        self._nodes = {id(inputs): self._last_input}
        self._constants: dict[int, tuple[fx.Node, Tensor]] = {}
        self._kept: list[Any] = [inputs]  # of what is gone another tensor could have the id

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Don't import the compiler, which takes a second: nothing is compiled here."""
        return False

    def __torch_dispatch__(
        self, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Make a call and write it down."""
        kwargs = kwargs or {}
        outputs = op(*args, **kwargs)
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self._kept += [*given, outputs]
        constant = bool(given) and not any(id(tensor) in self._nodes for tensor in given)
        if op is aten.lift_fresh.default:  # a tensor of the source text, new in every call
            op, args = aten.clone.default, (args[0].clone(),)  # it may be written to in a moment
            self._kept.append(args)
        elif constant and op.is_view:  # shows the same memory, whatever is in it
            return outputs
        if op._schema.is_mutable and self._writes_constant(op, args, kwargs):
            raise _NotRecordedError(f"{op} writes to memory that outlives the call")
        self._write_down(op, args, kwargs, outputs)
        return outputs

    def _writes_constant(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a call writes to a tensor that is not its own."""
        for place, argument in enumerate(op._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            given = args[place] if place < len(args) else kwargs.get(argument.name)
            if any(isinstance(x, Tensor) and id(x) not in self._nodes for x in tree_leaves(given)):
                return True
        return False

    def _write_down(
        self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any
    ) -> None:
        """Add a call whose results were ``outputs``."""
        arguments, keywords = (
            fx.node.map_aggregate(given, self._node_of) for given in (args, dict(kwargs))
        )
        node = self._graph.call_function(op, arguments, keywords)  # type: ignore[arg-type]
        if isinstance(outputs, Tensor):
            self._nodes[id(outputs)] = node
        elif isinstance(outputs, list | tuple):
            for place, output in enumerate(outputs):
                if isinstance(output, Tensor):
                    item = self._graph.call_function(operator.getitem, (node, place))
                    self._nodes[id(output)] = item
        else:
            raise _NotRecordedError(f"{op} gives {type(outputs).__name__}")

    def _node_of(self, value: Any) -> Any:
        """What stands for an argument."""
        if not isinstance(value, Tensor):
            return value
        if id(value) in self._nodes:
            return self._nodes[id(value)]
        if id(value) not in self._constants:
            with self._graph.inserting_after(self._last_input):
                node = self._graph.placeholder(f"constant{len(self._constants)}")
            self._last_input = node
            self._constants[id(value)] = node, value
        return self._constants[id(value)][0]

    def function(self, outputs: Any) -> Function:
        """What was written down, as a function that gives the same outputs.

        Raises:
            _NotRecordedError: if they are not the result of a call.
        """
        node = self._nodes.get(id(outputs))
        if node is None:
            raise _NotRecordedError("the outputs are constant, or not a tensor")
        self._graph.output(node)
        forward = fx.GraphModule({}, self._graph).forward
        constants = [value for _, value in self._constants.values()]

        def recorded(inputs: Tensor) -> Any:
            return forward(inputs, *constants)

        return recorded
