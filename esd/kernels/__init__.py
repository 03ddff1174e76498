"""Compiled kernels in strict IEEE arithmetic.

Everything here is compiled by numba without ``fastmath``: no re-association, no contraction of a·b + c into one
rounding. That is what makes h the same bits on AVX2, AVX-512 and any other target (laws 2 and 4); measured,
``fastmath=True`` gave three different results for three targets. Loops are therefore written so that the vector
dimension carries independent elements, never a reduction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])

_STRICT = {"fastmath": False, "error_model": "numpy", "nogil": True, "boundscheck": False}


def kernel(function: _Function) -> _Function:
    """Compile a function strictly, caching the machine code on disk where some folder is writable."""
    try:
        return numba.njit(cache=True, **_STRICT)(function)
    except RuntimeError:  # numba found neither __pycache__ nor a user cache folder to write to
        return numba.njit(**_STRICT)(function)


def inlined(function: _Function) -> _Function:
    """Compile a small function that LLVM inlines into the kernels that call it."""
    return numba.njit(**_STRICT)(function)
