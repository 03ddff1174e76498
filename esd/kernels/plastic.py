"""One step of a plastic multilayer perceptron: update, normalize and forward in one pass over each layer.

The rule of Najarro & Risi 2020 (arXiv 2007.02686), η(A·xy + B·x + C·y + D) + D₂, written as

    Δw = (A′x + C′)·y + (B′x + D′),   A′ = ηA, B′ = ηB, C′ = ηC, D′ = ηD + D₂,

serves all nine rules: one without a coefficient has zeros for it, one without η has ones. η is folded in once per
member, so a connection costs 24 bytes a step instead of 28.

The update of step t − 1 is made at step t, in the pass that reads the weights anyway; that is also why none follows
the terminal step and none precedes the first forward. The normalizer found in a pass divides the layer's output
and is carried into the next pass as a factor on the old weight, so weights are stored one factor off.

Sixteen outputs go through the inputs together, their sums in registers, so no sum is ever re-associated and the bits
don't depend on the processor. Memory lies in the order in which it is read: per group of sixteen outputs, per input,
the streams of sixteen values each. Outputs are padded to whole groups; padding has zero weights and coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from esd.kernels import inlined, kernel
from esd.kernels.elementary import tanh
from esd.kernels.lanes import LANES, larger_magnitude, load, padded, splat, store

PLASTIC_STREAMS = 5  # w, A′, B′, C′, D′, one after the other
STATIC_STREAMS = 1  # w alone

NORMALIZE_MAX, NORMALIZE_NONE, NORMALIZE_L2 = 0, 1, 2
TANH, RELU, IDENTITY = 0, 1, 2

# meaning of the first entries of ``settings`` below; what follows them are the sizes, from input to output
STEP, STREAMS, NORMALIZATION, HIDDEN_ACTIVATION, OUTPUT_ACTIVATION = range(5)
LAST_UPDATE, EVERY, AVERAGE, SIZES = range(5, 9)

SET, ADD, SCALE = range(3)  # what ``place`` does

f32 = np.float32

SMALLEST = f32(
    1e-30
)  # a layer with no weight above this is left alone: it can't be divided by nothing


class Network(NamedTuple):
    """What ``step`` works on, and where it leaves the outputs.

    Attributes:
        synapses: float32, see ``step``.
        memory: float32, see ``step``.
        settings: int64, see ``step``.
        ends: int64 [2], where in the memory the outputs of even and odd steps begin.
    """

    synapses: npt.NDArray[np.float32]
    memory: npt.NDArray[np.float32]
    settings: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]


@inlined
def _units(sizes):
    """Σ padded sizes, and the largest of them."""
    units = 0
    widest = 0
    for layer in range(sizes.size):
        width = padded(sizes[layer])
        units += width
        widest = max(widest, width)
    return units, widest


def memory_size(sizes: Sequence[int], average: bool = False) -> int:
    """Floats of a network's activities, scratch, sums and factors, for its units from input to output."""
    widths = [padded(size) for size in sizes]
    return (2 + average) * sum(widths) + 2 * max(widths) + len(sizes) - 1


@inlined
def updates(settings, number):
    """Whether an update is pending that follows the step before, of so many steps."""
    if settings[STREAMS] != PLASTIC_STREAMS or not 0 < number <= settings[LAST_UPDATE]:
        return False
    every = settings[EVERY]  # a division takes as long as a small layer
    return every == 1 or number % every == 0


@inlined
def _rewire(synapses, start, inputs, scale, x_before, x_now, y_before, group, total, largest):
    """Update a group of sixteen outputs by the previous step's activities; returns the larger of all magnitudes."""
    y = load(y_before, group)
    factor = splat(scale)
    sums = splat(f32(0.0))
    at = start
    for i in range(inputs):
        x = splat(x_before[i])
        delta = (load(synapses, at + LANES) * x + load(synapses, at + 3 * LANES)) * y + (
            load(synapses, at + 2 * LANES) * x + load(synapses, at + 4 * LANES)
        )
        w = load(synapses, at) * factor + delta
        store(synapses, at, w)
        sums = sums + w * splat(x_now[i])
        largest = larger_magnitude(largest, w)
        at += PLASTIC_STREAMS * LANES
    store(total, group, sums)
    return largest


@inlined
def _sum(synapses, start, stride, inputs, x_now, group, total):
    """Forward only, for a group of sixteen outputs."""
    sums = splat(f32(0.0))
    at = start
    for i in range(inputs):
        sums = sums + load(synapses, at) * splat(x_now[i])
        at += stride
    store(total, group, sums)


@inlined
def _squares(synapses, start, inputs, group, size):
    """Σ w² over the inputs, for a group of sixteen outputs."""
    sums = splat(f32(0.0))
    at = start
    for _ in range(inputs):
        w = load(synapses, at)
        sums = sums + w * w
        at += PLASTIC_STREAMS * LANES
    store(size, group, sums)


@inlined
def _normalizer(kind, largest, size, outputs):
    """The factor that a layer's stored weights lack.

    It comes from the largest magnitudes (sixteen, of all groups) or from each output's sum of squares; not of the
    padding, where an infinite activity leaves NaN, for the members that follow too (law 1).
    """
    whole = f32(0.0)
    if kind == NORMALIZE_NONE:
        return f32(1.0)
    if kind == NORMALIZE_MAX:
        store(size, 0, largest)
        for j in range(LANES):
            whole = size[j] if size[j] > whole else whole
    else:
        for j in range(outputs):
            whole += size[j]
        whole = np.sqrt(whole)
    return f32(1.0) / whole if whole > SMALLEST else f32(1.0)


@inlined
def _activate(kind, total, scale, width, y):
    """Set y = f(scale · total)."""
    if kind == TANH:
        for j in range(width):
            y[j] = tanh(total[j] * scale)
    elif kind == RELU:
        for j in range(width):
            value = total[j] * scale
            y[j] = f32(0.0) if value < f32(0.0) else value
    else:
        for j in range(width):
            y[j] = total[j] * scale


@kernel
def step(observation, synapses, memory, settings):
    """Apply the pending update, then compute this step's activities.

    Few arguments, because each costs a call from Python a tenth of a microsecond.

    Args:
        observation: float32 [sizes[0]].
        synapses: float32 [n]; per layer, group of sixteen outputs and input the streams' sixteen values each;
            changed.
        memory: float32 [memory_size(sizes)]; two activities of Σ padded sizes each, this step's and the last one's
            by parity of the step, then scratch, then the sums of activities since the last update if updates are made
            by their means, then the factor that each layer's stored weights lack; changed.
        settings: int64 [8 + layers + 1], see above; the step number in it is advanced. Updates follow each
            ``EVERY``-th step of the first ``LAST_UPDATE``; if ``AVERAGE`` is 1, by the means of the activities since
            the last one.

    Returns:
        Which of the two activities is this step's.
    """
    number = settings[STEP]
    streams = settings[STREAMS]
    sizes = settings[SIZES:]
    layers = sizes.size - 1
    units, widest = _units(sizes)
    now = memory[(number & 1) * units : (number & 1) * units + units]
    before = memory[units - (number & 1) * units : 2 * units - (number & 1) * units]
    total = memory[2 * units : 2 * units + widest]
    size = memory[2 * units + widest : 2 * units + 2 * widest]
    scales = memory[memory.size - layers :]
    averages = settings[AVERAGE] != 0
    learns = updates(settings, number)
    if averages and learns:
        sums = memory[2 * units + 2 * widest : 3 * units + 2 * widest]
        for i in range(units):
            before[i] = sums[i] / f32(settings[EVERY])
            sums[i] = f32(0.0)
    for i in range(sizes[0]):
        now[i] = observation[i]
    start = 0
    x_start = 0
    for layer in range(layers):
        inputs = sizes[layer]
        width = padded(sizes[layer + 1])
        x_now = now[x_start : x_start + inputs]
        x_before = before[x_start : x_start + inputs]
        y_start = x_start + padded(inputs)
        y_now = now[y_start : y_start + width]
        y_before = before[y_start : y_start + width]
        scale = scales[layer]
        stride = streams * LANES
        largest = splat(f32(0.0))
        for group in range(0, width, LANES):
            at = start + group // LANES * inputs * stride
            if learns:
                largest = _rewire(
                    synapses, at, inputs, scale, x_before, x_now, y_before, group, total, largest
                )
                if settings[NORMALIZATION] == NORMALIZE_L2:
                    _squares(synapses, at, inputs, group, size)
            else:
                _sum(synapses, at, stride, inputs, x_now, group, total)
        if learns:
            scale = _normalizer(settings[NORMALIZATION], largest, size, sizes[layer + 1])
            scales[layer] = scale
        start += inputs * width * streams
        activation = (
            settings[OUTPUT_ACTIVATION] if layer == layers - 1 else settings[HIDDEN_ACTIVATION]
        )
        _activate(activation, total, scale, width, y_now)
        x_start = y_start
    if averages:
        sums = memory[2 * units + 2 * widest : 3 * units + 2 * widest]
        for i in range(units):
            sums[i] += now[i]
    settings[STEP] = number + 1
    return number & 1


@kernel
def place(values, stretches, by_columns, factor, synapses, streams):
    """Take flattened matrices [inputs, outputs], or stretches of them, into a network's memory.

    Args:
        values: float32 [n].
        stretches: int64 [stretches, 8], one after the other: the first of the stretch's values and the one behind
            its last; the index of that first value in its flattened matrix; the operation (SET or ADD, to one stream,
            or SCALE, which multiplies several); which stream (of SCALE the sum of 2^stream); where its layer starts in
            synapses; the layer's inputs and outputs.
        by_columns: flattened with the first index fastest.
        factor: float32, on every value that is set or added.
        synapses: float32, see ``step``; changed.
        streams: of the network.
    """
    for row in range(stretches.shape[0]):
        low, high, first, operation, stream, start, inputs, outputs = stretches[row]
        length = inputs if by_columns else outputs
        slow = first // length
        fast = first % length
        k = low
        while k < high:  # as many at once as lie side by side, or a fixed distance apart
            i, j = (fast, slow) if by_columns else (slow, fast)
            at = start + ((j // LANES) * inputs + i) * streams * LANES + j % LANES
            count = min(length - fast, high - k)
            if by_columns:
                step = streams * LANES
            else:
                step = 1
                count = min(count, LANES - j % LANES)
            if count == LANES and not by_columns:
                _place_lanes(operation, stream, values, k, factor, synapses, at, streams)
            else:
                _place_some(
                    operation, stream, values, k, count, factor, synapses, at, step, streams
                )
            k += count
            fast += count
            if fast == length:
                fast = 0
                slow += 1


@inlined
def _place_some(operation, stream, values, k, count, factor, synapses, at, step, streams):
    """Take some values to their places, which are ``step`` apart."""
    first = at + stream * LANES
    if operation == SET:
        for n in range(count):
            synapses[first + n * step] = values[k + n] * factor
    elif operation == ADD:
        for n in range(count):
            synapses[first + n * step] += values[k + n] * factor
    else:
        for scaled in range(1, streams):
            if (stream >> scaled) & 1:
                first = at + scaled * LANES
                for n in range(count):
                    synapses[first + n * step] *= values[k + n]


@inlined
def _place_lanes(operation, stream, values, k, factor, synapses, at, streams):
    """The same of sixteen values, for the outputs of one group."""
    value = load(values, k)
    if operation == SET:
        store(synapses, at + stream * LANES, value * splat(factor))
    elif operation == ADD:
        before = load(synapses, at + stream * LANES)
        store(synapses, at + stream * LANES, before + value * splat(factor))
    else:
        for scaled in range(1, streams):
            if (stream >> scaled) & 1:
                before = load(synapses, at + scaled * LANES)
                store(synapses, at + scaled * LANES, before * value)


@kernel
def begin(memory, settings):
    """Begin an episode with the weights as they are: no step made, no factor lacking, nothing summed."""
    layers = settings.size - SIZES - 1
    if settings[AVERAGE]:
        units, widest = _units(settings[SIZES:])
        memory[2 * units + 2 * widest : 3 * units + 2 * widest] = f32(0.0)
    memory[memory.size - layers :] = f32(1.0)
    settings[STEP] = 0


@kernel
def place_weights(weights, bounds, synapses, settings):
    """Put weights[k]·bounds[layer], input-major and unpadded, into their places."""
    put_weights(weights, bounds, synapses, settings[STREAMS], settings[SIZES:])


@inlined
def put_weights(weights, bounds, synapses, streams, sizes):
    """The same for so many streams and these sizes."""
    start = 0
    k = 0
    for layer in range(sizes.size - 1):
        inputs = sizes[layer]
        outputs = sizes[layer + 1]
        bound = bounds[layer]
        for i in range(inputs):
            for j in range(outputs):
                at = start + ((j // LANES) * inputs + i) * streams * LANES + j % LANES
                synapses[at] = weights[k] * bound
                k += 1
        start += inputs * padded(outputs) * streams
