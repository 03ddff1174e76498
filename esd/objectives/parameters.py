"""From h to the values that a function gets: named arrays, each within its bounds.

Only +, −, ×, ÷, comparisons, the exact remainder and strict kernels are used, so values and h_0 are the same bits on
every machine. Everything is a pure function of the settings, h and the seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from esd.config.objective import REFLECT, TRANSFORM, UNIFORM, ParameterConfig
from esd.config.settings import EXACT_SINCE, FORMAT
from esd.evolution.layout import Layout
from esd.evolution.noise import Purpose, uniforms
from esd.kernels.squash import (
    inverse_lesser_shares_of,
    inverse_tanh_of,
    lesser_shares_of,
    tanh_of,
)

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]


def layout_of(parameters: Mapping[str, ParameterConfig]) -> Layout:
    """Where each parameter lies in h: sorted by name, so that their order in a file means nothing."""
    return Layout({name: parameters[name].shape for name in sorted(parameters)})


def initial_h(
    parameters: Mapping[str, ParameterConfig], seed: int, format: int = FORMAT
) -> Float32s:
    """h_0, float32 [|h|], whose values are ``initial``; ``format``: the run's."""
    layout = layout_of(parameters)
    # drawn for all coordinates: whether one parameter is drawn changes nothing about another
    shares = 0.5 * (1.0 + uniforms(seed, Purpose.INITIAL_H, layout.size).astype(np.float64))
    h = np.empty(layout.size, np.float32)
    for name, _, piece in layout.stretches(0, layout.size):
        parameter = parameters[name]
        low, high = (_flat(bound, parameter) for bound in (parameter.low, parameter.high))
        if parameter.initial == UNIFORM:
            assert low is not None
            assert high is not None
            values = low + (high - low) * shares[piece]
        else:
            values = np.asarray(_flat(parameter.initial, parameter))
        if parameter.bounds == TRANSFORM:
            assert low is not None
            assert high is not None
            if format < EXACT_SINCE:
                inverse_tanh_of(2.0 * (values - low) / (high - low) - 1.0, h[piece])
            else:
                h[piece] = _transformed_from(values, low, high)
        else:
            h[piece] = values
    return h


def values_of(
    parameters: Mapping[str, ParameterConfig], layout: Layout, h: Float32s, format: int = FORMAT
) -> dict[str, Float64s]:
    """The values of all parameters, each a new float64 array of its shape.

    Args:
        parameters: their settings.
        layout: of h, as ``layout_of`` gives it.
        h: float32 [|h|].
        format: the run's.
    """
    values = {}
    for name, _, piece in layout.stretches(0, layout.size):
        parameter = parameters[name]
        low, high = (_flat(bound, parameter) for bound in (parameter.low, parameter.high))
        own = bounded(h[piece], low, high, parameter.bounds, format)
        values[name] = own.reshape(parameter.shape)
    return values


def bounded(
    h: Float32s, low: Float64s | None, high: Float64s | None, bounds: str, format: int = FORMAT
) -> Float64s:
    """Coordinates of h within their bounds.

    Args:
        h: float32 [n].
        low: float64 [n], or None without a lower bound.
        high: float64 [n], or None without an upper bound.
        bounds: ``clip``; ``reflect``: mirrored at a bound as often as it takes, so what is inside stays as it is;
            ``transform``: low + (high − low)·(1 + tanh h)/2, and never a bound itself.
        format: the run's.

    Returns:
        float64 [n], new.
    """
    x = h.astype(np.float64)
    if bounds == TRANSFORM and low is not None and high is not None:
        if format >= EXACT_SINCE:
            return _transformed(h, low, high)
        squashed = np.empty(h.size, np.float32)
        tanh_of(h, squashed)
        x = low + (high - low) * (0.5 * (1.0 + squashed.astype(np.float64)))
    elif bounds == REFLECT:
        x = _reflected(x, low, high)
    # also of what was reflected: a rounding may have led out
    if low is not None:
        x = np.maximum(x, low)
    if high is not None:
        x = np.minimum(x, high)
    return x


def _transformed(h: Float32s, low: Float64s, high: Float64s) -> Float64s:
    """Between the bounds, from the nearer one on: a value close to 0 keeps its digits where a bound is 0."""
    shares = np.empty(h.size, np.float64)
    lesser_shares_of(h, shares)
    steps = (high - low) * shares
    x = np.where(h < 0.0, low + steps, high - steps)
    return np.clip(x, np.nextafter(low, high), np.nextafter(high, low))


def _transformed_from(values: Float64s, low: Float64s, high: Float64s) -> Float32s:
    """The h, float32 [n], whose values come nearest."""
    below, above = (values - low) / (high - low), (high - values) / (high - low)
    far = np.empty(values.size, np.float32)
    inverse_lesser_shares_of(np.minimum(below, above), far)
    return np.where(below < above, -far, far)


def _reflected(x: Float64s, low: Float64s | None, high: Float64s | None) -> Float64s:
    if low is not None and high is not None:
        span = high - low
        with np.errstate(invalid="ignore"):  # of an infinite x, which stays not finite
            folded = np.abs(np.fmod(x - low, 2.0 * span))
        folded = low + np.where(folded > span, 2.0 * span - folded, folded)
        return np.where((x >= low) & (x <= high), x, folded)
    if low is not None:
        return np.where(x < low, low + (low - x), x)
    if high is not None:
        return np.where(x > high, high - (x - high), x)
    return x


def _flat(value: Any, parameter: ParameterConfig) -> Float64s | None:
    """A number, or nested lists, for each element of a parameter, float64 [size]; None stays None."""
    if value is None:
        return None
    return np.broadcast_to(np.asarray(value, np.float64), parameter.shape).reshape(-1)
