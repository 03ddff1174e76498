"""A counter that several processes share without a lock: whichever of them stops or dies, the others go on."""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from esd.kernels import kernel

_GENERATION_BITS = 32  # the upper half of a word; the lower is the next ticket


@intrinsic
def _replace(typingctx, array, expected, new):
    """Write ``new`` to array[0] if ``expected`` is there, in one step that no process can come between.

    Gives what was there.
    """

    def codegen(context, builder, signature, arguments):
        array, expected, new = arguments
        word = context.make_array(signature.args[0])(context, builder, array).data
        return builder.extract_value(
            builder.cmpxchg(word, expected, new, ordering="seq_cst", failordering="seq_cst"), 0
        )

    return types.uint64(array, types.uint64, types.uint64), codegen


@kernel
def take(word, generation):
    """The next ticket of a generation: 0, 1, 2, …, each given once, whichever process asks.

    Args:
        word: uint64 [1], shared memory; 0 before the first ticket.
        generation: that the ticket belongs to, from 0 on. The first to ask in a new one starts at 0 again.
    """
    first = np.uint64((generation + 1) & 0xFFFFFFFF) << np.uint64(_GENERATION_BITS)
    seen = word[0]
    while True:
        next_ticket = seen & np.uint64(0xFFFFFFFF)
        if seen - next_ticket != first:
            next_ticket = np.uint64(0)
        found = _replace(word, seen, first | (next_ticket + np.uint64(1)))
        if found == seen:
            return np.int64(next_ticket)
        seen = found
