"""The innermost loop of an int8 product: four products of bytes and their sum, in every lane.

A tile of 32-bit sums stays in registers, `rows` x `vectors`. What is added up is taken four bytes
at a time, a quad: for each quad k

    c[m, l] += dot(a[m, k], b[k, l])        a quad is the bytes at 4 k .. 4 k + 3 of the sum

where the quads of a row of a are spread over a vector, and those of b lie side by side, one to a
lane. One of the two is unsigned (codes of an image or a batch), the other signed (weights).

    vnni   x86's vpdpbusd does it in one instruction, without saturation
    madd   AVX2: the bytes with even and with odd numbers, widened to 16 bits, through vpmaddwd,
           whose sums of two products have 32 bits. (vpmaddubsw would take bytes, but adds two
           products into 16 bits, where 2 * 255 * 127 saturates.)
    sdot   ARM's, for two signed operands: codes are shifted by 128 (see NATIVE)
    plain  four products of 32 bits, in whatever way LLVM makes them

Source of the scheme: Rodriguez et al. (2018), "Lower numerical precision deep learning inference
and training", Intel; for the tile see `microkernel.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils as cgutils_untyped

from .microkernel import isa
from .outline import outlined

cgutils: Any = cgutils_untyped

_BYTE, _QUAD, _INT = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_MADD = {32: "llvm.x86.avx2.pmadd.wd", 64: "llvm.x86.avx512.pmaddw.d.512"}

LANES = isa().vector // 4  # sums in a vector
ROWS, WIDTH = isa().dot_rows, isa().dot_vectors * LANES  # of the tile of a matrix product
# In a convolution the lanes are pixels. Narrow tiles waste fewer at the end of an image.
CHANNELS, PIXELS = isa().dot_rows * isa().dot_vectors // 2, 2 * LANES
# The codes that are multiplied as they are; others have 128 added or taken away first.
SIGNED = isa().dot == "sdot"
NATIVE = np.dtype(np.int8 if SIGNED else np.uint8)


def dots(heights: Iterable[int], vectors: int, along: bool) -> Any:
    """The intrinsic for tiles of one of these numbers of rows, of `vectors` vectors.

    along: b is an image's quads, and `tiles` tiles lie side by side along them. The weights, which
    are signed, are then a's: packed, so that the rows of a lie side by side. With a pointer for
    each, twelve rows would need more registers than there are.
    """

    def tile(typing: Any, count: Any, c: Any, c_at: Any, c_row: Any, a: Any, a_at: Any, a_step: Any,
             b: Any, b_at: Any, b_step: Any, depth: Any) -> Any:  # fmt: skip
        """c[m, :] = the sum over k of the dots of quads of a and b, m < count.

        Row m of c is `vectors` vectors from element c_at + m * c_row on. a and b are flat arrays
        whose bytes are read, counted in quads: quad k of row m of a is at a_at + m * a_step + k,
        the quads k of b at b_at + k * b_step. depth >= 1.
        """
        n = types.intp
        return types.void(n, c, n, n, a, n, n, b, n, n, n), emit

    def tiles(
        typing: Any, count: Any, c: Any, c_at: Any, c_row: Any, a: Any, a_at: Any, a_step: Any,
        b: Any, b_at: Any, b_step: Any, depth: Any, tiles: Any,
    ) -> Any:  # fmt: skip
        """As `tile`, for each of `tiles` tiles, but quad k of row m of a is at a_at + k * a_step +
        m, the quads k of b at b_at + b_step[k].
        """
        n = types.intp
        return types.void(n, c, n, n, a, n, n, b, n, b_step, n, n), emit

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """A switch over the number of rows: each has a loop of its own."""
        count, *rest = arguments
        done = builder.function.append_basic_block()
        switch = builder.switch(count, done)
        for m in heights:
            block = builder.function.append_basic_block()
            switch.add_case(ir.Constant(_INT, m), block)
            builder.position_at_end(block)
            number = rest[-1] if along else ir.Constant(_INT, 1)
            with cgutils.for_range(builder, number, intp=_INT) as loop:
                shift = builder.mul(loop.index, ir.Constant(_INT, vectors * LANES))
                _tile(m, vectors, along, context, builder, signature.args[1:], rest, shift)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    kinds = "n", "sums", "n", "n", "bytes", "n", "n", "bytes", "n"
    if along:
        return outlined(*kinds, "table", "n", "n", name="conv_quads")(tiles)
    return outlined(*kinds, "n", "n", name="linear_quads")(tile)


def _tile(rows: int, vectors: int, along: bool, context: Any, builder: Any, kinds: Any,
          arguments: Any, shift: Any) -> None:  # fmt: skip
    """One tile, `shift` elements further along c and b."""
    c, c_at, c_row, a, a_at, a_step, b, b_at, b_step, depth = arguments[:10]
    vector = ir.VectorType(_QUAD, LANES)

    def data(which: int, array: Any, kind: Any = _QUAD) -> Any:
        start = context.make_array(kinds[which])(context, builder, array).data
        return builder.bitcast(start, kind.as_pointer())

    def load(base: Any, i: Any, kind: Any) -> Any:
        value = builder.load(builder.bitcast(builder.gep(base, [i]), kind.as_pointer()))
        value.align = 1  # codes may start anywhere
        return value

    def number(value: int) -> Any:
        return ir.Constant(_INT, value)

    first = builder.gep(data(3, a), [a_at])
    lines = [builder.gep(first, [number(m) if along else builder.mul(a_step, number(m))])
             for m in range(rows)]  # fmt: skip
    start = builder.gep(data(6, b), [builder.add(b_at, shift)])
    steps = data(8, b_step, _INT) if along else None
    multiply = _multiplier(builder, along)

    before, function = builder.block, builder.function
    loop, end = function.append_basic_block(), function.append_basic_block()
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(_INT)
    sums = [[builder.phi(vector) for _ in range(vectors)] for _ in range(rows)]
    place = load(steps, k, _INT) if along else builder.mul(k, b_step)
    base = builder.gep(start, [place])
    pieces = [load(base, number(v * LANES), vector) for v in range(vectors)]
    at, after = builder.mul(k, a_step) if along else k, []
    for line, totals in zip(lines, sums, strict=True):
        quad = _spread(builder, load(line, at, _QUAD), vector)
        after.append(multiply(totals, quad, pieces))
    following = builder.add(k, number(1))
    k.add_incoming(number(0), before)
    k.add_incoming(following, loop)
    for phis, values in zip(sums, after, strict=True):
        for phi, value in zip(phis, values, strict=True):
            phi.add_incoming(ir.Constant(vector, None), before)
            phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, end)

    builder.position_at_end(end)
    target = builder.gep(data(0, c), [builder.add(c_at, shift)])
    for m, values in enumerate(after):
        row = builder.gep(target, [builder.mul(c_row, number(m))])
        for v, value in enumerate(values):
            at = builder.bitcast(builder.gep(row, [number(v * LANES)]), vector.as_pointer())
            builder.store(value, at).align = 4


def _spread(builder: Any, quad: Any, vector: Any) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, quad, ir.Constant(_QUAD, 0))
    zero = ir.Constant(ir.VectorType(_QUAD, LANES), [0] * LANES)
    return builder.shuffle_vector(first, undefined, zero)


def _multiplier(builder: Any, spread_signed: bool) -> Callable[[list[Any], Any, list[Any]], Any]:
    """The function (sums, quad, pieces) -> sums + dots, as this processor does it."""
    how = isa().dot
    quads, size = ir.VectorType(_QUAD, LANES), isa().vector

    def ordered(quad: Any, piece: Any) -> tuple[Any, Any]:
        """Unsigned first."""
        return (piece, quad) if spread_signed else (quad, piece)

    def declare(name: str, result: Any, *kinds: Any) -> Any:
        return builder.module.declare_intrinsic(name, (), ir.FunctionType(result, kinds))

    if how == "vnni":
        function = declare(f"llvm.x86.avx512.vpdpbusd.{8 * size}", quads, quads, quads, quads)

        def vnni(sums: list[Any], quad: Any, pieces: list[Any]) -> list[Any]:
            pairs = zip(sums, pieces, strict=True)
            return [builder.call(function, [s, *ordered(quad, p)]) for s, p in pairs]

        return vnni

    if how == "sdot":
        bytes_ = ir.VectorType(_BYTE, size)
        name = f"llvm.aarch64.neon.sdot.v{LANES}i32.v{size}i8"
        function = declare(name, quads, quads, bytes_, bytes_)

        def sdot(sums: list[Any], quad: Any, pieces: list[Any]) -> list[Any]:
            wide = builder.bitcast(quad, bytes_)
            pairs = zip(sums, pieces, strict=True)
            return [builder.call(function, [s, wide, builder.bitcast(p, bytes_)]) for s, p in pairs]

        return sdot

    words = ir.VectorType(ir.IntType(16), 2 * LANES)
    wide, parts = (words, 2) if how == "madd" else (quads, 4)
    function = declare(_MADD[size], quads, words, words) if how == "madd" else None

    def widen(value: Any, signed: bool) -> list[Any]:
        """Every second (or fourth) byte as a number of 16 (or 32) bits, by shifts to the top and
        back."""
        value = builder.bitcast(value, wide)
        width = 32 // 2 if parts == 2 else 32
        back = builder.ashr if signed else builder.lshr

        def by(bits: int) -> Any:
            return ir.Constant(wide, [bits] * wide.count)

        tops = [builder.shl(value, by(width - 8 * (i + 1))) for i in range(parts)]
        return [back(top, by(width - 8)) for top in tops]

    def plain(sums: list[Any], quad: Any, pieces: list[Any]) -> list[Any]:
        left, result = widen(quad, spread_signed), []
        for total, piece in zip(sums, pieces, strict=True):
            for x, y in zip(left, widen(piece, not spread_signed), strict=True):
                both = builder.call(function, [x, y]) if function else builder.mul(x, y)
                total = builder.add(total, both)
            result.append(total)
        return result

    return plain


linear_tile = dots(range(1, ROWS + 1), WIDTH // LANES, along=False)
conv_tile = dots((1, *range(2, CHANNELS + 1, 2)), PIXELS // LANES, along=True)
