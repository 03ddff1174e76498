"""Who of a node's ranks has come to a collective: so that those who wait sleep until the last one wakes them.

MPI itself can only be asked again and again: rarely, which costs milliseconds behind a straggler, or often, which costs
a core. Here each rank counts up a word of shared memory when it has done its part, and the last one wakes the others,
who then ask MPI. If a count should ever be wrong, they are woken too late or too early, and ask then.
"""

from __future__ import annotations

import ctypes
import time

from esd import watch
from esd.watch.kernels.arrivals import arrive, sleep_until


class Arrivals:
    """The count of a node. All its ranks take part in the same collectives, in the same order.

    Args:
        address: of a word of shared memory, 0 before the first.
        ranks: how many there are.
    """

    def __init__(self, address: int, ranks: int) -> None:
        """Nobody has come yet."""
        self._word, self._ranks, self._target = address, ranks, 0
        self._syscall, self._futex = watch.futex()
        self._scratch = (ctypes.c_int64 * 2)()
        self._at = ctypes.addressof(self._scratch)

    def enter(self) -> None:
        """This rank has done its part of the next collective."""
        self._target += self._ranks
        arrive(self._word, self._target, self._syscall, self._futex)

    def sleep(self, seconds: float) -> bool:
        """Sleep for so long at most; whether all ranks of the node have come."""
        if not self._futex:
            time.sleep(seconds)
            return True
        return bool(
            sleep_until(
                self._word, self._target, self._syscall, self._futex, int(seconds * 1e9), self._at
            )
        )
