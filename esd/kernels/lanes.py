"""Sixteen float32 side by side, as one value of a kernel.

LLVM gives up vectorizing a loop over several arrays when it would have to prove too many of them apart (the plastic
update has eight). With this type a kernel says itself what is a vector: ``+`` and ``*`` are lane by lane and strict,
so the bits are those of sixteen scalar loops, and LLVM cuts a vector into what the processor has (one AVX-512
register, two of AVX2, four of NEON).
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_jitable, register_model

from esd.kernels.elementary import HALF, TANH_LIMIT

LANES = 16
_FLOAT_BYTES = 4
_LINE_BYTES = 64  # of a cache; sixteen float32


@register_jitable(error_model="numpy")
def padded(size: int) -> int:
    """The size rounded up to whole vectors; for kernels and Python alike."""
    return (size + LANES - 1) // LANES * LANES


def aligned_zeros(size: int) -> npt.NDArray[np.float32]:
    """Zeros, float32 [size], that start on a cache line: a load across two lines takes twice as long."""
    buffer = np.zeros(size * _FLOAT_BYTES + _LINE_BYTES, np.uint8)
    start = -buffer.ctypes.data % _LINE_BYTES
    return buffer[start : start + size * _FLOAT_BYTES].view(np.float32)


_VECTOR = ir.VectorType(ir.FloatType(), LANES)


class LanesType(types.Type):
    """Numba's type of sixteen float32."""

    def __init__(self) -> None:
        """There is only one."""
        super().__init__(name="lanes")


lanes_type = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _VECTOR)


def pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """The address of array[index]."""
    data = context.make_array(array_type)(context, builder, array).data
    return cgutils.gep_inbounds(builder, data, index)


@intrinsic
def load(typingctx, array, index):
    """Sixteen values from array[index] on (a contiguous float32 vector)."""

    def codegen(context, builder, signature, arguments):
        address = pointer(context, builder, signature.args[0], *arguments)
        vector_address = builder.bitcast(address, _VECTOR.as_pointer())
        return builder.load(vector_address, align=_FLOAT_BYTES, typ=_VECTOR)

    return lanes_type(array, types.intp), codegen


@intrinsic
def store(typingctx, array, index, value):
    """Write sixteen values to array[index] and on."""

    def codegen(context, builder, signature, arguments):
        address = pointer(context, builder, signature.args[0], *arguments[:2])
        vector_address = builder.bitcast(address, _VECTOR.as_pointer())
        builder.store(arguments[2], vector_address, align=_FLOAT_BYTES)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def splat(typingctx, value):
    """The same float32 in every lane."""

    def codegen(context, builder, signature, arguments):
        first = builder.insert_element(
            ir.Constant(_VECTOR, ir.Undefined), arguments[0], ir.Constant(ir.IntType(32), 0)
        )
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(first, ir.Constant(_VECTOR, ir.Undefined), everywhere)

    return lanes_type(types.float32), codegen


@intrinsic
def _multiply(typingctx, a, b):
    return lanes_type(a, b), lambda context, builder, signature, arguments: builder.fmul(*arguments)


@intrinsic
def _add(typingctx, a, b):
    return lanes_type(a, b), lambda context, builder, signature, arguments: builder.fadd(*arguments)


@intrinsic
def divide(typingctx, a, b):
    """A/b lane by lane."""
    return lanes_type(a, b), lambda context, builder, signature, arguments: builder.fdiv(*arguments)


@intrinsic
def within(typingctx, value, limit):
    """Value where it lies in ±limit, else the nearer bound; NaN stays NaN."""

    def codegen(context, builder, signature, arguments):
        value, limit = arguments
        above = builder.fcmp_ordered(">", value, limit)
        value = builder.select(above, limit, value)
        least = builder.fneg(limit)
        return builder.select(builder.fcmp_ordered("<", value, least), least, value)

    return lanes_type(value, limit), codegen


@intrinsic
def not_negative(typingctx, value):
    """Value, or 0 where it is less; NaN stays NaN."""

    def codegen(context, builder, signature, arguments):
        value = arguments[0]
        zero = ir.Constant(value.type, [0.0] * LANES)
        return builder.select(builder.fcmp_ordered("<", value, zero), zero, value)

    return lanes_type(value), codegen


@intrinsic
def larger_magnitude(typingctx, size, value):
    """max(size, |value|) lane by lane; a NaN value leaves size as it is."""

    def codegen(context, builder, signature, arguments):
        size, value = arguments
        function_type = ir.FunctionType(_VECTOR, [_VECTOR])
        name = f"llvm.fabs.v{LANES}f32"
        fabs = cgutils.get_or_insert_function(builder.module, function_type, name)
        magnitude = builder.call(fabs, [value])
        return builder.select(builder.fcmp_ordered(">", magnitude, size), magnitude, size)

    return lanes_type(size, value), codegen


@intrinsic
def total(typingctx, value):
    """The sum of the sixteen: always lane k and lane k + 8, then + 4, + 2 and + 1."""

    def codegen(context, builder, signature, arguments):
        whole = arguments[0]
        half = LANES // 2
        while half:
            parts = [
                builder.shuffle_vector(
                    whole,
                    ir.Constant(whole.type, ir.Undefined),
                    ir.Constant(
                        ir.VectorType(ir.IntType(32), half), list(range(first, first + half))
                    ),
                )
                for first in (0, half)
            ]
            whole = builder.fadd(*parts)
            half //= 2
        return builder.extract_element(whole, ir.Constant(ir.IntType(32), 0))

    return types.float32(value), codegen


@intrinsic
def prefetch(typingctx, array, index):
    """Ask for the cache line of array[index], which will be read soon."""

    def codegen(context, builder, signature, arguments):
        address = pointer(context, builder, signature.args[0], *arguments)
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = cgutils.get_or_insert_function(
            builder.module, function_type, "llvm.prefetch.p0i8"
        )
        read, near, data = ir.Constant(word, 0), ir.Constant(word, 2), ir.Constant(word, 1)
        builder.call(function, [builder.bitcast(address, byte), read, near, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


@register_jitable
def tanh(x):
    """Sixteen hyperbolic tangents, with the operations of ``elementary.tanh`` in their order.

    In a loop over the lanes LLVM makes the sixteen one by one.
    """
    a = within(x * splat(HALF), splat(HALF * TANH_LIMIT))
    s = a * a
    first, two = splat(np.float32(135135.0)), splat(np.float32(2.0))
    p = first + s * (splat(np.float32(17325.0)) + s * (splat(np.float32(378.0)) + s))
    q = first + s * (
        splat(np.float32(62370.0)) + s * (splat(np.float32(3150.0)) + s * splat(np.float32(28.0)))
    )
    return divide((two * a) * (p * q), q * q + s * (p * p))


@overload(operator.mul)
def _mul_lanes(a, b):
    if isinstance(a, LanesType) and isinstance(b, LanesType):
        return lambda a, b: _multiply(a, b)
    return None


@overload(operator.add)
def _add_lanes(a, b):
    if isinstance(a, LanesType) and isinstance(b, LanesType):
        return lambda a, b: _add(a, b)
    return None
