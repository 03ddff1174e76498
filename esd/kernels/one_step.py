"""From an observation to an action in one call: checked, normalized, through a perceptron, and decoded.

For environments that are stepped from Python. A call of a kernel takes 0.1 µs for each of its arrays, so all that is
the same in every step is named by its addresses in one table.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import carray  # type: ignore[attr-defined]  # not in its stubs
from numba.core import cgutils, types
from numba.extending import intrinsic

from esd.kernels import inlined, kernel, plastic
from esd.kernels.actions import argmax, observe, take, to_box

# of the table: an address and a size of each array, then numbers
OBSERVATION, SYNAPSES, MEMORY, SETTINGS, LOW, HIGH, ACTION, MEAN, DEVIATION, SUMS, ARRAYS = range(
    11
)
FIRST_END, SECOND_END, OUTPUTS, SQUASHED, NUMBERS = range(2 * ARRAYS, 2 * ARRAYS + 5)

NOT_SEEN, NOT_DONE = -1, -2  # in place of an action


def put(table: npt.NDArray[np.int64], which: int, array: npt.NDArray[np.generic]) -> None:
    """Name an array, which somebody else has to keep."""
    assert array.flags.c_contiguous
    table[2 * which : 2 * which + 2] = array.ctypes.data, array.size


@intrinsic
def _pointer(typingctx, address):
    return types.voidptr(
        types.int64
    ), lambda context, builder, signature, arguments: builder.inttoptr(
        arguments[0], cgutils.voidptr_t
    )


@inlined
def _floats(table, which):
    return carray(_pointer(table[2 * which]), (table[2 * which + 1],), np.float32)


@inlined
def _doubles(table, which):
    return carray(_pointer(table[2 * which]), (table[2 * which + 1],), np.float64)


@inlined
def _integers(table, which):
    return carray(_pointer(table[2 * which]), (table[2 * which + 1],), np.int64)


@kernel
def one_step(shown, table):
    """Make a step of a perceptron.

    Args:
        shown: an observation as the environment has returned it, float32 or float64 [n].
        table: int64, the addresses and sizes of: float32 [n] for what the network sees; synapses, memory and settings
            as of ``plastic.step``; bounds of a Box and its action, float32 [outputs], of size 0 where actions are
            discrete; mean and inverse deviation of observations, float64 [n], and sums of them and of their squares,
            float64 [2·n], of size 0 without normalization. Then the two ``ends`` of a ``plastic.Network``, how many
            outputs it has, and whether they lie in [−1, 1] already.

    Returns:
        The index of the largest output, or 0 and the action of a Box in its place; NOT_SEEN if the observation is not
        finite, NOT_DONE if the outputs are none that an action could be made of.
    """
    observation = _floats(table, OBSERVATION)
    if not take(shown, observation):
        return NOT_SEEN
    mean = _doubles(table, MEAN)
    if mean.size:
        sums = _doubles(table, SUMS)
        deviation = _doubles(table, DEVIATION)
        observe(observation, mean, deviation, sums[: mean.size], sums[mean.size :])
    memory = _floats(table, MEMORY)
    now = plastic.step(observation, _floats(table, SYNAPSES), memory, _integers(table, SETTINGS))
    first = table[FIRST_END + now]
    output = memory[first : first + table[OUTPUTS]]
    low = _floats(table, LOW)
    if low.size:
        squashed = table[SQUASHED] != 0
        acts = to_box(output, squashed, low, _floats(table, HIGH), _floats(table, ACTION))
        return 0 if acts else NOT_DONE
    best = argmax(output)
    return best if best >= 0 else NOT_DONE
