"""Compiled kernels in strict IEEE arithmetic: no fastmath, the same bits on every target (see ``esd_kernels``).

Loops are therefore written so that the vector dimension carries independent elements, never a reduction.
"""

from __future__ import annotations

from pathlib import Path

from esd_kernels import Compiler, Kernel

__all__ = ["COMPILER", "Kernel", "inlined", "kernel"]

COMPILER = Compiler(Path(__file__).parent)
kernel, inlined = COMPILER.kernel, COMPILER.inlined
