"""Compiled kernels in strict IEEE arithmetic.

Everything here is compiled by numba without ``fastmath``: no re-association, no contraction of a·b + c into one
rounding. That is what makes h the same bits on AVX2, AVX-512 and any other target (laws 2 and 4); measured,
``fastmath=True`` gave three different results for three targets. Loops are therefore written so that the vector
dimension carries independent elements, never a reduction.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import config

Kernel = Callable[..., Any]  # typed by numba, from the arrays it is called with


def _cache_folder() -> Path | None:
    """Where compiled kernels are kept: a folder of its own for every version of their sources.

    numba itself looks only at the file of the function that it loads, so after a change in a file that this one
    inlines it would go on with the old bits, on one machine and not on the next (laws 2 and 4).
    """
    here = Path(__file__).parent
    sources = hashlib.sha256()
    for path in sorted(here.glob("*.py")):
        sources.update(path.read_bytes())
    chosen = config.CACHE_DIR  # type: ignore[attr-defined]  # NUMBA_CACHE_DIR
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    bases = [Path(chosen)] if chosen else [here / "__pycache__", user_cache / "esd"]
    for base in bases:
        folder = base / f"kernels-{sources.hexdigest()[:16]}"
        try:
            folder = folder.expanduser()
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError):  # RuntimeError: nobody's home is known
            continue
        if os.access(folder, os.W_OK):
            return folder
    return None


CACHE_FOLDER = _cache_folder()
if CACHE_FOLDER is not None:
    config.CACHE_DIR = str(CACHE_FOLDER)  # type: ignore[attr-defined]

_STRICT: dict[str, Any] = {
    "fastmath": False,
    "error_model": "numpy",
    "nogil": True,
    "boundscheck": False,
}


def kernel(function: Kernel) -> Kernel:
    """Compile a function strictly, caching the machine code on disk where some folder is writable."""
    compiled: Kernel = numba.njit(cache=CACHE_FOLDER is not None, **_STRICT)(function)
    return compiled


def inlined(function: Kernel) -> Kernel:
    """Compile a small function that LLVM inlines into the kernels that call it."""
    compiled: Kernel = numba.njit(**_STRICT)(function)
    return compiled
