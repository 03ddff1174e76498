"""Compiled kernels in strict IEEE arithmetic.

Everything here is compiled by numba without ``fastmath``: no re-association, no contraction of a·b + c into one
rounding. That is what makes h the same bits on AVX2, AVX-512 and any other target (laws 2 and 4); measured,
``fastmath=True`` gave three different results for three targets. Loops are therefore written so that the vector
dimension carries independent elements, never a reduction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from esd.kernels.cache import cached

Kernel = Callable[..., Any]  # typed by numba, from the arrays it is called with

_STRICT: dict[str, Any] = {
    "fastmath": False,
    "error_model": "numpy",
    "nogil": True,
    "boundscheck": False,
}


def kernel(function: Kernel) -> Kernel:
    """Compile a function strictly, keeping the machine code on disk where some folder is writable."""
    compiled: Kernel = numba.njit(**_STRICT)(function)
    cached(compiled)
    return compiled


def inlined(function: Kernel) -> Kernel:
    """Compile a small function that LLVM inlines into the kernels that call it."""
    compiled: Kernel = numba.njit(**_STRICT)(function)
    return compiled
