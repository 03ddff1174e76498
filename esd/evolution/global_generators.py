"""The global random generators of Python, numpy and torch, which a user's environments and functions may still use."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from esd.errors import UsageError

_TAKING = threading.Lock()
# by their numbers; a training inside another one's objective is one more of the same thread
_threads_that_seed: list[int] = []
os.register_at_fork(after_in_child=_threads_that_seed.clear)


def seed_global_generators(seed: int) -> None:
    """Seed Python's and numpy's with 32 bits, so that what draws from them is a function of the seed (law 1)."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002


class KeptGenerators:
    """Where the generators of the caller's program stood, to be put back: training and evaluation seed them anew.

    If the caller has imported torch, so is its number of threads, which training with a torch module sets to one.
    """

    def __init__(self) -> None:
        """Remember.

        Raises:
            UsageError: see ``remember``.
        """
        self._threads_inside: int | None = None
        self._thread: int | None = None
        self.remember()

    def remember(self) -> None:
        """Take everything as it is now for the caller's, and go on with our number of threads.

        Raises:
            UsageError: if another thread of the process is training or evaluating: it would draw from generators that
                this one seeds.
        """
        thread = threading.get_ident()
        with _TAKING:
            if _threads_that_seed and _threads_that_seed[-1] != thread:
                raise UsageError(
                    "another thread of this process is training or evaluating, and both would seed the same random "
                    "generators of Python, numpy and torch. Use one process for each"
                )
            _threads_that_seed.append(thread)
        self._thread = thread
        self._states = random.getstate(), np.random.get_state()  # noqa: NPY002
        torch = _torch()
        self._of_torch = (torch.get_rng_state(), torch.get_num_threads()) if torch else None
        if torch and self._threads_inside is not None:
            torch.set_num_threads(self._threads_inside)

    def put_back(self) -> None:
        """Give the caller everything as it was; nothing if that was done."""
        if self._thread is None:
            return
        random.setstate(self._states[0])
        np.random.set_state(self._states[1])  # noqa: NPY002
        torch = _torch()
        if torch and self._of_torch is not None:
            state, threads = self._of_torch
            self._threads_inside = torch.get_num_threads()
            torch.set_rng_state(state)
            torch.set_num_threads(threads)
        with _TAKING:
            if self._thread in _threads_that_seed:  # or this is a child process
                _threads_that_seed.remove(self._thread)
        self._thread = None


def _torch() -> Any:
    """Torch if it was imported: importing it takes a second or more."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "get_rng_state") else None  # not if its import has failed


@contextlib.contextmanager
def kept_generators() -> Iterator[KeptGenerators]:
    """Put the generators back at the end of the block."""
    kept = KeptGenerators()
    try:
        yield kept
    finally:
        kept.put_back()
