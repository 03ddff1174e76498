"""One step of a network, written once for every library that has the operations of ``Operations``."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from esd.episodes.action_parts import Box, part_of
from esd.errors import UsageError
from esd.export.network import HIDDEN, STEP, Convolutions, Gru, Layer, Network
from esd.export.subject import CLIP
from esd.kernels.plastic import SMALLEST

Value = Any  # of the library, with +, −, × and ÷

BEYOND = 3.0e38  # in place of infinity in a clip


class Operations(Protocol):
    """What a step is made of. All arrays are of one observation: there is no batch."""

    def constant(self, name: str, array: npt.NDArray[Any]) -> Value:
        """An array of the file."""

    def cast(self, x: Value, dtype: str) -> Value:
        """To "float32", "float64" or "int64"."""

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """The same numbers in another shape."""

    def transpose(self, x: Value, axes: Sequence[int]) -> Value:
        """The axes in another order."""

    def matmul(self, a: Value, b: Value) -> Value:
        """The matrix product."""

    def convolve(self, x: Value, weights: Value, stride: int) -> Value:
        """[1, channels, rows, columns] by [maps, channels, rows, columns], without padding."""

    def pool(self, x: Value) -> Value:
        """The largest of each 2×2."""

    def tanh(self, x: Value) -> Value:
        """Hyperbolic tangent."""

    def relu(self, x: Value) -> Value:
        """The larger of x and 0."""

    def round(self, x: Value) -> Value:
        """The nearest whole number, of two the even one."""

    def clip(self, x: Value, low: Value, high: Value) -> Value:
        """Bounded, element by element."""

    def largest_magnitude(self, x: Value) -> Value:
        """Max |x| over all, of shape [1, 1]."""

    def norm(self, x: Value) -> Value:
        """√Σx² over all, of shape [1, 1]."""

    def greater(self, a: Value, b: float) -> Value:
        """Where a > b, a number of a's type."""

    def where(self, condition: Value, a: Value, b: Value) -> Value:
        """Element by element a or b."""

    def argmax(self, x: Value) -> Value:
        """Index of the largest of a vector, the first of equals, int64 []."""

    def part(self, x: Value, start: int, stop: int) -> Value:
        """A stretch of a vector."""

    def concatenate(self, parts: Sequence[Value]) -> Value:
        """Vectors one after the other."""

    def row(self, table: Value, step: Value, period: int) -> Value:
        """Row step modulo period of a table, as a vector."""


def step(
    ops: Operations, network: Network, observation: Value, state: Mapping[str, Value]
) -> tuple[dict[str, Value], Value, dict[str, Value]]:
    """One step.

    Args:
        ops: of the library.
        network: what is computed.
        observation: [observation_size], of the network's ``observation_dtype``, flattened as Gymnasium does it, before
            normalization.
        state: see ``Network.initial_state``.

    Returns:
        The action by the names of its parts ("action", or "action.KEY" of a Dict or Tuple), the policy's outputs that
        it is decoded from, and the next state. The next state is meant for a next observation: after the last step of
        an episode it is thrown away.
    """
    x, after = observation, dict(state)
    if network.scale is not None:
        mean, inverse = network.scale
        x = ops.cast(x, "float64") - ops.constant("observation_mean", mean)
        x = x * ops.constant("observation_inverse_deviation", inverse)
        ends = np.full(mean.size, CLIP)
        x = ops.clip(x, ops.constant("clip_low", -ends), ops.constant("clip_high", ends))
        x = ops.cast(x, "float32")
    if network.convolutions is not None:
        x = _see(ops, network.convolutions, x)
    if network.gru is not None:
        x = after[HIDDEN] = _remember(ops, network.gru, x, state)
        x = ops.concatenate([x, ops.constant("one", np.ones(1, np.float32))])
    learning = None
    if network.freeze_after and STEP in state:
        learning = ops.greater(state[STEP] * -1, -network.freeze_after)
    for layer in network.layers:
        inputs, outputs = layer.weights.shape
        weights = state.get(layer.state_name)
        if weights is None:
            weights = ops.constant(layer.state_name, layer.weights)
        total = ops.reshape(ops.matmul(ops.reshape(x, (1, inputs)), weights), (outputs,))
        y = _activated(ops, layer.activation, total)
        if layer.coefficients:
            new = _rewired(ops, layer, network.normalization, weights, x, y)
            after[layer.state_name] = new if learning is None else ops.where(learning, new, weights)
        x = y
    if STEP in state:
        after[STEP] = state[STEP] + 1
    actions: dict[str, Value] = {}
    _decode(ops, network.action_space, x, network.squashed, "action", actions)
    return actions, x, after


def _activated(ops: Operations, kind: str, x: Value) -> Value:
    return ops.tanh(x) if kind == "tanh" else ops.relu(x) if kind == "relu" else x


def _rewired(
    ops: Operations, layer: Layer, normalization: str, weights: Value, x: Value, y: Value
) -> Value:
    """Δw = (A·x + C)·y + (B·x + D), and the normalization that follows it."""
    inputs, outputs = layer.weights.shape
    x, y = ops.reshape(x, (inputs, 1)), ops.reshape(y, (1, outputs))
    a, b, c, d = (ops.constant(f"{layer.name}.{name}", layer.coefficients[name]) for name in "ABCD")
    weights = weights + ((a * x + c) * y + (b * x + d))
    if normalization == "none":
        return weights
    size = ops.largest_magnitude(weights) if normalization == "max" else ops.norm(weights)
    unchanged = ops.constant("unit", np.ones((1, 1), np.float32))
    return weights / ops.where(ops.greater(size, float(SMALLEST)), size, unchanged)


def _see(ops: Operations, convolutions: Convolutions, x: Value) -> Value:
    """The 648 features of a picture."""
    size = convolutions.size
    planes = ops.transpose(ops.reshape(x, (size, size, 3)), (2, 0, 1))
    rows = ops.constant("shrink_rows", convolutions.shrink)
    columns = ops.constant("shrink_columns", np.ascontiguousarray(convolutions.shrink.T))
    small = ops.matmul(ops.matmul(rows, planes), columns) * float(np.float32(1.0 / 255.0))
    small = ops.reshape(small, (1, 3, len(convolutions.shrink), len(convolutions.shrink)))
    first = ops.convolve(small, ops.constant("conv1.w", convolutions.first), 1)
    second = ops.constant("conv2.w", convolutions.second)
    maps = ops.pool(ops.tanh(ops.convolve(ops.pool(ops.tanh(first)), second, 2)))
    return ops.reshape(maps, (-1,))


def _remember(ops: Operations, gru: Gru, x: Value, state: Mapping[str, Value]) -> Value:
    """The next hidden state, float32 [units]."""
    units = gru.units
    faces = [
        ops.row(ops.constant(f"clock{face.shape[0]}", face), state[STEP], face.shape[0])
        for face in gru.faces
    ]
    x = ops.concatenate([x, *faces, ops.constant("one", np.ones(1, np.float32))])
    h = state[HIDDEN]

    def product(vector: Value, name: str, matrix: npt.NDArray[np.float32]) -> list[Value]:
        row = ops.reshape(vector, (1, len(matrix)))
        flat = ops.reshape(ops.matmul(row, ops.constant(name, matrix)), (3 * units,))
        return [ops.part(flat, i * units, (i + 1) * units) for i in range(3)]

    inputs, recurrent = product(x, "input", gru.input), product(h, "recurrent", gru.recurrent)
    r, z = (ops.tanh((inputs[i] + recurrent[i]) * 0.5) * 0.5 + 0.5 for i in (0, 1))
    n = ops.tanh(inputs[2] + r * recurrent[2])
    return n + z * (h - n)


def _decode(
    ops: Operations,
    space: Any,
    outputs: Value,
    squashed: bool,
    name: str,
    actions: dict[str, Value],
) -> int:
    """Add the action of a space to ``actions``; returns how many outputs it takes. See ``episodes.action_parts``."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        start = 0
        for key, part in parts:
            rest = ops.part(outputs, start, start + outputs_of(part))
            start += _decode(ops, part, rest, squashed, f"{name}.{key}", actions)
        return start
    if name in actions:
        raise UsageError(
            f"two parts of the action space are called {name!r}; keys with dots can't be told from nested ones"
        )
    count = outputs_of(space)
    if isinstance(space, spaces.Discrete):
        actions[name] = ops.argmax(outputs) + int(space.start)
    elif isinstance(space, spaces.MultiDiscrete):
        ends = np.cumsum([0, *space.nvec.reshape(-1).tolist()]).tolist()
        chosen = [
            ops.reshape(ops.argmax(ops.part(outputs, a, b)), (1,))
            for a, b in itertools.pairwise(ends)
        ]
        first = np.asarray(space.start, np.int64).reshape(-1)
        joined = ops.concatenate(chosen) + ops.constant(f"{name}.start", first)
        actions[name] = ops.reshape(joined, space.nvec.shape)
    elif isinstance(space, spaces.MultiBinary):
        actions[name] = ops.reshape(ops.cast(ops.greater(outputs, 0.0), "int64"), space.shape)
    else:
        actions[name] = _to_box(ops, space, outputs, squashed, name)
    return count


def _to_box(ops: Operations, space: spaces.Box, outputs: Value, squashed: bool, name: str) -> Value:
    """Two finite bounds: tanh, then scaled to them. One: clipped at it."""
    part = part_of(space)
    assert isinstance(part, Box)
    low, high = part.low, part.high
    finite = np.isfinite(low) & np.isfinite(high)
    value = outputs
    if finite.any():
        start = ops.constant(f"{name}.low", np.where(finite, low, 0.0).astype(np.float32))
        width = np.where(finite, high, 0.0) - np.where(finite, low, 0.0)
        half = ops.constant(f"{name}.half_width", (0.5 * width).astype(np.float32))
        scaled = start + ((outputs if squashed else ops.tanh(outputs)) + 1.0) * half
        value = ops.where(ops.constant(f"{name}.bounded", finite), scaled, outputs)
    least = ops.constant(f"{name}.least", np.nan_to_num(low, neginf=-BEYOND, posinf=BEYOND))
    most = ops.constant(f"{name}.most", np.nan_to_num(high, neginf=-BEYOND, posinf=BEYOND))
    value = ops.clip(value, least, most)
    if part.own_ends is not None:
        first, last = part.own_ends
        ends = ops.constant(f"{name}.first", first), ops.constant(f"{name}.last", last)
        value = ops.clip(ops.cast(value, first.dtype.name), *ends)
    value = ops.reshape(value, space.shape)
    return ops.cast(ops.round(value), "int64") if space.dtype.kind in "iub" else value


def action_shapes(space: Any, name: str = "action") -> dict[str, tuple[int, ...]]:
    """The shapes of the parts of an action, by their names in ``step``."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        found: dict[str, tuple[int, ...]] = {}
        for key, part in parts:
            found |= action_shapes(part, f"{name}.{key}")
        return found
    return {name: () if isinstance(space, spaces.Discrete) else tuple(space.shape)}


def outputs_of(space: Any) -> int:
    """Outputs that the action of a space needs."""
    if isinstance(space, spaces.Dict):
        return sum(map(outputs_of, space.spaces.values()))
    if isinstance(space, spaces.Tuple):
        return sum(map(outputs_of, space.spaces))
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    return int(np.prod(space.shape))
