"""Compiled parts of the environments, in strict IEEE arithmetic: no fastmath, the same bits on every target.

Each file stands alone: numba looks for changes only in the file of the function that it loads from its cache.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numba
from numba.core import types
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc

Kernel = Callable[..., Any]  # typed by numba, from the arrays it is called with

# what ``esd_envs.compiled`` says of the two functions of an environment
_DOUBLES, _FLOATS = types.CPointer(types.float64), types.CPointer(types.float32)
RESET = types.int64(types.uint64, _DOUBLES, _DOUBLES, _FLOATS)
STEP = types.int64(_FLOATS, _DOUBLES, _DOUBLES, _FLOATS, _DOUBLES)

_STRICT: dict[str, Any] = {
    "fastmath": False,
    "error_model": "numpy",
    "nogil": True,
    "boundscheck": False,
}


class _ForgivingCache(FunctionCache):
    """numba's cache of one function; where it can't be read or written, the function is compiled again."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for a signature, or None."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged file shows as whatever unpickling it comes upon
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function, if that can be done."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


def kernel(function: Kernel) -> Kernel:
    """Compile a function strictly, keeping the machine code on disk where numba finds a place for it."""
    compiled: Any = numba.njit(**_STRICT)(function)
    with contextlib.suppress(RuntimeError):  # no folder is writable
        compiled._cache = _ForgivingCache(function)
    result: Kernel = compiled
    return result


def inlined(function: Kernel) -> Kernel:
    """Compile a function that is part of the kernels of its file."""
    compiled: Kernel = numba.njit(**_STRICT)(function)
    return compiled


def c_function(signature: Any) -> Callable[[Kernel], Any]:
    """Compile a function to one that C can call, with an ``address``, keeping it on disk as ``kernel`` does.

    Args:
        signature: as numba's types tell it, of the arguments and what is returned.
    """

    def compiled(function: Kernel) -> Any:
        result: Any = CFunc(
            function, (signature.args, signature.return_type), {}, {**_STRICT, "nopython": True}
        )
        with contextlib.suppress(RuntimeError):
            result._cache = _ForgivingCache(function)
        result.compile()
        return result

    return compiled
