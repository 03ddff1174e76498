"""Sixteen members side by side: one step of sixteen networks of the same sizes, and whole episodes with them.

A small network leaves most of a vector empty, or most of its time to what surrounds it. Here a lane is a member: weight
(i, j) of sixteen members is one vector, and so is every activity. Each lane makes the operations of ``plastic.step`` in
their order, so its bits are those of the member alone. The environments are stepped one after the other, by their C
functions. A lane goes on from one of its member's episodes to the next; one that has none left is given another member
by the caller, while the others wait.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from esd.kernels import inlined, kernel
from esd.kernels.actions import all_finite, argmax_segments, observe, observe_double, to_box
from esd.kernels.episode import begin_in_c, step_in_c
from esd.kernels.lanes import (
    LANES,
    divide,
    lanes_type,
    larger_magnitude,
    load,
    not_negative,
    padded,
    splat,
    store,
    tanh,
)
from esd.kernels.plastic import (
    AVERAGE,
    EVERY,
    HIDDEN_ACTIVATION,
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
    place,
    put_weights,
    updates,
)

f32 = np.float32


class Networks(NamedTuple):
    """Sixteen networks.

    Attributes:
        synapses: float32; per layer, output and input the streams' sixteen values each, one per member.
        memory: float32 [2·units + layers, 16], flat: this step's activities and the last one's by parity of the step,
            then the factor that each layer's stored weights lack; then, if updates are made by the means of activities,
            the sums of these [units, 16].
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
        zeros(((2 + int(settings[AVERAGE])) * int(sizes.sum()) + sizes.size - 1) * LANES),
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
        store(memory, at, tanh(load(memory, at)))
    elif kind == RELU:
        store(memory, at, not_negative(load(memory, at)))


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
        one = updates(settings, numbers[lane])
        learning[lane] = f32(1.0) if one else f32(0.0)
        learns = learns or one
    mask = load(learning, 0)
    sums_of = scales + layers * LANES
    if settings[AVERAGE] and learns:
        for unit in range(units):
            total = load(memory, sums_of + unit * LANES)
            mean = divide(total, splat(f32(settings[EVERY])))
            store(
                memory,
                before + unit * LANES,
                _chosen(mask, mean, load(memory, before + unit * LANES)),
            )
            store(memory, sums_of + unit * LANES, _chosen(mask, splat(f32(0.0)), total))
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
    if settings[AVERAGE]:
        for unit in range(units):
            total = load(memory, sums_of + unit * LANES)
            store(memory, sums_of + unit * LANES, total + load(memory, now + unit * LANES))
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
def keep_weights(synapses, settings, weights):
    """Take a network's weights, the first stream of its synapses, out of it.

    Args:
        synapses: float32, as of ``plastic.step``.
        settings: int64, the same.
        weights: float32 [synapses.size / streams]; written.
    """
    stride = settings[STREAMS] * LANES
    for group in range(weights.size // LANES):
        for lane in range(LANES):
            weights[group * LANES + lane] = synapses[group * stride + lane]


@kernel
def load_many(values, placing, synapses, settings, networks, weights, episodes, lanes):
    """Take the parameters of several members into lanes.

    Args:
        values: float32 [members, |h|].
        placing: what ``plastic.place`` wants to know of them: stretches, by_columns and factor.
        synapses: float32, memory for one network; changed.
        settings: int64, as of ``plastic.step``.
        networks: where to.
        weights: float32 [16, episodes, weights], at the beginning of a lane's next episodes; written if the parameters
            are these.
        episodes: int64 [members], how many of them.
        lanes: int64 [members].
    """
    stretches, by_columns, factor = placing
    streams = settings[STREAMS]
    for k in range(lanes.size):
        place(values[k], stretches, by_columns, factor, synapses, streams)
        if streams > 1:
            _place(synapses, streams, 1, streams, settings, networks, lanes[k])
        else:
            for episode in range(episodes[k]):
                keep_weights(synapses, settings, weights[lanes[k], episode])


@kernel
def draw_weights(drawn, bounds, settings, weights, lanes, episodes):
    """Put weights that were drawn where episodes begin with them.

    Args:
        drawn: float32 [n, connections], input-major; each layer's are multiplied by its bound.
        bounds: float32 [layers].
        settings: int64, as of ``plastic.step``.
        weights: float32 [16, episodes, weights]; written.
        lanes: int64 [n].
        episodes: int64 [n].
    """
    for k in range(lanes.size):
        put_weights(drawn[k], bounds, weights[lanes[k], episodes[k]], 1, settings[SIZES:])


@inlined
def _begin(lane, environments, prepared, lanes, networks, progress):
    """Begin a lane's next episode."""
    addresses, _, parameters = environments
    weights, variants, seeds, first_states, first_shown = prepared
    states, shown, sums, sums_before = lanes
    counts, totals, steps = progress
    episode = counts[EPISODE, lane]
    _place(weights[lane, episode], 1, 0, 1, networks[2], networks, lane)
    sizes = networks[2][SIZES:]
    units = 0
    for layer in range(sizes.size):
        units += sizes[layer]
    for layer in range(sizes.size - 1):
        networks[1][(2 * units + layer) * LANES + lane] = f32(1.0)
    if networks[2][AVERAGE]:
        sums_of = 2 * units + sizes.size - 1
        for unit in range(units):
            networks[1][(sums_of + unit) * LANES + lane] = f32(0.0)
    networks[3][lane] = 0
    variant = variants[lane, episode]
    if addresses[variant, 0] != 0:
        begin_in_c(
            addresses[variant, 0],
            seeds[lane, episode],
            parameters[variant],
            states[lane],
            shown[lane],
        )
    else:
        states[lane] = first_states[lane, episode]
        shown[lane] = first_shown[lane, episode]
    sums_before[lane] = sums[lane]
    counts[NEGATIVES, lane] = 0
    totals[lane, episode] = 0.0
    steps[lane, episode] = 0


@inlined
def _end(lane, environments, prepared, lanes, networks, progress):
    """End a lane's episode, and begin the next one; returns how many lanes have none left."""
    counts, totals, _ = progress
    if not np.isfinite(totals[lane, counts[EPISODE, lane]]):
        lanes[2][lane] = lanes[3][lane]
    counts[EPISODE, lane] += 1
    if counts[EPISODE, lane] < counts[PREPARED, lane]:
        _begin(lane, environments, prepared, lanes, networks, progress)
        return 0
    counts[PLAYING, lane] = 0
    return 1


# what is counted of every lane
PLAYING, EPISODE, PREPARED, NEGATIVES, COUNTS = range(5)


@kernel
def begin(which, environments, prepared, lanes, networks, progress):
    """Begin the first of the episodes that are prepared for some lanes, int64 [n]; other arguments as of ``play``."""
    for k in range(which.size):
        lane = which[k]
        progress[0][EPISODE, lane] = 0
        progress[0][PLAYING, lane] = 1
        _begin(lane, environments, prepared, lanes, networks, progress)


@kernel
def play(
    environments, prepared, lanes, passing, decoder, squashed, scale, networks, progress, wanted
):
    """Go on with the episodes of sixteen lanes until some lanes have none left that is prepared.

    Args:
        environments: of every variant the addresses of its reset (0: its episodes' beginnings are prepared) and of its
            step, int64 [variants, 2]; bounds, int64 [variants, 4], as of ``episode.play``; parameters, float64
            [variants, p].
        prepared: of every lane's next episodes the weights at their beginning, float32 [16, episodes, weights], their
            variants, int64 [16, episodes], and the environment's seeds, uint64 [16, episodes]; where a reset has no
            address also the first states, float64 [16, episodes, s], and observations as a step writes them.
        lanes: states, float64 [16, s]; observations as the steps write them, float32 or float64 [16,
            observation_size]; sums and squares of observations, float64 [16, 2, observation_size], and memory for
            them.
        passing: an observation as a network sees it, float32; an action, float32; float64 [1] for the reward.
        decoder: as of ``episode.play``.
        squashed: the same.
        scale: the same.
        networks: see ``Networks``.
        progress: of every lane whether it is playing, the number of its episode, how many are prepared, and its
            negative rewards in a row, int64 [4, 16]; of every episode the return so far, float64 [16, episodes], NaN if
            an output was none that an action could be made of, and the steps, int64 [16, episodes].
        wanted: return when so many lanes have no episode left. They are not playing any more.
    """
    addresses, bounds, parameters = environments
    variants = prepared[1]
    states, shown, sums, _ = lanes
    observation, action, reward = passing
    sizes, first, low, high = decoder
    mean, inverse_deviation = scale
    counts, totals, steps = progress
    memory, settings = networks[1], networks[2]
    units = 0
    for layer in range(settings.size - SIZES):
        units += settings[SIZES + layer]
    chosen = np.empty(sizes.size, np.int64)
    outputs = low.size
    for segment in range(sizes.size):
        outputs += sizes[segment]
    output = np.empty(outputs, np.float32)
    ended = 0
    # looking and decoding stand here and not in ``actions.look`` and ``decode``, by which a step took 20 % longer
    while ended < wanted:
        start = (settings[STEP] & 1) * units * LANES
        for lane in range(LANES):
            # an observation that is not finite ends an episode at once, and the next one may begin with one, too
            while counts[PLAYING, lane]:
                episode = counts[EPISODE, lane]
                limits = bounds[variants[lane, episode]]
                if limits[3]:
                    finite = all_finite(shown[lane])
                    observe_double(
                        shown[lane],
                        mean,
                        inverse_deviation,
                        sums[lane, 0],
                        sums[lane, 1],
                        observation,
                    )
                else:
                    for i in range(observation.size):
                        observation[i] = f32(shown[lane, i])
                    finite = all_finite(observation)
                    if mean.size:
                        observe(observation, mean, inverse_deviation, sums[lane, 0], sums[lane, 1])
                if finite or not limits[2]:
                    for i in range(observation.size):
                        memory[start + i * LANES + lane] = observation[i]
                    break
                totals[lane, episode] = np.nan
                ended += _end(lane, environments, prepared, lanes, networks, progress)
        end = _forward(networks)
        for lane in range(LANES):
            if counts[PLAYING, lane] == 0:
                continue
            episode = counts[EPISODE, lane]
            variant = variants[lane, episode]
            for j in range(outputs):
                output[j] = memory[end + j * LANES + lane]
            acts = True
            if sizes.size:
                acts = argmax_segments(output, sizes, chosen)
                for segment in range(sizes.size):
                    action[segment] = f32(chosen[segment] + first[segment])
            else:
                acts = to_box(output, squashed, low, high, action)
            if not acts:
                totals[lane, episode] = np.nan
                ended += _end(lane, environments, prepared, lanes, networks, progress)
                continue
            over = step_in_c(
                addresses[variant, 1],
                action,
                parameters[variant],
                states[lane],
                shown[lane],
                reward,
            )
            gain = reward[0]
            totals[lane, episode] += gain
            steps[lane, episode] += 1
            done = over != 0 or steps[lane, episode] >= bounds[variant, 0]
            if bounds[variant, 1] and not done:
                counts[NEGATIVES, lane] = counts[NEGATIVES, lane] + 1 if gain < 0.0 else 0
                done = counts[NEGATIVES, lane] >= bounds[variant, 1]
            if done:
                ended += _end(lane, environments, prepared, lanes, networks, progress)
