"""One step of a plastic multilayer perceptron: update, normalize and forward in one pass over each layer.

The rule of Najarro & Risi 2020 (arXiv 2007.02686), η(A·xy + B·x + C·y + D) + D₂, written as

    Δw = (A′x + C′)·y + (B′x + D′),   A′ = ηA, B′ = ηB, C′ = ηC, D′ = ηD + D₂,

serves all nine rules: one without a coefficient has zeros for it, one without η has ones. η is folded in once per
member, so a connection costs 24 bytes a step instead of 28.

The update of step t − 1 is made at step t, in the pass that reads the weights anyway; that is also why none follows
the terminal step and none precedes the first forward. The normalizer found in a pass divides the layer's output
and is carried into the next pass as a factor on the old weight, so weights are stored one factor off.

Weights are input-major: row i holds all synapses out of input i, outputs padded to 16 lanes. Loops run over inputs
with all outputs in the vector, so no sum is ever re-associated and the bits don't depend on the vector width.
"""

from __future__ import annotations

import numpy as np

from esd.kernels import inlined, kernel
from esd.kernels.elementary import tanh

LANES = 16
PLASTIC_STREAMS = 5  # w, A′, B′, C′, D′ of a row, one after the other
STATIC_STREAMS = 1  # w alone

NORMALIZE_MAX, NORMALIZE_NONE, NORMALIZE_L2 = 0, 1, 2
TANH, RELU, IDENTITY = 0, 1, 2

# meaning of the entries of ``settings`` below
STEP, STREAMS, NORMALIZATION, HIDDEN_ACTIVATION, OUTPUT_ACTIVATION = range(5)

f32 = np.float32

SMALLEST = f32(
    1e-30
)  # a layer whose weights are all below this is left alone instead of divided by (almost) zero


def padded(size: int) -> int:
    """The size rounded up to whole vector lanes."""
    return (size + LANES - 1) // LANES * LANES


@inlined
def _padded(size):
    return (size + LANES - 1) // LANES * LANES


@inlined
def _update_and_sum(row, scale, x_before, x_now, width, y_before, total, size):
    """Rewire one row by the previous step's activities, and add its contribution to this step's sums."""
    w = row[0:width]
    a = row[width : 2 * width]
    b = row[2 * width : 3 * width]
    c = row[3 * width : 4 * width]
    d = row[4 * width : 5 * width]
    for j in range(width):
        delta = (a[j] * x_before + c[j]) * y_before[j] + (b[j] * x_before + d[j])
        new = w[j] * scale + delta
        w[j] = new
        total[j] += new * x_now
        magnitude = abs(new)
        size[j] = magnitude if magnitude > size[j] else size[j]


@inlined
def _row_squares(row, width, size):
    for j in range(width):
        size[j] += row[j] * row[j]


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
def step(observation, synapses, activities, scratch, scales, sizes, settings):
    """Apply the pending update, then compute this step's activities.

    Args:
        observation: float32 [sizes[0]].
        synapses: float32 [n]; per layer and input, the row's streams of ``padded(outputs)`` values each; changed.
        activities: float32 [2, Σ padded sizes]; this step's and the last one's, by parity of the step; changed.
        scratch: float32 [2, largest padded size].
        scales: float32 [layers], the factor that each layer's stored weights still lack; changed.
        sizes: int64 [layers + 1], units from input to output.
        settings: int64 [5], see above; the step number in it is advanced.
    """
    number = settings[STEP]
    now = activities[number & 1]
    before = activities[(number & 1) ^ 1]
    streams = settings[STREAMS]
    learns = streams == PLASTIC_STREAMS and number > 0
    layers = sizes.size - 1
    for i in range(sizes[0]):
        now[i] = observation[i]
    row_start = 0
    x_start = 0
    for layer in range(layers):
        inputs = sizes[layer]
        width = _padded(sizes[layer + 1])
        x_now = now[x_start : x_start + inputs]
        x_before = before[x_start : x_start + inputs]
        y_start = x_start + _padded(inputs)
        y_now = now[y_start : y_start + width]
        y_before = before[y_start : y_start + width]
        total = scratch[0, 0:width]
        size = scratch[1, 0:width]
        for j in range(width):
            total[j] = f32(0.0)
            size[j] = f32(0.0)
        scale = scales[layer]
        if learns:
            for i in range(inputs):
                row = synapses[row_start : row_start + streams * width]
                _update_and_sum(row, scale, x_before[i], x_now[i], width, y_before, total, size)
                row_start += streams * width
            scale = f32(1.0)
            if settings[NORMALIZATION] == NORMALIZE_MAX:
                largest = f32(0.0)
                for j in range(width):
                    largest = size[j] if size[j] > largest else largest
                if largest > SMALLEST:
                    scale = f32(1.0) / largest
            elif settings[NORMALIZATION] == NORMALIZE_L2:
                for j in range(width):
                    size[j] = f32(0.0)
                for i in range(inputs):
                    start = row_start - (inputs - i) * streams * width
                    _row_squares(synapses[start : start + width], width, size)
                squares = f32(0.0)
                for j in range(width):
                    squares += size[j]
                length = np.sqrt(squares)
                if length > SMALLEST:
                    scale = f32(1.0) / length
            scales[layer] = scale
        else:
            for i in range(inputs):
                x = x_now[i]
                row = synapses[row_start : row_start + width]
                for j in range(width):
                    total[j] += row[j] * x
                row_start += streams * width
        activation = (
            settings[OUTPUT_ACTIVATION] if layer == layers - 1 else settings[HIDDEN_ACTIVATION]
        )
        _activate(activation, total, scale, width, y_now)
        x_start = y_start
    settings[STEP] = number + 1


@kernel
def place_weights(weights, bounds, synapses, scales, sizes, settings):
    """Begin an episode: weights[k]·bounds[layer], input-major without padding, go into the rows; factors become 1."""
    streams = settings[STREAMS]
    row_start = 0
    k = 0
    for layer in range(sizes.size - 1):
        outputs = sizes[layer + 1]
        bound = bounds[layer]
        for _ in range(sizes[layer]):
            for j in range(outputs):
                synapses[row_start + j] = weights[k] * bound
                k += 1
            row_start += streams * _padded(outputs)
        scales[layer] = f32(1.0)
    settings[STEP] = 0
