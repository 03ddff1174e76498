"""What is done while the run's folder can't be written: a full disk or a lost mount may come back.

The run goes on in memory, for so many generations, and tries to save again; then it stops, to be started again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from esd.errors import NotWritableError, StoppedEarlyError
from esd.mpi.memory import available_memory

RETRY_SECONDS = 1.0  # a file system that fails is asked no more often
WAIT_SECONDS = 10.0  # for it, before the run is stopped
SHARE_OF_MEMORY = 0.25  # of what is free: no more may wait to be written

Write = Callable[[], object]


class Patience:
    """Tries to write, again and again.

    Args:
        most: generations that may be in memory alone; 0 to stop at the first failure.
        note: tells the user.
        clock: in seconds.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        most: int,
        note: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing has failed."""
        self._most, self._note, self._clock, self._sleep = most, note, clock, sleep
        self._failure: NotWritableError | None = None
        self._next_try = -math.inf

    @property
    def tried_in_vain(self) -> bool:
        """Whether the last try failed."""
        return self._failure is not None

    def try_to(self, write: Write, at_risk: Callable[[], int], size: Callable[[], int]) -> None:
        """Write, or leave it for the next time.

        Args:
            write: writes all that waits; called again after a failure, it goes on.
            at_risk: how many generations are lost if nothing can be written any more.
            size: of what waits, bytes.

        Raises:
            StoppedEarlyError: if too much waits, and it can't be written after a while, either.
        """
        if self._clock() >= self._next_try and self._done(write):
            return
        if at_risk() >= self._most or size() > SHARE_OF_MEMORY * available_memory():
            self.insist_on(write, at_risk)

    def insist_on(self, write: Write, at_risk: Callable[[], int]) -> None:
        """Write, and wait for a while if that isn't possible.

        Args:
            write: see ``try_to``.
            at_risk: see there.

        Raises:
            StoppedEarlyError: if it isn't possible then, either.
        """
        end = self._clock() + (WAIT_SECONDS if self._most else 0.0)
        while not self._done(write):
            assert self._failure is not None
            if self._clock() >= end:
                raise StoppedEarlyError(f"{self._failure.reason}; {_what_is_lost(at_risk())}")
            self._sleep(RETRY_SECONDS)

    def _done(self, write: Write) -> bool:
        try:
            write()
        except NotWritableError as failure:
            if self._failure is None and self._most:
                self._note(
                    f"{failure.reason}; the run continues in memory for at most {self._most} generations "
                    "(run.unsaved_generations) and tries to save again"
                )
            self._failure, self._next_try = failure, self._clock() + RETRY_SECONDS
            return False
        if self._failure is not None:
            self._failure, self._next_try = None, -math.inf
            self._note("the run's folder can be written again; nothing was lost")
        return True


def _what_is_lost(generations: int) -> str:
    lost = {0: "no generation is lost", 1: "the last generation is lost"}
    what = lost.get(generations, f"at most the last {generations} generations are lost")
    return f"stopped, {what}: free disk space or restore the folder, and run the same command again"
