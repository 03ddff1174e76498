"""Memory by its address, and C functions by theirs: what the watch's compiled loop is made of; no Python objects."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_WORD, _BYTE = ir.IntType(64), ir.IntType(8)
_WORD_BYTES = 8


def _at(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


@intrinsic
def read(typingctx, address, index):
    """The word, int64, at address[index]; another thread or process may write it at any time."""

    def codegen(context, builder, signature, arguments):
        word = builder.gep(_at(builder, arguments[0], _WORD), [arguments[1]])
        return builder.load_atomic(word, "acquire", _WORD_BYTES)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def write(typingctx, address, index, value):
    """Write a word, int64, to address[index], where another thread or process may read it at any time."""

    def codegen(context, builder, signature, arguments):
        word = builder.gep(_at(builder, arguments[0], _WORD), [arguments[1]])
        builder.store_atomic(arguments[2], word, "release", _WORD_BYTES)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def replace(typingctx, address, index, expected, new):
    """Write a word to address[index] if the expected one is there, in one step; gives the one that was there."""

    def codegen(context, builder, signature, arguments):
        word = builder.gep(_at(builder, arguments[0], _WORD), [arguments[1]])
        found = builder.cmpxchg(word, arguments[2], arguments[3], "seq_cst", "seq_cst")
        return builder.extract_value(found, 0)

    return types.int64(types.int64, types.int64, types.int64, types.int64), codegen


@intrinsic
def read_byte(typingctx, address, index):
    """The byte at address[index]."""

    def codegen(context, builder, signature, arguments):
        byte = builder.gep(_at(builder, arguments[0], _BYTE), [arguments[1]])
        return builder.zext(builder.load(byte), _WORD)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def write_byte(typingctx, address, index, value):
    """Write a byte to address[index]."""

    def codegen(context, builder, signature, arguments):
        byte = builder.gep(_at(builder, arguments[0], _BYTE), [arguments[1]])
        builder.store(builder.trunc(arguments[2], _BYTE), byte)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def call(typingctx, function, a, b, c, d, e, f):
    """Call a C function with six integers, of which it takes as many as it has parameters; gives an integer."""

    def codegen(context, builder, signature, arguments):
        function, *given = arguments
        kind = ir.FunctionType(_WORD, [_WORD] * len(given))
        return builder.call(builder.inttoptr(function, kind.as_pointer()), given)

    return types.int64(*[types.int64] * 7), codegen
