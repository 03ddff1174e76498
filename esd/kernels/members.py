"""Sixteen members side by side: one step of sixteen networks of the same sizes, and whole episodes with them.

A small network leaves most of a vector empty, or most of its time to what surrounds it. Here a lane is a member: weight
(i, j) of sixteen members is one vector, and so is every activity. Each lane makes the operations of ``plastic.step`` in
their order, so its bits are those of the member alone. The environments are stepped one after the other, by their C
functions. A lane that has finished its episode is given another one by the caller, while the others go on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from esd.kernels import inlined, kernel
from esd.kernels.elementary import tanh
from esd.kernels.lanes import (
    LANES,
    lanes_type,
    larger_magnitude,
    load,
    padded,
    splat,
    store,
)
from esd.kernels.many_episodes import go_on, output_size, see
from esd.kernels.plastic import (
    HIDDEN_ACTIVATION,
    LAST_UPDATE,
    NORMALIZATION,
    NORMALIZE_L2,
    NORMALIZE_NONE,
    OUTPUT_ACTIVATION,
    PLASTIC_STREAMS,
    RELU,
    SIZES,
    SMALLEST,
    STEP,
    STREAMS,
    TANH,
)

f32 = np.float32


class Networks(NamedTuple):
    """Sixteen networks.

    Attributes:
        synapses: float32; per layer, output and input the streams' sixteen values each, one per member.
        memory: float32 [2·units + layers, 16], flat: this step's activities and the last one's by parity of the step,
            then the factor that each layer's stored weights lack.
        settings: int64, as of ``plastic.step``; its step number counts the steps of all.
        numbers: int64 [16], steps of each lane's episode.
    """

    synapses: npt.NDArray[np.float32]
    memory: npt.NDArray[np.float32]
    settings: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]


def networks(settings: npt.NDArray[np.int64], zeros: Any) -> Networks:
    """Room for sixteen networks like the one with these settings; ``zeros`` makes float32 [n]."""
    sizes = settings[SIZES:]
    connections = int(np.sum(sizes[:-1] * sizes[1:]))
    return Networks(
        zeros(connections * int(settings[STREAMS]) * LANES),
        zeros((2 * int(sizes.sum()) + sizes.size - 1) * LANES),
        settings.copy(),
        np.zeros(LANES, np.int64),
    )


@intrinsic
def _chosen(typingctx, mask, a, b):
    """Of a where the mask is above 0, else of b; lane by lane."""

    def codegen(context, builder, signature, arguments):
        mask, a, b = arguments
        zero = ir.Constant(mask.type, [0.0] * LANES)
        return builder.select(builder.fcmp_ordered(">", mask, zero), a, b)

    return lanes_type(mask, a, b), codegen


@intrinsic
def _normalizers(typingctx, whole, smallest):
    """1 / whole where that is above ``smallest``, else 1."""

    def codegen(context, builder, signature, arguments):
        whole, smallest = arguments
        one = ir.Constant(whole.type, [1.0] * LANES)
        return builder.select(
            builder.fcmp_ordered(">", whole, smallest), builder.fdiv(one, whole), one
        )

    return lanes_type(whole, smallest), codegen


@intrinsic
def _square_root(typingctx, value):
    def codegen(context, builder, signature, arguments):
        kind = arguments[0].type
        name = f"llvm.sqrt.v{LANES}f32"
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind]), name
        )
        return builder.call(function, arguments)

    return lanes_type(value), codegen


@inlined
def _activate(kind, memory, at):
    """Apply an activation to sixteen values in place."""
    if kind == TANH:
        for lane in range(at, at + LANES):
            memory[lane] = tanh(memory[lane])
    elif kind == RELU:
        for lane in range(at, at + LANES):
            memory[lane] = f32(0.0) if memory[lane] < f32(0.0) else memory[lane]


@inlined
def _forward(networks):
    """Make a step of all sixteen, whose observations are in the memory; returns where their outputs begin."""
    synapses, memory, settings, numbers = networks
    number = settings[STEP]
    streams = settings[STREAMS]
    sizes = settings[SIZES:]
    layers = sizes.size - 1
    units = 0
    for layer in range(sizes.size):
        units += sizes[layer]
    now = (number & 1) * units * LANES
    before = (units - (number & 1) * units) * LANES
    scales = 2 * units * LANES
    learning = np.empty(LANES, np.float32)
    learns = False
    for lane in range(LANES):
        one = streams == PLASTIC_STREAMS and 0 < numbers[lane] <= settings[LAST_UPDATE]
        learning[lane] = f32(1.0) if one else f32(0.0)
        learns = learns or one
    mask = load(learning, 0)
    at = 0
    x_start = 0
    for layer in range(layers):
        inputs = sizes[layer]
        outputs = sizes[layer + 1]
        y_start = x_start + inputs
        factor = load(memory, scales + layer * LANES)
        largest = splat(f32(0.0))
        whole = splat(f32(0.0))
        for j in range(outputs):
            sums = splat(f32(0.0))
            squares = splat(f32(0.0))
            if learns:
                y = load(memory, before + (y_start + j) * LANES)
                for i in range(inputs):
                    x = load(memory, before + (x_start + i) * LANES)
                    stored = load(synapses, at)
                    delta = (
                        load(synapses, at + LANES) * x + load(synapses, at + 3 * LANES)
                    ) * y + (load(synapses, at + 2 * LANES) * x + load(synapses, at + 4 * LANES))
                    w = _chosen(mask, stored * factor + delta, stored)
                    store(synapses, at, w)
                    sums = sums + w * load(memory, now + (x_start + i) * LANES)
                    largest = larger_magnitude(largest, w)
                    squares = squares + w * w
                    at += PLASTIC_STREAMS * LANES
                whole = whole + squares
            else:
                for i in range(inputs):
                    x = load(memory, now + (x_start + i) * LANES)
                    sums = sums + load(synapses, at) * x
                    at += streams * LANES
            store(memory, now + (y_start + j) * LANES, sums)
        if learns:
            scale = splat(f32(1.0))
            if settings[NORMALIZATION] == NORMALIZE_L2:
                scale = _normalizers(_square_root(whole), splat(SMALLEST))
            elif settings[NORMALIZATION] != NORMALIZE_NONE:
                scale = _normalizers(largest, splat(SMALLEST))
            factor = _chosen(mask, scale, factor)
            store(memory, scales + layer * LANES, factor)
        activation = (
            settings[OUTPUT_ACTIVATION] if layer == layers - 1 else settings[HIDDEN_ACTIVATION]
        )
        for j in range(outputs):
            place = now + (y_start + j) * LANES
            store(memory, place, load(memory, place) * factor)
            _activate(activation, memory, place)
        x_start = y_start
    settings[STEP] = number + 1
    for lane in range(LANES):
        numbers[lane] += 1
    return now + x_start * LANES


@inlined
def _place(synapses, from_streams, first, last, settings, networks, lane):
    """Take streams of a member's network into a lane; ``synapses`` has the first of them first."""
    to = networks[0]
    streams = settings[STREAMS]
    sizes = settings[SIZES:]
    start = 0
    at = lane
    for layer in range(sizes.size - 1):
        inputs = sizes[layer]
        outputs = sizes[layer + 1]
        for j in range(outputs):
            place = start + (j // LANES) * inputs * from_streams * LANES + j % LANES
            for _ in range(inputs):
                for stream in range(first, last):
                    to[at + stream * LANES] = synapses[place + stream * LANES]
                at += streams * LANES
                place += from_streams * LANES
        start += inputs * padded(outputs) * from_streams


@kernel
def place_coefficients(synapses, settings, networks, lane):
    """Take all but the weights of a member's network into a lane.

    Args:
        synapses: float32, as of ``plastic.step``.
        settings: int64, the same.
        networks: where to.
        lane: which of the sixteen.
    """
    streams = settings[STREAMS]
    _place(synapses, streams, 1, streams, settings, networks, lane)


@kernel
def begin_lane(weights, settings, networks, lane):
    """Begin an episode in a lane.

    Args:
        weights: float32, the first stream of a network's synapses.
        settings: int64, as of ``plastic.step``.
        networks: where to.
        lane: which of the sixteen.
    """
    _place(weights, 1, 0, 1, settings, networks, lane)
    sizes = settings[SIZES:]
    units = 0
    for layer in range(sizes.size):
        units += sizes[layer]
    for layer in range(sizes.size - 1):
        networks.memory[(2 * units + layer) * LANES + lane] = f32(1.0)
    networks.numbers[lane] = 0


@kernel
def play(addresses, bounds, body, seen, decoder, squashed, scale, sums, networks, progress):
    """Go on with sixteen episodes until one of them ends.

    Args:
        addresses: int64 [16], of each lane's step.
        bounds: int64 [16, 4], as of ``episode.play``.
        body: parameters float64 [16, p] and states float64 [16, s] of the environments.
        seen: observations as the steps write them, float32 or float64 [16, observation_size]; one as a network sees it,
            float32; an action, float32; float64 [1] for the reward.
        decoder: as of ``episode.play``.
        squashed: the same.
        scale: the same.
        sums: float64 [16, 2, observation_size].
        networks: see ``Networks``.
        progress: whether a lane is playing, its steps, and its negative rewards in a row, int64 [3, 16]; its return so
            far, float64 [16], NaN if an output was none that an action could be made of.

    Returns:
        How many lanes have ended their episodes; they are not playing any more.
    """
    parameters, states = body
    shown, observation, action, reward = seen
    sizes, first, low, high = decoder
    counts, totals = progress
    memory, settings = networks[1], networks[2]
    units = 0
    for layer in range(settings.size - SIZES):
        units += settings[SIZES + layer]
    chosen = np.empty(sizes.size, np.int64)
    output = np.empty(output_size(sizes, low), np.float32)
    ended = 0
    while ended == 0:
        start = (settings[STEP] & 1) * units * LANES
        for lane in range(LANES):
            if counts[0, lane] == 0:
                continue
            if not see(lane, bounds, shown, scale, sums, observation, counts, totals):
                ended += 1
            for i in range(observation.size):
                memory[start + i * LANES + lane] = observation[i]
        end = _forward(networks)
        for lane in range(LANES):
            if counts[0, lane] == 0:
                continue
            for j in range(output.size):
                output[j] = memory[end + j * LANES + lane]
            goes_on = go_on(
                lane, addresses, bounds, parameters, states, shown, action, reward, sizes, first, low, high,
                squashed, chosen, output, counts, totals,
            )  # fmt: skip
            if not goes_on:
                ended += 1
    return ended
