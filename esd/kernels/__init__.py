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

Kernel = Callable[..., Any]  # typed by numba, from the arrays it is called with

_STRICT: dict[str, Any] = {
    "fastmath": False,
    "error_model": "numpy",
    "nogil": True,
    "boundscheck": False,
}


def kernel(function: Kernel) -> Kernel:
    """Compile a function strictly, caching the machine code on disk where some folder is writable."""
    try:
        compiled: Kernel = numba.njit(cache=True, **_STRICT)(function)
    except RuntimeError:  # numba found neither __pycache__ nor a user cache folder to write to
        compiled = numba.njit(**_STRICT)(function)
    return compiled


def inlined(function: Kernel) -> Kernel:
    """Compile a small function that LLVM inlines into the kernels that call it."""
    compiled: Kernel = numba.njit(**_STRICT)(function)
    return compiled
