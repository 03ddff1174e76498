"""Compiled parts of the environments, in strict IEEE arithmetic: no fastmath, the same bits on every target."""

from __future__ import annotations

from pathlib import Path

from numba.core import types

from esd_kernels import Compiler, Kernel

__all__ = ["COMPILER", "RESET", "STEP", "Kernel", "c_function", "inlined", "kernel"]

COMPILER = Compiler(Path(__file__).parent)
kernel, inlined, c_function = COMPILER.kernel, COMPILER.inlined, COMPILER.c_function

# what ``esd_envs.compiled`` says of the two functions of an environment
_DOUBLES, _FLOATS = types.CPointer(types.float64), types.CPointer(types.float32)
RESET = types.int64(types.uint64, _DOUBLES, _DOUBLES, _FLOATS)
STEP = types.int64(_FLOATS, _DOUBLES, _DOUBLES, _FLOATS, _DOUBLES)
