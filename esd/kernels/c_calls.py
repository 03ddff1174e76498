"""C functions called from kernels by their addresses, in whatever language they were written."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from esd.kernels.lanes import pointer

_INTEGER, _BYTES = ir.IntType(64), ir.IntType(8).as_pointer()


def call(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Call an address with what follows it: integers, and arrays by the addresses of their data.

    What an intrinsic of numba's needs for its code; the C function returns an int64.
    """
    address, *given = arguments
    passed = [
        builder.bitcast(
            pointer(context, builder, kind, value, context.get_constant(types.intp, 0)), _BYTES
        )
        if isinstance(kind, types.Array)
        else value
        for kind, value in zip(signature.args[1:], given, strict=True)
    ]
    function = ir.FunctionType(_INTEGER, [value.type for value in passed])
    return builder.call(builder.inttoptr(address, function.as_pointer()), passed)
