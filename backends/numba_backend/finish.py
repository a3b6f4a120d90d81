"""What becomes of 32-bit sums of products of codes: real numbers, codes again, or nothing.

One kernel does all of it, told by `how`, so that the tiles of `dots.py` are compiled once. Results
come as bytes and are seen as what they are; the constants of `Requantize` travel as those of
`Rescale`, whose bits they are.

`Requantize` says 64-bit integers, of which a vector holds half as many as of float32. So it is done
in float32 first (`codes_in_floats`): sum, factor and product each are rounded by 2^-24 of
themselves at most, and after clipping to a distance of 255 from the zero point that is less than
2^-14. A number that close to the middle between two codes may have been rounded to the wrong one,
which happens to one in 8000; then the run that it is in is computed again, in integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numba.extending
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils as cgutils_untyped

from ..interface import Array, DType, Finish, Requantize
from .dots import LANES, SIGNED
from .ir_words import INT, Words, number
from .jit import helper
from .layout import F32, plain

cgutils: Any = cgutils_untyped
intrinsic: Any = numba.extending.intrinsic

SUMS, REAL, RELU, CODES = 0, 1, 2, 3
_INT32 = np.dtype(np.int32)
# Codes of the other kind are multiplied as their neighbour 128 away, which the sums then show.
_SHIFT = np.int32(128 if SIGNED else -128)


class Rule(NamedTuple):
    """A `Finish` as kernels take it."""

    how: int
    offset: Array
    factor: Array  # scale, or the bits of multiplier
    last: Array  # bias, or the bits of shift
    ends: tuple[int, int, int]  # zero_point, low, high


_KEPT: dict[int, tuple[Finish, Rule]] = {}  # by identity: what has arrays in it has no hash
_NO_ENDS = (0, 0, 0)
_NONE = np.empty(0, F32)


def rule(finish: Finish, outputs: int, sums: Array | None) -> Rule:
    """The rule for that many outputs; `sums` of their weights' codes, if x is of the other kind.

    A layer brings the same finish to every call. Its rule is kept where nothing else goes into it.
    """
    if finish is None or sums is not None:
        return _rule(finish, outputs, sums)
    kept = _KEPT.get(id(finish))
    if kept is None or kept[0] is not finish:
        if len(_KEPT) >= 1024:
            _KEPT.clear()
        kept = _KEPT[id(finish)] = finish, _rule(finish, outputs, None)
    return kept[1]


def _rule(finish: Finish, outputs: int, sums: Array | None) -> Rule:
    moved = None if sums is None else sums * _SHIFT
    if finish is None:
        offset = np.zeros(outputs, np.int32) if moved is None else moved
        return Rule(SUMS, offset, _NONE, _NONE, _NO_ENDS)
    offset = plain(finish.offset) if moved is None else finish.offset + moved
    if isinstance(finish, Requantize):
        factor, last = plain(finish.multiplier).view(F32), plain(finish.shift).view(F32)
        return Rule(CODES, offset, factor, last, (finish.zero_point, finish.low, finish.high))
    how = RELU if finish.relu else REAL
    return Rule(how, offset, plain(finish.scale), plain(finish.bias), _NO_ENDS)


def result_dtype(finish: Finish) -> DType:
    """What a finish makes of int32."""
    if finish is None:
        return _INT32
    return finish.dtype if isinstance(finish, Requantize) else F32


@helper
def real(total: np.int32, scale: np.float32, bias: np.float32, relu: bool) -> np.float32:
    """`Rescale`; NaN stays NaN."""
    y = np.float32(total) * scale + bias
    return np.float32(0) if relu and y <= 0 else y


@helper
def code(total: np.int32, multiplier: np.int32, shift: np.int32, zero: int, low: int,
         high: int) -> np.uint8:  # fmt: skip
    """`Requantize`, as the byte of an int8 or a uint8."""
    product, by = np.int64(total) * np.int64(multiplier), np.int64(shift)
    half = (np.int64(1) << (by - np.int64(1))) - np.int64(1)
    q = ((product + half + ((product >> by) & np.int64(1))) >> by) + zero
    least, most = np.int64(low), np.int64(high)
    return np.uint8(least if q < least else most if q > most else q)


def _in_floats(spread: bool) -> Callable[..., Any]:
    """The code of both intrinsics below; spread: whether all sums belong to one output."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        codes, to, sums, at, vectors, *constants, o, zero, low, high = arguments
        whole, byte = Words(context, builder, types.int32, 4 * LANES), ir.IntType(8)
        reals, lanes = ir.VectorType(ir.FloatType(), LANES), ir.IntType(LANES)

        def same(number: Any) -> Any:
            return whole.spread(builder.sitofp(number, reals.element))

        def every(number: int) -> Any:
            return ir.Constant(whole.vector, [number] * LANES)

        def larger(a: Any, b: Any, than: str = ">") -> Any:
            return builder.select(builder.fcmp_ordered(than, a, b), a, b)

        places = [
            whole.data(kind, array, o)
            for kind, array in zip(signature.args[5:8], constants, strict=True)
        ]

        def constants_at(i: Any) -> tuple[Any, Any]:
            """Offset and scale, which is put together: 2^-shift is its exponent, 127 - shift."""
            if spread:
                offset, multiplier, shift = (whole.spread(builder.load(p)) for p in places)
            else:
                offset, multiplier, shift = (whole.load(p, i) for p in places)
            power = builder.shl(builder.sub(every(127), shift), every(23))
            scale = builder.fmul(builder.sitofp(multiplier, reals), builder.bitcast(power, reals))
            return offset, scale

        least, most = same(builder.sub(low, zero)), same(builder.sub(high, zero))
        # Beside 1.5 * 2^23 there is no room for a fraction (see `int8.quantize`), and the last byte
        # of the sum is the code.
        room = same(builder.add(zero, number(3 << 22)))
        kind = ir.FunctionType(reals, [reals])
        size = builder.module.declare_intrinsic(f"llvm.fabs.v{LANES}f32", (), kind)
        source = whole.data(signature.args[2], sums, at)
        target = Words(context, builder, types.uint8, LANES).data(signature.args[0], codes, to)
        furthest = cgutils.alloca_once_value(builder, ir.Constant(reals, None))
        always = constants_at(number(0)) if spread else None
        with cgutils.for_range(builder, vectors, intp=INT) as loop:
            place = builder.mul(loop.index, number(LANES))
            offset, scale = always or constants_at(place)
            total = builder.add(whole.load(source, place), offset)
            x = builder.fmul(builder.sitofp(total, reals), scale)
            x = larger(most, larger(least, x), "<")
            y = builder.fadd(x, room)
            off = builder.fsub(x, builder.fsub(y, room))
            builder.store(larger(builder.call(size, [off]), builder.load(furthest)), furthest)
            code = builder.trunc(builder.bitcast(y, whole.vector), ir.VectorType(byte, LANES))
            builder.store(code, whole.at(target, place, code.type)).align = 1
        limit = ir.Constant(reals, [0.5 - 2.0**-14] * LANES)
        close = builder.fcmp_ordered(">", builder.load(furthest), limit)
        return builder.icmp_unsigned("!=", builder.bitcast(close, lanes), ir.Constant(lanes, 0))

    return emit


@cast("Callable[[Any], Any]", intrinsic)
def codes_in_floats(
    typing: Any, codes: Any, to: Any, sums: Any, at: Any, vectors: Any, offset: Any,
    multiplier: Any, shift: Any, o: Any, zero: Any, low: Any, high: Any,
) -> Any:  # fmt: skip
    """codes[to + i] = `code` of sums[at + i] + offset[o] and so on, for as many vectors of them, in
    float32.

    Returns whether one of them is too close to call.
    """
    n = types.intp
    given = codes, n, sums, n, n, offset, multiplier, shift, n, n, n, n
    return types.boolean(*given), _in_floats(spread=True)


@cast("Callable[[Any], Any]", intrinsic)
def row_in_floats(
    typing: Any, codes: Any, to: Any, sums: Any, at: Any, vectors: Any, offset: Any,
    multiplier: Any, shift: Any, o: Any, zero: Any, low: Any, high: Any,
) -> Any:  # fmt: skip
    """As `codes_in_floats`, but sums[at + i] is one of output o + i."""
    n = types.intp
    given = codes, n, sums, n, n, offset, multiplier, shift, n, n, n, n
    return types.boolean(*given), _in_floats(spread=False)
