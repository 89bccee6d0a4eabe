"""Vectors of 16 numbers as values of compiled code: what a CPU engine needs of them, and no more.

Numba's loops are left to LLVM to vectorize, which never chooses the dot product of bytes that CPUs have for inference,
and gives no exponential of vectors. Here a `Floats` (16 float32), `Ints` (16 int32) or `Bytes` (64 bytes, four for each
of 16 lanes) is a type of its own, with arithmetic, loads and stores at addresses. On a CPU with narrower vectors LLVM
splits them; products of bytes, which it would not find, are in `dots`.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

LANES = 16
_I8, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_FLOATS, _INTS, _BYTES = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES), ir.VectorType(_I8, 4 * LANES)


class _VectorType(types.Type):
    """A numba type that is one LLVM vector."""

    def __init__(self, name: str, llvm_type: ir.VectorType) -> None:
        super().__init__(name=name)
        self.llvm_type = llvm_type


FLOATS = _VectorType("Floats", _FLOATS)
INTS = _VectorType("Ints", _INTS)
BYTES = _VectorType("Bytes", _BYTES)


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: _VectorType) -> None:
        super().__init__(dmm, fe_type, fe_type.llvm_type)


def has_feature(feature: str) -> bool:
    """Whether the CPU that numba compiles for has a feature, as LLVM names it."""
    features = cpu_target.target_context.codegen()._get_host_cpu_features()  # type: ignore[attr-defined]
    return f"+{feature}" in features.split(",")


def operation(result: types.Type, *arguments: types.Type) -> Callable[[Callable[..., Any]], Any]:
    """Make a function that compiled code can call out of one that emits its LLVM code."""

    def make(emit: Callable[..., Any]) -> Any:
        def typed(typing_context: Any, *given: types.Type) -> Any:
            def code(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
                emitted = emit(builder, *values)
                return context.get_dummy_value() if result is types.void else emitted

            return result(*arguments), code

        typed.__name__, typed.__doc__ = emit.__name__, emit.__doc__
        # Numba asks for parameters by name, after one for itself: where `emit` has its builder.
        typed.__signature__ = inspect.signature(emit)  # type: ignore[attr-defined]
        return intrinsic(typed)

    return make


def _define(operator_: Callable[..., Any], vector: _VectorType, emit: str) -> None:
    """Give two vectors of a type an operator, one instruction of the builder."""

    @type_callable(operator_)
    def typed(context: Any) -> Any:
        return lambda a, b: vector if a is vector and b is vector else None

    @lower_builtin(operator_, vector, vector)
    def code(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        return getattr(builder, emit)(*values)


for _operator, _emit in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define(_operator, FLOATS, _emit)
for _operator, _emit in ((operator.add, "add"), (operator.sub, "sub")):
    _define(_operator, INTS, _emit)


# --- memory ----------------------------------------------------------------------------------------------------


@operation(FLOATS, types.int64)
def load_floats(builder: ir.IRBuilder, address: Any) -> Any:
    """Return the 16 float32 at an address, which needs no alignment."""
    return _load(builder, address, _FLOATS)


@operation(types.void, types.int64, FLOATS)
def store_floats(builder: ir.IRBuilder, address: Any, values: Any) -> Any:
    """Write 16 float32 to an address."""
    return builder.store(values, _pointer(builder, address, _FLOATS), align=4)


@operation(FLOATS, types.int64)
def load_halves(builder: ir.IRBuilder, address: Any) -> Any:
    """Return the 16 float16 at an address, which needs no alignment, as float32.

    Without an instruction for it, LLVM would call a function that nobody has: there the bits are moved to where float32
    has them, and the exponent, which then is 112 too low, is raised.
    """
    if has_feature("f16c"):
        return builder.fpext(_load(builder, address, ir.VectorType(ir.HalfType(), LANES)), _FLOATS)
    wide = builder.sext(_load(builder, address, ir.VectorType(ir.IntType(16), LANES)), _INTS)
    moved = builder.shl(wide, ir.Constant(_INTS, [13] * LANES))
    kept = builder.and_(moved, ir.Constant(_INTS, [-0x7000_2000] * LANES))
    return builder.fmul(builder.bitcast(kept, _FLOATS), _all(2.0**112))


@operation(BYTES, types.int64)
def load_bytes(builder: ir.IRBuilder, address: Any) -> Any:
    """Return the 64 bytes at an address."""
    return _load(builder, address, _BYTES)


@operation(BYTES, types.int64)
def spread_bytes(builder: ir.IRBuilder, address: Any) -> Any:
    """Return the 4 bytes at an address, in each of the 16 lanes."""
    return builder.bitcast(_spread(builder, _load(builder, address, _I32), _I32), _BYTES)


@operation(types.void, types.int64, INTS)
def store_low_bytes(builder: ir.IRBuilder, address: Any, values: Any) -> Any:
    """Write the lowest byte of each of 16 integers."""
    narrow = ir.VectorType(_I8, LANES)
    return builder.store(builder.trunc(values, narrow), _pointer(builder, address, narrow), align=1)


@operation(types.float32, types.int64)
def load_float(builder: ir.IRBuilder, address: Any) -> Any:
    """Return the float32 at an address."""
    return builder.load(_pointer(builder, address, _F32), align=4)


@operation(types.void, types.int64, types.float32)
def store_float(builder: ir.IRBuilder, address: Any, value: Any) -> Any:
    """Write a float32 to an address."""
    return builder.store(value, _pointer(builder, address, _F32), align=4)


@operation(types.int32, types.int64)
def load_int(builder: ir.IRBuilder, address: Any) -> Any:
    """Return the int32 at an address, which needs no alignment."""
    return builder.load(_pointer(builder, address, _I32), align=1)


@operation(types.void, types.int64, types.int32)
def store_int(builder: ir.IRBuilder, address: Any, value: Any) -> Any:
    """Write an int32 to an address, which needs no alignment."""
    return builder.store(value, _pointer(builder, address, _I32), align=1)


@operation(types.int64, types.int64)
def load_long(builder: ir.IRBuilder, address: Any) -> Any:
    """Return the int64 at an address."""
    return builder.load(_pointer(builder, address, _I64), align=8)


@operation(types.void, types.int64, types.int64)
def store_long(builder: ir.IRBuilder, address: Any, value: Any) -> Any:
    """Write an int64 to an address."""
    return builder.store(value, _pointer(builder, address, _I64), align=8)


@operation(types.void, types.int64, types.int64)
def move_byte(builder: ir.IRBuilder, address: Any, to: Any) -> Any:
    """Copy a byte from an address to another."""
    return builder.store(builder.load(_pointer(builder, address, _I8), align=1), _pointer(builder, to, _I8), align=1)


# --- arithmetic ------------------------------------------------------------------------------------------------


@operation(FLOATS, types.float32)
def floats(builder: ir.IRBuilder, value: Any) -> Any:
    """Return a number in all lanes."""
    return _spread(builder, value, _F32)


@operation(INTS, types.int32)
def ints(builder: ir.IRBuilder, value: Any) -> Any:
    """Return an integer in all lanes."""
    return _spread(builder, value, _I32)


@operation(FLOATS, INTS)
def to_floats(builder: ir.IRBuilder, values: Any) -> Any:
    """Return integers as float32."""
    return builder.sitofp(values, _FLOATS)


@operation(INTS, FLOATS)
def rounded(builder: ir.IRBuilder, values: Any) -> Any:
    """Return the nearest integers, a half to the even one."""
    return builder.fptosi(call(builder, "llvm.rint.v16f32", _FLOATS, values), _INTS)


@operation(INTS, INTS)
def high_bytes(builder: ir.IRBuilder, values: Any) -> Any:
    """Return integers without their lowest byte, that is divided by 256."""
    return builder.lshr(values, ir.Constant(_INTS, [8] * LANES))


@operation(FLOATS, FLOATS, FLOATS, FLOATS)
def multiply_add(builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c, rounded once."""
    return call(builder, "llvm.fma.v16f32", _FLOATS, a, b, c)


@operation(FLOATS, FLOATS, FLOATS)
def maximum(builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    """Return the larger number in each lane; b where either is none."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


@operation(FLOATS, FLOATS)
def absolute(builder: ir.IRBuilder, values: Any) -> Any:
    """Return numbers without their sign."""
    return call(builder, "llvm.fabs.v16f32", _FLOATS, values)


@operation(FLOATS, types.int64, FLOATS, FLOATS)
def first_lanes(builder: ir.IRBuilder, count: Any, values: Any, others: Any) -> Any:
    """Return the first so many lanes of one vector, and the rest of another."""
    lanes = ir.Constant(_INTS, list(range(LANES)))
    is_first = builder.icmp_signed("<", lanes, _spread(builder, builder.trunc(count, _I32), _I32))
    return builder.select(is_first, values, others)


@operation(FLOATS, FLOATS)
def exponential(builder: ir.IRBuilder, values: Any) -> Any:
    """Return e to the power of numbers up to 88, to 2e-7 of the value; numbers below -87 give about 1e-38.

    x = n ln 2 + r: n becomes the exponent's bits, e to the power of r is its Taylor polynomial of degree 6. ln 2 is
    taken off in two pieces, the first of which has so few digits that n times it is exact (Cody and Waite 1980).
    """
    values = builder.select(builder.fcmp_ordered(">", values, _all(-87.3)), values, _all(-87.3))
    whole = call(builder, "llvm.rint.v16f32", _FLOATS, builder.fmul(values, _all(1.4426950408889634)))
    rest = call(builder, "llvm.fma.v16f32", _FLOATS, whole, _all(-0.693359375), values)
    rest = call(builder, "llvm.fma.v16f32", _FLOATS, whole, _all(2.12194440e-4), rest)
    power = _all(1 / 720)
    for factorial in (120, 24, 6, 2, 1, 1):
        power = call(builder, "llvm.fma.v16f32", _FLOATS, power, rest, _all(1 / factorial))
    exponent = builder.shl(builder.fptosi(whole, _INTS), ir.Constant(_INTS, [23] * LANES))
    return builder.bitcast(builder.add(builder.bitcast(power, _INTS), exponent), _FLOATS)


# --- over all lanes --------------------------------------------------------------------------------------------


@operation(types.float32, FLOATS)
def total(builder: ir.IRBuilder, values: Any) -> Any:
    """Return the sum of all lanes, halves added to each other: the same bits on every CPU."""
    for half in (8, 4, 2, 1):
        values = builder.fadd(values, shuffled(builder, values, [(lane + half) % LANES for lane in range(LANES)]))
    return builder.extract_element(values, _I32(0))


@operation(types.float32, FLOATS)
def largest(builder: ir.IRBuilder, values: Any) -> Any:
    """Return the largest lane."""
    return call(builder, "llvm.vector.reduce.fmax.v16f32", _F32, values)


@operation(types.int32, INTS)
def total_of_ints(builder: ir.IRBuilder, values: Any) -> Any:
    """Return the sum of all lanes."""
    return call(builder, "llvm.vector.reduce.add.v16i32", _I32, values)


@operation(types.int32, types.int64)
def total_of_bytes(builder: ir.IRBuilder, address: Any) -> Any:
    """Return the sum of the 32 signed bytes at an address."""
    short = ir.IntType(16)
    wide = builder.sext(_load(builder, address, ir.VectorType(_I8, 2 * LANES)), ir.VectorType(short, 2 * LANES))
    return builder.sext(call(builder, "llvm.vector.reduce.add.v32i16", short, wide), _I32)


# --- LLVM ------------------------------------------------------------------------------------------------------


def _pointer(builder: ir.IRBuilder, address: Any, to: ir.Type) -> Any:
    return builder.inttoptr(address, to.as_pointer())


def _load(builder: ir.IRBuilder, address: Any, what: ir.Type) -> Any:
    return builder.load(_pointer(builder, address, what), align=1 if what is not _FLOATS else 4)


def call(builder: ir.IRBuilder, name: str, result: ir.Type, *values: Any) -> Any:
    """Emit a call of one of LLVM's own functions, by its full name."""
    function_type = ir.FunctionType(result, [value.type for value in values])
    return builder.call(builder.module.declare_intrinsic(name, (), function_type), values)


def _spread(builder: ir.IRBuilder, value: Any, scalar: ir.Type) -> Any:
    vector = builder.insert_element(ir.Constant(ir.VectorType(scalar, LANES), ir.Undefined), value, _I32(0))
    return shuffled(builder, vector, [0] * LANES)


def shuffled(builder: ir.IRBuilder, values: Any, lanes: list[int]) -> Any:
    """Emit the vector of these lanes of another."""
    mask = ir.Constant(ir.VectorType(_I32, len(lanes)), lanes)
    return builder.shuffle_vector(values, ir.Constant(values.type, ir.Undefined), mask)


def _all(value: float) -> ir.Constant:
    return ir.Constant(_FLOATS, [float(np.float32(value))] * LANES)
