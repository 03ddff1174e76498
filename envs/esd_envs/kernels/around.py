"""Compiled steps around another compiled step, which they call by its address: what a wrapper does to every step.

What stands in ``parameters`` before those of the step inside: addresses as the bits of integers, then numbers, then a
table; ``HEAD`` says how many in all.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import carray  # type: ignore[attr-defined]
from numba.core import types
from numba.extending import intrinsic

from esd_envs.kernels import RESET, STEP, c_function, inlined
from esd_envs.kernels.mujoco import STEP as WIDE_STEP  # whose observations are float64
from esd_envs.kernels.mujoco import doubles_at

# WIDTH: numbers of an observation, SHOWN: those that the step inside writes, ENTRIES: of the table, two numbers each
STEP_ADDRESS, RESET_ADDRESS, HEAD, WIDTH, SHOWN, ENTRIES, TABLE = range(7)

STEPS, CHANGES_AT, CHANGING_STATE = range(
    3
)  # what ``step_changing`` keeps before the state of the step inside


@intrinsic
def _step_inside(typingctx, address, action, parameters, head, state, used, observation, reward):
    """Call the step inside, whose parameters and state begin behind the first ``head`` and ``used`` ones."""

    def generate(context, builder, signature, arguments):
        address, action, parameters, head, state, used, observation, reward = arguments
        inside = (
            action,
            builder.gep(parameters, [head]),
            builder.gep(state, [used]),
            observation,
            reward,
        )
        kind = ir.FunctionType(ir.IntType(64), [argument.type for argument in inside])
        return builder.call(builder.inttoptr(address, kind.as_pointer()), inside)

    result = types.int64(
        types.int64, action, parameters, types.int64, state, types.int64, observation, reward
    )
    return result, generate


@intrinsic
def _reset_inside(typingctx, address, seed, parameters, head, state, observation):
    """Call the reset inside, whose parameters begin behind the first ``head`` ones."""

    def generate(context, builder, signature, arguments):
        address, seed, parameters, head, state, observation = arguments
        inside = (seed, builder.gep(parameters, [head]), state, observation)
        kind = ir.FunctionType(ir.IntType(64), [argument.type for argument in inside])
        return builder.call(builder.inttoptr(address, kind.as_pointer()), inside)

    result = types.int64(types.int64, types.uint64, parameters, types.int64, state, observation)
    return result, generate


@inlined
def _informed(action, parameters, state, observation, reward):
    """Write the action and the reward behind the observation: numbers, or a one among zeros for a choice."""
    given = carray(parameters, TABLE)
    address = given.view(np.int64)[STEP_ADDRESS]
    over = _step_inside(
        address, action, parameters, int(given[HEAD]), state, 0, observation, reward
    )
    entries = int(given[ENTRIES])
    table = carray(parameters, TABLE + 2 * entries)
    seen = carray(observation, int(given[WIDTH]))
    at = int(given[SHOWN])
    for k in range(entries):
        choices = int(table[TABLE + 2 * k])
        if choices == 0:
            seen[at] = action[k]
            at += 1
        for choice in range(choices):
            seen[at + choice] = 1.0 if choice == int(action[k]) - table[TABLE + 2 * k + 1] else 0.0
        at += choices
    seen[at] = reward[0]
    return over


@c_function(STEP)
def step_informed(action, parameters, state, observation, reward):
    """``LastActionAndReward``, of observations of float32."""
    return _informed(action, parameters, state, observation, reward)


@c_function(WIDE_STEP)
def step_informed_wide(action, parameters, state, observation, reward):
    """``LastActionAndReward``, of observations of float64."""
    return _informed(action, parameters, state, observation, reward)


@c_function(RESET)
def reset_informed(seed, parameters, state, observation):
    """``LastActionAndReward``: nothing has been done yet, and nothing was paid."""
    given = carray(parameters, TABLE)
    address = given.view(np.int64)[RESET_ADDRESS]
    over = _reset_inside(address, seed, parameters, int(given[HEAD]), state, observation)
    seen = carray(observation, int(given[WIDTH]))
    for at in range(int(given[SHOWN]), seen.size):
        seen[at] = 0.0
    return over


@c_function(WIDE_STEP)
def step_changing(action, parameters, state, observation, reward):
    """``ChangedBody`` from a step of the episode on.

    The table has the addresses of doubles, and what they are multiplied by or become. Before these stands how many are
    multiplied; they come first.
    """
    given = carray(parameters, TABLE)
    own = carray(state, CHANGING_STATE)
    if own[STEPS] == own[CHANGES_AT]:
        entries = int(given[ENTRIES])
        table = carray(parameters, TABLE + 2 * entries)
        addresses = table.view(np.int64)
        factors = int(table[TABLE])
        for k in range(1, entries):
            number = carray(doubles_at(addresses[TABLE + 2 * k]), 1)
            value = table[TABLE + 2 * k + 1]
            number[0] = number[0] * value if k <= factors else value
    own[STEPS] += 1.0
    return _step_inside(
        given.view(np.int64)[STEP_ADDRESS],
        action,
        parameters,
        int(given[HEAD]),
        state,
        CHANGING_STATE,
        observation,
        reward,
    )
