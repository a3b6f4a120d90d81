"""Copying and adding short runs of elements, without what a loop costs to start.

An image line of a dozen elements is too short for the loops that LLVM makes: they check for
overlap, then run a vector part, then a scalar rest. Here a run of n >= 8 elements is a few vectors
of eight, the last one ending where the run ends, even if it overlaps the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numba.extending
from llvmlite import ir
from numba import types
from numba.core import cgutils as cgutils_untyped

cgutils: Any = cgutils_untyped
intrinsic: Any = numba.extending.intrinsic

LANES = 8
_SIZE, _FLAG = ir.IntType(64), ir.IntType(1)


def _emit(add: bool, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """The code of `copy_run` and `add_run`."""
    target, at, source, start, count = arguments
    element = context.get_data_type(signature.args[0].dtype)
    vector = ir.VectorType(element, LANES)
    floating = isinstance(signature.args[0].dtype, types.Float)

    def pointer(array_type: Any, array: Any, offset: Any) -> Any:
        return builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])

    into = pointer(signature.args[0], target, at)
    out_of = pointer(signature.args[2], source, start)
    align = context.get_abi_sizeof(element)

    def address(base: Any, i: Any, kind: Any) -> Any:
        return builder.bitcast(builder.gep(base, [i]), kind.as_pointer())

    def load(base: Any, i: Any, kind: Any) -> Any:
        value = builder.load(address(base, i, kind))
        value.align = align
        return value

    def value(i: Any, kind: Any) -> Any:
        new = load(out_of, i, kind)
        if not add:
            return new
        old = load(into, i, kind)
        return builder.fadd(old, new) if floating else builder.add(old, new)

    def store(new: Any, i: Any, kind: Any) -> None:
        builder.store(new, address(into, i, kind)).align = align

    lanes = ir.Constant(_SIZE, LANES)
    long_enough = builder.icmp_signed(">=", count, lanes)
    with builder.if_else(long_enough, likely=True) as (vectors, scalars):
        with vectors:
            # The last vector is made before the others are stored: what is in both is added once.
            end = builder.sub(count, lanes)
            last = value(end, vector)
            blocks = builder.sdiv(builder.sub(count, ir.Constant(_SIZE, 1)), lanes)
            with cgutils.for_range(builder, blocks, intp=_SIZE) as loop:
                i = builder.mul(loop.index, lanes)
                store(value(i, vector), i, vector)
            store(last, end, vector)
        with scalars, cgutils.for_range(builder, count, intp=_SIZE) as loop:
            store(value(loop.index, element), loop.index, element)
    return context.get_dummy_value()


@cast("Callable[[Any], Any]", intrinsic)
def copy_run(typing: Any, target: Any, at: Any, source: Any, start: Any, count: Any) -> Any:
    """target[at : at + count] = source[start : start + count], as flat C-contiguous arrays."""
    signature = types.void(target, types.intp, source, types.intp, types.intp)
    return signature, partial(_emit, False)


@cast("Callable[[Any], Any]", intrinsic)
def add_run(typing: Any, target: Any, at: Any, source: Any, start: Any, count: Any) -> Any:
    """target[at : at + count] += source[start : start + count], as flat C-contiguous arrays."""
    signature = types.void(target, types.intp, source, types.intp, types.intp)
    return signature, partial(_emit, True)
