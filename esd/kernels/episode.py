"""A whole episode in one call: an environment that is a pair of C functions, and a policy's compiled step.

The functions are called by their addresses, so one kernel, compiled once and kept on disk, serves every environment
that has them, in whatever language it was written. ``esd.episodes.compiled_episodes`` says what they take and give.

The loop is that of ``rollout.Environments``, step by step, with the same arithmetic and so the same bits.
"""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from esd.kernels import kernel
from esd.kernels.actions import all_finite, argmax_segments, observe, observe_double, to_box
from esd.kernels.c_calls import call
from esd.kernels.networks import forward

f32 = np.float32


@intrinsic
def begin_in_c(typingctx, address, seed, parameters, state, observation):
    """Call a C function that begins an episode."""
    return types.int64(types.intp, types.uint64, parameters, state, observation), call


@intrinsic
def step_in_c(typingctx, address, action, parameters, state, observation, reward):
    """Call a C function that makes a step; not 0 if the episode has terminated."""
    return types.int64(types.intp, action, parameters, state, observation, reward), call


@kernel
def play(addresses, bounds, body, seen, decoder, squashed, scale, sums, network, seed):
    """Play one episode with a policy that has begun one.

    Args:
        addresses: int64 [2], of reset and step; a reset at 0: the episode has begun and shows its first observation.
        bounds: int64 [4]; steps after which the episode ends, as many negative rewards in a row that end it (0:
            none do), whether an observation that is not finite ends it, and whether it is normalized from what the step
            writes, which float32 can't hold.
        body: parameters and state of the environment, float64.
        seen: the observation as the step writes it, float32 or float64, and as the network sees it, float32 (may be one
            array); the action, float32; float64 [1] for the reward.
        decoder: sizes and first choices of the segments of a discrete action, int64 [segments]; bounds of a Box,
            float32 [action_size] (whichever the action is not has size 0).
        squashed: the outputs lie in [−1, 1] already.
        scale: mean and inverse deviation of observations, float64 [observation_size]; of size 0 without.
        sums: float64 [2, observation_size], sums and squares of observations; added to.
        network: see ``networks``.
        seed: uint64, of the environment's episode.

    Returns:
        The return, NaN if an output was none that an action could be made of (or an observation was not finite), and
        the steps.
    """
    parameters, state = body
    shown, observation, action, reward = seen
    sizes, first, low, high = decoder
    mean, inverse_deviation = scale
    chosen = np.empty(sizes.size, np.int64)
    outputs = low.size
    for segment in range(sizes.size):
        outputs += sizes[segment]
    total = 0.0
    steps = 0
    negative = 0
    if addresses[0] != 0:
        begin_in_c(addresses[0], seed, parameters, state, observation)
    while True:
        if bounds[3]:
            if bounds[2] and not all_finite(shown):
                return np.nan, steps
            observe_double(shown, mean, inverse_deviation, sums[0], sums[1], observation)
        else:
            for i in range(observation.size):
                observation[i] = f32(shown[i])
            if bounds[2] and not all_finite(observation):
                return np.nan, steps
            if mean.size:
                observe(observation, mean, inverse_deviation, sums[0], sums[1])
        output = forward(observation, network)[:outputs]
        if sizes.size:
            if not argmax_segments(output, sizes, chosen):
                return np.nan, steps
            for segment in range(sizes.size):
                action[segment] = f32(chosen[segment] + first[segment])
        elif not to_box(output, squashed, low, high, action):
            return np.nan, steps
        over = step_in_c(addresses[1], action, parameters, state, shown, reward)
        gain = reward[0]
        total += gain
        steps += 1
        if over != 0 or steps >= bounds[0]:
            return total, steps
        if bounds[1]:
            negative = negative + 1 if gain < 0.0 else 0
            if negative >= bounds[1]:
                return total, steps
