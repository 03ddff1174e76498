"""Compiled functions in strict IEEE arithmetic, for ``esd`` and ``esd_envs`` alike; imports neither.

Everything here is compiled by numba without ``fastmath``: no re-association, no contraction of a·b + c into one
rounding. That is what makes h the same bits on AVX2, AVX-512 and any other target (laws 2 and 4); measured,
``fastmath=True`` gave three different results for three targets.

Importing compiles nothing, makes no folder and changes none of numba's settings but the color of its messages: all of
that happens when a function is called for the first time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

# as in esd, for who uses esd_envs alone
os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")

import numba
from numba.core.ccallback import CFunc

from esd_kernels.cache import CacheFolder, MachineCache, one_compiles

__all__ = ["CFunction", "CacheFolder", "Compiler", "Kernel"]

Kernel = Callable[..., Any]  # typed by numba, from the arrays it is called with

_STRICT: dict[str, Any] = {
    "fastmath": False,
    "error_model": "numpy",
    "nogil": True,
    "boundscheck": False,
}


class CFunction:
    """A function that C can call, compiled when its address is asked for."""

    def __init__(self, function: Kernel, signature: Any, folder: CacheFolder) -> None:
        """Remember what to compile.

        Args:
            function: to compile.
            signature: as numba's types describe it, of the arguments and what is returned.
            folder: where the machine code is kept.
        """
        self._function, self._signature, self._folder = function, signature, folder
        self.__module__ = function.__module__

    def __reduce__(self) -> str:
        """Copies are this object, and it is pickled by its name: an address is of no use elsewhere."""
        name: str = self._function.__qualname__
        return name

    @cached_property
    def address(self) -> int:
        """Where the machine code begins."""
        signature = (self._signature.args, self._signature.return_type)
        compiled: Any = CFunc(self._function, signature, {}, {**_STRICT, "nopython": True})
        compiled._cache = MachineCache(self._function, self._folder)
        with one_compiles():
            compiled.compile()
        self._compiled = compiled  # the machine code lives as long as this object
        return int(compiled.address)


class Compiler:
    """The decorators of a package's compiled functions.

    Attributes:
        folder: where their machine code is kept.
    """

    def __init__(self, package: Path) -> None:
        """Make the decorators.

        Args:
            package: the folder of the package; a change of any of its files makes all that is kept stale.
        """
        self.folder = CacheFolder(package)

    def kernel(self, function: Kernel) -> Kernel:
        """Compile a function strictly, keeping the machine code on disk where some folder is writable."""
        compiled: Any = numba.njit(**_STRICT)(function)
        compiled._cache = MachineCache(function, self.folder)
        compile_now: Callable[[Any], Any] = compiled.compile

        def compile_once(signature: Any) -> Any:
            with one_compiles():
                return compile_now(signature)

        compiled.compile = compile_once
        result: Kernel = compiled
        return result

    def inlined(self, function: Kernel) -> Kernel:
        """Compile a small function that LLVM inlines into the kernels that call it."""
        compiled: Kernel = numba.njit(**_STRICT)(function)
        return compiled

    def c_function(self, signature: Any) -> Callable[[Kernel], CFunction]:
        """Compile a function to one that C can call, keeping it on disk as ``kernel`` does.

        Args:
            signature: as numba's types describe it, of the arguments and what is returned.
        """
        return lambda function: CFunction(function, signature, self.folder)
