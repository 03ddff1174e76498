"""``--format onnx``: one step of the policy as a graph, from observation and state to action, outputs and next state.

Every input of the state has a default: what the episode with seed 0 begins with. A runtime that leaves it out in the
first step starts that episode.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esd.errors import MissingPackageError, UsageError
from esd.export.network import Network, network_of
from esd.export.step import action_shapes, outputs_of, step
from esd.export.subject import Subject, described_normalizer, described_space
from esd.run.files import write_atomically
from esd.run.folder import Warn

OPSET, IR = 17, 8  # of 2022: what every runtime of today reads
NEXT = "next."  # before the name of a state, of what it becomes
MOST_BYTES = 2_000_000_000  # protobuf takes no more


def write(path: Path, subject: Subject, warn: Warn) -> None:
    """Write the graph.

    Raises:
        UsageError: if the policy is of a kind that has no graph; ``MissingPackageError`` without onnx.
        RunError: if the file can't be written.
    """
    network = network_of(subject, "onnx")
    try:
        import onnx
    except ImportError as error:
        raise MissingPackageError("--format onnx", "onnx") from error
    model = graph_of(network)
    for key, value in {
        **subject.words(),
        "spaces": json.dumps([described_space(space) for space in subject.spaces]),
        "normalizer": described_normalizer(subject),
    }.items():
        model.metadata_props.add(key=key, value=value)
    if model.ByteSize() > MOST_BYTES:
        raise UsageError(
            f"--format onnx: the graph has {model.ByteSize():,} bytes, more than {MOST_BYTES:,}; use --format torch"
        )
    onnx.checker.check_model(model)
    write_atomically(path, model.SerializeToString())


def graph_of(network: Network) -> Any:
    """The model, ``onnx.ModelProto``."""
    from onnx import helper, numpy_helper

    ops = _Builder()
    observation = _Value(ops, "observation", network.observation_dtype)
    first = network.initial_state()
    state = {name: _Value(ops, name, array.dtype.name) for name, array in first.items()}
    ops.taken |= {"observation", *first}
    actions, outputs, after = step(ops, network, observation, state)
    results = {**actions, "outputs": outputs, **{f"{NEXT}{k}": v for k, v in after.items()}}
    named = [ops.named(value, name) for name, value in results.items()]
    types = {name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in _TYPES}

    def declared(value: _Value, shape: Sequence[int]) -> Any:
        return helper.make_tensor_value_info(value.name, types[value.dtype], shape)

    inputs = [declared(observation, (network.observation_size,))]
    inputs += [declared(state[name], array.shape) for name, array in first.items()]
    shapes = {f"{NEXT}{name}": array.shape for name, array in first.items()}
    shapes |= {
        **action_shapes(network.action_space),
        "outputs": (outputs_of(network.action_space),),
    }
    graph = helper.make_graph(
        ops.nodes,
        "policy",
        inputs,
        [declared(value, shapes[value.name]) for value in named],
        [numpy_helper.from_array(a, n) for n, a in {**first, **ops.constants}.items()],
    )
    imports = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=imports, ir_version=IR, producer_name="esd")


_TYPES = ("float32", "float64", "int64", "bool")


class _Value:
    """A tensor of the graph."""

    def __init__(self, builder: _Builder, name: str, dtype: str) -> None:
        self.builder, self.name, self.dtype = builder, name, dtype

    def _with(self, kind: str, other: _Value | float) -> _Value:
        if not isinstance(other, _Value):
            other = self.builder.number(other, self.dtype)
        return self.builder.node(kind, [self, other], self.dtype)

    def __add__(self, other: _Value | float) -> _Value:
        return self._with("Add", other)

    def __sub__(self, other: _Value | float) -> _Value:
        return self._with("Sub", other)

    def __mul__(self, other: _Value | float) -> _Value:
        return self._with("Mul", other)

    def __truediv__(self, other: _Value | float) -> _Value:
        return self._with("Div", other)


class _Builder:
    """``step.Operations`` that add nodes to a graph."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, npt.NDArray[Any]] = {}
        self.taken: set[str] = set()
        self._count = 0

    def node(self, kind: str, inputs: Sequence[_Value], dtype: str, **attributes: Any) -> _Value:
        """Add a node."""
        from onnx import helper

        self._count += 1
        name = f"{kind.lower()}_{self._count}"
        self.nodes.append(helper.make_node(kind, [i.name for i in inputs], [name], **attributes))
        return _Value(self, name, dtype)

    def named(self, value: _Value, name: str) -> _Value:
        """The same under the name of an output."""
        from onnx import helper

        self.nodes.append(helper.make_node("Identity", [value.name], [name]))
        return _Value(self, name, value.dtype)

    def number(self, value: float, dtype: str) -> _Value:
        """A number."""
        return self.constant(f"{dtype}_{value!r}", np.array(value, dtype))

    def constant(self, name: str, array: npt.NDArray[Any]) -> _Value:
        """See ``Operations``, as all that follow."""
        known = self.constants.setdefault(name, np.ascontiguousarray(array).reshape(array.shape))
        assert known.shape == array.shape, name
        return _Value(self, name, array.dtype.name)

    def _shape(self, numbers: Sequence[int]) -> _Value:
        values = [int(n) for n in numbers]
        return self.constant(f"int64_{values}", np.array(values, np.int64))

    def cast(self, x: _Value, dtype: str) -> _Value:
        from onnx import helper

        return self.node("Cast", [x], dtype, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def reshape(self, x: _Value, shape: Sequence[int]) -> _Value:
        return self.node("Reshape", [x, self._shape(shape)], x.dtype)

    def transpose(self, x: _Value, axes: Sequence[int]) -> _Value:
        return self.node("Transpose", [x], x.dtype, perm=list(axes))

    def matmul(self, a: _Value, b: _Value) -> _Value:
        return self.node("MatMul", [a, b], a.dtype)

    def convolve(self, x: _Value, weights: _Value, stride: int) -> _Value:
        return self.node("Conv", [x, weights], x.dtype, strides=[stride, stride])

    def pool(self, x: _Value) -> _Value:
        return self.node("MaxPool", [x], x.dtype, kernel_shape=[2, 2], strides=[2, 2])

    def tanh(self, x: _Value) -> _Value:
        return self.node("Tanh", [x], x.dtype)

    def relu(self, x: _Value) -> _Value:
        return self.node("Relu", [x], x.dtype)

    def round(self, x: _Value) -> _Value:
        return self.node("Round", [x], x.dtype)

    def clip(self, x: _Value, low: _Value, high: _Value) -> _Value:
        return self.node("Min", [self.node("Max", [x, low], x.dtype), high], x.dtype)

    def largest_magnitude(self, x: _Value) -> _Value:
        magnitudes = self.node("Abs", [x], x.dtype)
        return self.node("ReduceMax", [magnitudes], x.dtype, axes=[0, 1], keepdims=1)

    def norm(self, x: _Value) -> _Value:
        return self.node("ReduceL2", [x], x.dtype, axes=[0, 1], keepdims=1)

    def greater(self, a: _Value, b: float) -> _Value:
        return self.node("Greater", [a, self.number(b, a.dtype)], "bool")

    def where(self, condition: _Value, a: _Value, b: _Value) -> _Value:
        return self.node("Where", [condition, a, b], a.dtype)

    def argmax(self, x: _Value) -> _Value:
        return self.node("ArgMax", [x], "int64", axis=0, keepdims=0)

    def part(self, x: _Value, start: int, stop: int) -> _Value:
        return self.node("Slice", [x, self._shape([start]), self._shape([stop])], x.dtype)

    def concatenate(self, parts: Sequence[_Value]) -> _Value:
        return self.node("Concat", parts, parts[0].dtype, axis=0)

    def row(self, table: _Value, step: _Value, period: int) -> _Value:
        index = self.node("Mod", [step, self.number(period, "int64")], "int64")
        return self.node("Gather", [table, index], table.dtype, axis=0)
