"""Products of bytes, four for each of 16 lanes, added up: each from the best instructions that the CPU has.

All give the same integers. AVX512-VNNI has one instruction for 16 lanes, AVX-VNNI one for eight; AVX2 adds two products
up in 16 bits, which is enough for weights of four bits; of the rest LLVM makes what there is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from stentor.runtime.kernels.vector import BYTES, INTS, LANES, call, has_feature, operation, shuffled

_I16, _I32 = ir.IntType(16), ir.IntType(32)
_SHORTS = ir.VectorType(_I16, 2 * LANES)


def byte_product_lanes() -> int:
    """Return how many lanes one instruction multiplies bytes in and adds them up: 16, 8, or 0 where there is none."""
    return 16 if has_feature("avx512vnni") else 8 if has_feature("avxvnni") else 0


@operation(INTS, INTS, BYTES, BYTES)
def dot(builder: ir.IRBuilder, sums: Any, weights: Any, activations: Any) -> Any:
    """Return sums, to each of which the four products of its lane are added.

    Args:
        builder: of the code.
        sums: 16 integers.
        weights: unsigned bytes, 0 to 255.
        activations: signed bytes, -128 to 127.
    """
    return _emit_dot(builder, sums, weights, activations)


@operation(INTS, INTS, BYTES, BYTES)
def dot_of_nibbles(builder: ir.IRBuilder, sums: Any, weights: Any, activations: Any) -> Any:
    """Return what `dot` does for weights from 0 to 15, two products of which AVX2 adds up in 16 bits."""
    if byte_product_lanes() or not has_feature("avx2"):
        return _emit_dot(builder, sums, weights, activations)
    shorts, half = ir.VectorType(_I16, LANES), ir.VectorType(_I32, LANES // 2)

    def products(w: Any, x: Any) -> Any:
        pairs = call(builder, "llvm.x86.avx2.pmadd.ub.sw", shorts, w, x)
        return call(builder, "llvm.x86.avx2.pmadd.wd", half, pairs, ir.Constant(shorts, [1] * LANES))

    return builder.add(sums, _in_pieces(builder, 2, products, weights, activations))


def _emit_dot(builder: ir.IRBuilder, sums: Any, weights: Any, activations: Any) -> Any:
    lanes = byte_product_lanes()
    if not lanes:
        return _emit_portable_dot(builder, sums, weights, activations)

    def products(*given: Any) -> Any:
        return call(builder, f"llvm.x86.avx512.vpdpbusd.{32 * lanes}", ir.VectorType(_I32, lanes), *given)

    whole = (sums, builder.bitcast(weights, INTS.llvm_type), builder.bitcast(activations, INTS.llvm_type))
    return _in_pieces(builder, LANES // lanes, products, *whole)


def _in_pieces(builder: ir.IRBuilder, count: int, emit: Callable[..., Any], *values: Any) -> Any:
    """Emit something for vectors in one or in two pieces, and join the 16 lanes that it gives."""
    if count == 1:
        return emit(*values)
    low, high = (
        emit(*(shuffled(builder, value, _half(value.type.count, number)) for value in values)) for number in range(2)
    )
    return builder.shuffle_vector(low, high, ir.Constant(INTS.llvm_type, list(range(LANES))))


def _half(count: int, number: int) -> list[int]:
    return list(range(number * count // 2, (number + 1) * count // 2))


@operation(INTS, INTS, BYTES, BYTES)
def portable_dot(builder: ir.IRBuilder, sums: Any, weights: Any, activations: Any) -> Any:
    """Return what `dot` does, from instructions that every CPU has."""
    return _emit_portable_dot(builder, sums, weights, activations)


def _emit_portable_dot(builder: ir.IRBuilder, sums: Any, weights: Any, activations: Any) -> Any:
    """Multiply the even and the odd bytes as pairs of 16 bits, which most CPUs multiply and add in one instruction."""
    eight, pairs = ir.Constant(_SHORTS, [8] * 2 * LANES), ir.VectorType(_I32, 2 * LANES)
    w, x = builder.bitcast(weights, _SHORTS), builder.bitcast(activations, _SHORTS)
    even = builder.and_(w, ir.Constant(_SHORTS, [255] * 2 * LANES)), builder.ashr(builder.shl(x, eight), eight)
    odd = builder.lshr(w, eight), builder.ashr(x, eight)
    for one, other in (even, odd):
        products = builder.mul(builder.sext(one, pairs), builder.sext(other, pairs))
        halves = [shuffled(builder, products, list(range(start, 2 * LANES, 2))) for start in range(2)]
        sums = builder.add(sums, builder.add(*halves))
    return sums


@operation(BYTES, BYTES)
def low_nibbles(builder: ir.IRBuilder, values: Any) -> Any:
    """Return the lower four bits of each byte."""
    return builder.and_(values, ir.Constant(BYTES.llvm_type, [15] * 4 * LANES))


@operation(BYTES, BYTES)
def high_nibbles(builder: ir.IRBuilder, values: Any) -> Any:
    """Return the upper four bits of each byte."""
    return builder.lshr(values, ir.Constant(BYTES.llvm_type, [4] * 4 * LANES))
