"""A compiled step for a policy of one's own, so that it plays whole episodes of compiled worlds in one call.

A policy has one if its class defines both ``act`` and a property ``network`` that returns what is made here, and if
all that ``act`` does is that step (``act`` below does it from Python).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from esd.errors import UsageError
from esd.kernels.networks import CStep
from esd.kernels.networks import act as act

Float32s = npt.NDArray[np.float32]


def c_step(address: int, parameters: Float32s, state: Float32s, outputs: Float32s) -> CStep:
    """A step that is a C function.

    ``int64_t step(const float *observation, const float *parameters, float *state, float *outputs)``, compiled by
    ``numba.cfunc`` or written in any language. It must depend on nothing but what it is given, and be strict IEEE
    arithmetic if the run shall give the same bits on other machines.

    Args:
        address: of the function.
        parameters: float32 [n], the member's.
        state: float32 [n], what the episode has left so far; the policy's ``reset`` clears it.
        outputs: float32 [action_size]; written by the function.

    Raises:
        UsageError: if the address or an array can't be passed to C.
    """
    if not isinstance(address, int | np.integer) or not 0 < address < 2**63:
        raise UsageError(f"a compiled step at {address!r}: expected the address of a C function")
    arrays = {"parameters": parameters, "state": state, "outputs": outputs}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.ndim != 1:
            what = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else array
            raise UsageError(f"a compiled step's {name}: {what}, expected a float32 vector")
        if not array.flags.c_contiguous or not array.flags.writeable:
            raise UsageError(f"a compiled step's {name}: not contiguous and writable; use a copy")
    return CStep(np.array([address], np.int64), parameters, state, outputs)
