"""Episodes of several members that are under way at once, each in a slot of its own, stepped one after the other.

What a slot does is what ``episode.play`` does for one member, in the same arithmetic: its bits are those of the member
alone. ``members`` puts sixteen compiled networks around it; ``step`` takes outputs that come from anywhere.
"""

from __future__ import annotations

import numpy as np

from esd.kernels import inlined, kernel
from esd.kernels.actions import all_finite, argmax_segments, observe, observe_double, to_box
from esd.kernels.episode import begin_in_c, step_in_c

f32 = np.float32


@kernel
def begin(address, seed, parameters, state, observation):
    """Begin an episode of an environment by its C function."""
    begin_in_c(address, seed, parameters, state, observation)


@inlined
def output_size(sizes, low):
    """Outputs that an action needs."""
    outputs = low.size
    for segment in range(sizes.size):
        outputs += sizes[segment]
    return outputs


@inlined
def see(slot, bounds, shown, scale, sums, observation, counts, totals):
    """Write what the network of a slot sees; False if that ends its episode."""
    mean, inverse_deviation = scale
    finite = True
    if bounds[slot, 3]:
        finite = all_finite(shown[slot])
        observe_double(
            shown[slot], mean, inverse_deviation, sums[slot, 0], sums[slot, 1], observation
        )
    else:
        for i in range(observation.size):
            observation[i] = f32(shown[slot, i])
        finite = all_finite(observation)
        if mean.size:
            observe(observation, mean, inverse_deviation, sums[slot, 0], sums[slot, 1])
    if bounds[slot, 2] and not finite:
        totals[slot] = np.nan
        counts[0, slot] = 0
        return False
    return True


@inlined
def go_on(
    slot, addresses, bounds, parameters, states, shown, action, reward, sizes, first, low, high, squashed, chosen,
    output, counts, totals,
):  # fmt: skip
    """Make a step of a slot's environment; False if that was its episode's last one."""
    acts = True
    if sizes.size:
        acts = argmax_segments(output, sizes, chosen)
        for segment in range(sizes.size):
            action[segment] = f32(chosen[segment] + first[segment])
    else:
        acts = to_box(output, squashed, low, high, action)
    if not acts:
        totals[slot] = np.nan
        counts[0, slot] = 0
        return False
    over = step_in_c(addresses[slot], action, parameters[slot], states[slot], shown[slot], reward)
    gain = reward[0]
    totals[slot] += gain
    counts[1, slot] += 1
    done = over != 0 or counts[1, slot] >= bounds[slot, 0]
    if bounds[slot, 1] and not done:
        counts[2, slot] = counts[2, slot] + 1 if gain < 0.0 else 0
        done = counts[2, slot] >= bounds[slot, 1]
    if done:
        counts[0, slot] = 0
    return not done


@kernel
def look(slot, bounds, shown, scale, sums, observations, progress):
    """Write the first observation of a slot's episode into ``observations``; see ``step`` for the arguments.

    Returns:
        Whether the episode goes on.
    """
    counts, totals = progress
    return see(slot, bounds, shown, scale, sums, observations[slot], counts, totals)


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
    sizes, first, low, high = decoder
    counts, totals = progress
    chosen = np.empty(sizes.size, np.int64)
    needed = output_size(sizes, low)
    ended = 0
    for slot in range(outputs.shape[0]):
        if counts[0, slot] == 0:
            continue
        goes_on = go_on(
            slot, addresses, bounds, parameters, states, shown, action, reward, sizes, first, low, high, squashed,
            chosen, outputs[slot, :needed], counts, totals,
        )  # fmt: skip
        if not goes_on or not see(
            slot, bounds, shown, scale, sums, observations[slot], counts, totals
        ):
            ended += 1
    return ended
