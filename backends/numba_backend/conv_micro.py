"""The innermost loops of convolution, in vector registers, as `microkernel` has those of products.

What a tap of the kernel meets lies in planes (`frames`): pixel after pixel, and where it begins is
in a table. So both loops run along pixels, and neither knows how the kernel moves over the image.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numba.extending
from numba import types

from .ir_words import INT, Words, number
from .microkernel import VECTORS, isa
from .outline import outlined

intrinsic: Any = numba.extending.intrinsic


@outlined("n", "real", "n", "n", "real", "n", "n", "real", "n", "taps", "n", "n", "real", "n")
def weighted(
    typing: Any, rows: Any, y: Any, y_at: Any, y_row: Any, weight: Any, w_at: Any, w_row: Any,
    x: Any, x_at: Any, taps: Any, first: Any, depth: Any, bias: Any, b_at: Any,
) -> Any:  # fmt: skip
    """y[m, :] = bias[m] + sum over taps of weight[m, tap] * x[tap, :], one register tile.

    Two vectors of pixels of 1 <= rows <= isa().rows channels. The table taps (K, 2) says where the
    weight of a tap lies, and its pixels in x; `depth` of its lines are used, from `first` on.
    """
    n = types.intp
    signature = types.void(n, y, n, n, weight, n, n, x, n, taps, n, n, bias, n)
    return signature, partial(_switch, isa().rows, _weighted)


def _switch(most: int, tile: Any, context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """A switch over the number of rows: each has loops of its own."""
    done = builder.function.append_basic_block()
    switch = builder.switch(args[0], done)
    for count in range(1, most + 1):
        block = builder.function.append_basic_block()
        switch.add_case(number(count), block)
        builder.position_at_end(block)
        tile(count, context, builder, signature.args[1:], args[1:])
        builder.branch(done)
    builder.position_at_end(done)
    return context.get_dummy_value()


class _Loop:
    """A loop over 0 <= i < count, count >= 1, that carries vectors along."""

    def __init__(self, builder: Any, count: Any, carried: list[Any]) -> None:
        self.builder, self.count = builder, count
        before = builder.block
        self.start = builder.append_basic_block()
        builder.branch(self.start)
        builder.position_at_end(self.start)
        self.index = builder.phi(INT)
        self.index.add_incoming(number(0), before)
        self.carried = [builder.phi(value.type) for value in carried]
        for phi, value in zip(self.carried, carried, strict=True):
            phi.add_incoming(value, before)

    def end(self, carried: list[Any]) -> None:
        """Go round again with these values; what follows is after the loop."""
        builder = self.builder
        after = builder.append_basic_block()
        following = builder.add(self.index, number(1))
        self.index.add_incoming(following, builder.block)
        for phi, value in zip(self.carried, carried, strict=True):
            phi.add_incoming(value, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, self.count), self.start, after)
        builder.position_at_end(after)


def _weighted(rows: int, context: Any, builder: Any, kinds: Any, arguments: Any) -> None:
    y, y_at, y_row, weight, w_at, w_row, x, x_at, taps, first, depth, bias, b_at = arguments
    words = Words(context, builder, kinds[0].dtype, isa().vector)
    columns = [number(v * words.lanes) for v in range(VECTORS)]
    target, weights = words.data(kinds[0], y, y_at), words.data(kinds[3], weight, w_at)
    pixels, biases = words.data(kinds[6], x, x_at), words.data(kinds[11], bias, b_at)
    table = words.data(kinds[8], taps, builder.mul(first, number(2)))
    far = [builder.mul(w_row, number(m)) for m in range(rows)]

    def entry(k: Any, which: int) -> Any:
        at = builder.add(builder.mul(k, number(2)), number(which))
        return builder.sext(builder.load(builder.gep(table, [at])), INT)

    loop = _Loop(builder, depth, [words.zero] * (rows * VECTORS))
    of_tap = builder.gep(weights, [entry(loop.index, 0)])
    met = builder.gep(pixels, [entry(loop.index, 1)])
    pieces = [words.load(met, column) for column in columns]
    sums = iter(loop.carried)
    after = []
    for m in range(rows):
        factor = words.spread(words.load(of_tap, far[m], words.element))
        after += words.in_order([words.multiply_add(factor, piece, next(sums)) for piece in pieces])
    loop.end(after)
    totals = iter(after)
    for m in range(rows):
        line = builder.gep(target, [builder.mul(y_row, number(m))])
        more = words.spread(words.load(biases, number(m), words.element))
        for column in columns:
            words.store(builder.fadd(next(totals), more), line, column)


TAPS = 4  # taps of a tile of `dots`; with as many rows as their sums leave registers for
DOT_ROWS = 6 if isa().rows >= 12 else 3


@outlined("n", "real", "n", "n", "real", "n", "n", "real", "n", "taps", "n", "n", name="conv_dots")
def dots(
    typing: Any, rows: Any, y: Any, y_at: Any, y_row: Any, g: Any, g_at: Any, g_row: Any, x: Any,
    x_at: Any, taps: Any, first: Any, pixels: Any,
) -> Any:  # fmt: skip
    """y[m, t] += sum over pixels of g[m, pixel] * x[tap first + t, pixel], for t < TAPS.

    1 <= rows <= DOT_ROWS. Sums are vectors, added up at the end; both operands are read along
    their lines. The table taps is that of `weighted`.
    """
    n = types.intp
    signature = types.void(n, y, n, n, g, n, n, x, n, taps, n, n)
    return signature, partial(_switch, DOT_ROWS, _dots)


def _dots(rows: int, context: Any, builder: Any, kinds: Any, arguments: Any) -> None:
    y, y_at, y_row, g, g_at, g_row, x, x_at, taps, first, pixels = arguments
    words = Words(context, builder, kinds[0].dtype, isa().vector)
    grads, images = words.data(kinds[3], g, g_at), words.data(kinds[6], x, x_at)
    table = words.data(kinds[8], taps, builder.add(builder.mul(first, number(2)), number(1)))
    lines = [builder.gep(grads, [builder.mul(g_row, number(m))]) for m in range(rows)]
    for t in range(TAPS):
        offset = builder.load(builder.gep(table, [number(2 * t)]))
        lines.append(builder.gep(images, [builder.sext(offset, INT)]))

    def add(load: Any, i: Any, sums: list[Any]) -> list[Any]:
        left, after = [load(line, i) for line in lines[:rows]], []
        for t, line in enumerate(lines[rows:]):
            piece = load(line, i)
            after += words.in_order([
                words.multiply_add(row, piece, total)
                for row, total in zip(left, sums[t * rows : (t + 1) * rows], strict=True)
            ])  # fmt: skip
        return after

    lanes = number(words.lanes)
    whole, rest = builder.sdiv(pixels, lanes), builder.srem(pixels, lanes)
    sums = [words.zero] * (rows * TAPS)
    sums = _if(builder, builder.icmp_signed(">", whole, number(0)), sums,
               lambda: _dot_loop(builder, whole, lanes, words.load, add, sums))  # fmt: skip
    done = builder.mul(whole, lanes)
    sums = _if(builder, builder.icmp_signed(">", rest, number(0)), sums,
               lambda: add(words.first(rest), done, sums))  # fmt: skip
    target = words.data(kinds[0], y, y_at)
    for m in range(rows):
        found, at = words.totals(sums[m::rows]), builder.mul(y_row, number(m))
        words.store(builder.fadd(words.load(target, at, found.type), found), target, at)


def _dot_loop(builder: Any, count: Any, lanes: Any, load: Any, add: Any, sums: Any) -> Any:
    loop = _Loop(builder, count, sums)
    after = add(load, builder.mul(loop.index, lanes), loop.carried)
    loop.end(after)
    return after


def _if(builder: Any, condition: Any, otherwise: list[Any], body: Callable[[], Any]) -> list[Any]:
    """The values that body makes if the condition holds, else the others."""
    before = builder.block
    with builder.if_then(condition):
        values = body()
        last = builder.block
    merged = []
    for value, other in zip(values, otherwise, strict=True):
        phi = builder.phi(value.type)
        phi.add_incoming(value, last)
        phi.add_incoming(other, before)
        merged.append(phi)
    return merged
