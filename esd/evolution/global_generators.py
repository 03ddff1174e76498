"""The global random generators of Python, numpy and torch, which a user's environments and functions may still use."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np


def seed_global_generators(seed: int) -> None:
    """Seed Python's and numpy's with 32 bits, so that what draws from them is a function of the seed (law 1)."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002


class KeptGenerators:
    """Where the generators of the caller's program stood, to be put back: training and evaluation seed them anew.

    If the caller has imported torch, so is its number of threads, which training with a torch module sets to one.
    """

    def __init__(self) -> None:
        """Remember."""
        self._threads_inside: int | None = None
        self.remember()

    def remember(self) -> None:
        """Take everything as it is now for the caller's, and go on with our number of threads."""
        self._states = random.getstate(), np.random.get_state()  # noqa: NPY002
        torch = _torch()
        self._of_torch = (torch.get_rng_state(), torch.get_num_threads()) if torch else None
        if torch and self._threads_inside is not None:
            torch.set_num_threads(self._threads_inside)

    def put_back(self) -> None:
        """Give the caller everything as it was."""
        random.setstate(self._states[0])
        np.random.set_state(self._states[1])  # noqa: NPY002
        torch = _torch()
        if torch and self._of_torch is not None:
            state, threads = self._of_torch
            self._threads_inside = torch.get_num_threads()
            torch.set_rng_state(state)
            torch.set_num_threads(threads)


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
