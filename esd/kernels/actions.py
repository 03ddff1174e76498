"""From a policy's outputs to actions, and observation normalization, compiled: a few flops, but once per step."""

from __future__ import annotations

import numpy as np

from esd.kernels import inlined, kernel
from esd.kernels.elementary import tanh

f32 = np.float32


@kernel
def argmax(outputs):
    """Index of the largest output, the first of equals; −1 if any is NaN."""
    best = 0
    for i in range(outputs.size):
        if outputs[i] != outputs[i]:
            return -1
        if outputs[i] > outputs[best]:
            best = i
    return best


@kernel
def argmax_segments(outputs, sizes, out):
    """The argmax within each of the consecutive segments, into out int64 [segments]; False if any output is NaN."""
    start = 0
    for segment in range(sizes.size):
        index = argmax(outputs[start : start + sizes[segment]])
        if index < 0:
            return False
        out[segment] = index
        start += sizes[segment]
    return True


@kernel
def to_box(outputs, squashed, low, high, out):
    """Outputs to actions between bounds, into out float32; False if any output is NaN or infinite.

    Two finite bounds: tanh (unless ``squashed`` already), then scaled to them. One: clipped at it. None: as it is.
    """
    for i in range(outputs.size):
        y = outputs[i]
        if not np.isfinite(y):
            return False
        if np.isfinite(low[i]) and np.isfinite(high[i]):
            if not squashed:
                y = tanh(y)
            y = low[i] + (y + f32(1.0)) * f32(0.5) * (high[i] - low[i])
        out[i] = min(max(y, low[i]), high[i])
    return True


@kernel
def observe(observation, mean, inverse_deviation, sums, squares):
    """Add a raw observation (float32) to float64 sums and sums of squares, then normalize it in place to ±10."""
    for i in range(observation.size):
        value = np.float64(observation[i])
        sums[i] += value
        squares[i] += value * value
        scaled = (value - mean[i]) * inverse_deviation[i]
        observation[i] = f32(min(max(scaled, -10.0), 10.0))


@kernel
def observe_double(observation, mean, inverse_deviation, sums, squares, out):
    """The same of a raw observation that only float64 can hold; what is normalized goes into out, float32."""
    for i in range(observation.size):
        value = observation[i]
        sums[i] += value
        squares[i] += value * value
        scaled = (value - mean[i]) * inverse_deviation[i]
        out[i] = f32(min(max(scaled, -10.0), 10.0))


@kernel
def take(values, out):
    """Copy floats [n] into out, float32 or float64; whether all are finite there."""
    finite = True
    for i in range(out.size):
        out[i] = values[i]
        finite &= np.isfinite(out[i])
    return finite


@kernel
def all_finite(values):
    """Whether no value is NaN or infinite."""
    finite = True
    for i in range(values.size):
        finite &= np.isfinite(values[i])
    return finite


@inlined
def outputs_needed(sizes, low):
    """Outputs that an action needs, by the sizes of its segments and the bounds of a Box."""
    outputs = low.size
    for segment in range(sizes.size):
        outputs += sizes[segment]
    return outputs


@inlined
def decode(output, sizes, first, low, high, squashed, chosen, action):
    """Write an action as a compiled step reads it; False if the outputs are none that one could be made of.

    Args:
        output: float32 [outputs_needed].
        sizes: of segments, as of ``episode.play``'s decoder.
        first: the same.
        low: of a Box, the same.
        high: the same.
        squashed: as of ``episode.play``.
        chosen: int64 [segments], memory.
        action: float32; written.
    """
    if sizes.size:
        if not argmax_segments(output, sizes, chosen):
            return False
        for segment in range(sizes.size):
            action[segment] = f32(chosen[segment] + first[segment])
        return True
    return to_box(output, squashed, low, high, action)


@inlined
def look(shown, double, mean, inverse_deviation, sums, squares, observation):
    """Write what a network sees of what a step has shown; False if that is not finite.

    Args:
        shown: float32 or float64 [observation_size].
        double: it is normalized from float64.
        mean: of observations, as of ``episode.play``'s scale.
        inverse_deviation: the same.
        sums: of observations, float64 [observation_size]; added to.
        squares: of their squares, the same.
        observation: float32 [observation_size], may be ``shown``; written.
    """
    if double:
        finite = all_finite(shown)
        observe_double(shown, mean, inverse_deviation, sums, squares, observation)
        return finite
    for i in range(observation.size):
        observation[i] = f32(shown[i])
    finite = all_finite(observation)
    if mean.size:
        observe(observation, mean, inverse_deviation, sums, squares)
    return finite
