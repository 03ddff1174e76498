"""Episodes that are under way at once, each in a slot of its own, stepped one after the other in one call.

The outputs come from anywhere: from a network in Python, from torch. What a slot does is what ``episode.play`` does for
one member, in the same arithmetic.
"""

from __future__ import annotations

import numpy as np

from esd.kernels import inlined, kernel
from esd.kernels.actions import decode, look, outputs_needed
from esd.kernels.episode import begin_in_c, step_in_c


@kernel
def begin(address, seed, parameters, state, observation):
    """Begin an episode of an environment by its C function."""
    begin_in_c(address, seed, parameters, state, observation)


@inlined
def _see(slot, bounds, shown, scale, sums, observations, progress):
    """Write what a slot's network sees; False if that ends the episode."""
    counts, totals = progress
    mean, deviation = scale
    finite = look(
        shown[slot],
        bounds[slot, 3],
        mean,
        deviation,
        sums[slot, 0],
        sums[slot, 1],
        observations[slot],
    )
    if finite or not bounds[slot, 2]:
        return True
    totals[slot] = np.nan
    counts[0, slot] = 0
    return False


@kernel
def first_look(slot, bounds, shown, scale, sums, observations, progress):
    """Write the first observation of a slot's episode; arguments as of ``step``.

    Returns:
        Whether the episode goes on.
    """
    return _see(slot, bounds, shown, scale, sums, observations, progress)


@kernel
def step(
    addresses, bounds, body, seen, decoder, squashed, scale, sums, outputs, observations, progress
):
    """Make a step of every slot that is playing, and write what its network sees next.

    Args:
        addresses: int64 [slots], of each slot's step.
        bounds: int64 [slots, 4], as of ``episode.play``.
        body: parameters float64 [slots, p] and states float64 [slots, s] of the environments.
        seen: observations as the steps write them, float32 or float64 [slots, observation_size]; an action, float32;
            float64 [1] for the reward.
        decoder: as of ``episode.play``.
        squashed: the same.
        scale: the same.
        sums: float64 [slots, 2, observation_size].
        outputs: float32 [slots, n], of the networks; n is at least what an action needs.
        observations: float32 [slots, observation_size], what the networks see; written.
        progress: whether a slot is playing, its steps, and its negative rewards in a row, int64 [3, slots]; its return
            so far, float64 [slots], NaN if an output was none that an action could be made of.

    Returns:
        How many slots have ended their episodes; they are not playing any more.
    """
    parameters, states = body
    shown, action, reward = seen
    counts, totals = progress
    sizes, first, low, high = decoder
    chosen = np.empty(sizes.size, np.int64)
    needed = outputs_needed(sizes, low)
    ended = 0
    for slot in range(outputs.shape[0]):
        if counts[0, slot] == 0:
            continue
        if not decode(outputs[slot, :needed], sizes, first, low, high, squashed, chosen, action):
            totals[slot] = np.nan
            counts[0, slot] = 0
            ended += 1
            continue
        over = step_in_c(
            addresses[slot], action, parameters[slot], states[slot], shown[slot], reward
        )
        gain = reward[0]
        totals[slot] += gain
        counts[1, slot] += 1
        done = over != 0 or counts[1, slot] >= bounds[slot, 0]
        if bounds[slot, 1] and not done:
            counts[2, slot] = counts[2, slot] + 1 if gain < 0.0 else 0
            done = counts[2, slot] >= bounds[slot, 1]
        if done:
            counts[0, slot] = 0
        if done or not _see(slot, bounds, shown, scale, sums, observations, progress):
            ended += 1
    return ended
