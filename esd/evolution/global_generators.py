"""Python's and numpy's global random generators, which environments and functions of the user's own may still use."""

from __future__ import annotations

import random

import numpy as np


def seed_global_generators(seed: int) -> None:
    """Seed both with 32 bits, so that what draws from them is a function of the seed (law 1)."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
