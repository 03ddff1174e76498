"""Python's and numpy's global random generators, which environments and functions of the user's own may still use."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np


def seed_global_generators(seed: int) -> None:
    """Seed both with 32 bits, so that what draws from them is a function of the seed (law 1)."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002


class KeptGenerators:
    """Where both generators of the caller's program stood, to be put back: training and evaluation seed them anew."""

    def __init__(self) -> None:
        """Remember."""
        self.remember()

    def remember(self) -> None:
        """Take the generators as they are now for the caller's."""
        self._states = random.getstate(), np.random.get_state()  # noqa: NPY002

    def put_back(self) -> None:
        """Give the caller the generators as they were."""
        random.setstate(self._states[0])
        np.random.set_state(self._states[1])  # noqa: NPY002


@contextlib.contextmanager
def kept_generators() -> Iterator[KeptGenerators]:
    """Put both generators back at the end of the block."""
    kept = KeptGenerators()
    try:
        yield kept
    finally:
        kept.put_back()
