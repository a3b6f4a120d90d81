"""The innermost loop of convolution, in vector registers, as `microkernel` has that of products.

A convolution is a product of a matrix of windows and a matrix of weights, and the matrix of windows
need not exist: its element (m, k), what window m shows of tap k, is the image's element

    row[m] + col[k]

where row says where a window begins in the image, and col where a tap lies in a window. So a tile
needs two short tables. They are the only thing that knows of strides, dilation and the kernel's
shape. With the roles of the tables exchanged, a row is a tap, k runs over the pixels, and the same
loop makes the gradient of the weights. Source: Dukhan (2019), "The indirect convolution algorithm",
arXiv:1907.02129, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from numba import types

from ..interface import Array
from .ir_words import INT, Words, number
from .jit import helper
from .microkernel import PANEL, ROWS, VECTORS, isa
from .outline import outlined


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


NARROW_ROWS = 8  # of one vector: enough sums to keep the multipliers busy, few enough addresses


def _make(name: str, most: int, vectors: int, size: int) -> Any:
    """The piece for tiles of up to `most` rows of some vectors of `size` bytes."""

    def windows(
        typing: Any, rows: Any, c: Any, c_at: Any, start: Any, s_at: Any, s_row: Any, x: Any,
        x_at: Any, row: Any, r_at: Any, col: Any, k_at: Any, b: Any, b_at: Any, depth: Any,
    ) -> Any:  # fmt: skip
        """c[m, :] = start[m, :] + sum over k of x[x_at + row[m] + col[k]] * b[k, :], a tile.

        1 <= rows <= most, depth >= 1. Lines of b and c are as long as the tile is wide, those of
        start s_row apart: 0 if all rows start alike. The tables row and col begin at r_at and k_at.
        """
        n = types.intp
        signature = types.void(n, c, n, start, n, n, x, n, row, n, col, n, b, n, n)
        return signature, partial(_switch, most, partial(_tile, vectors, size))

    return outlined(
        "n", "real", "n", "real", "n", "n", "real", "n", "taps", "n", "taps", "n", "real", "n", "n",
        name=name,
    )(windows)  # fmt: skip


def _entry(builder: Any, table: Any, i: Any) -> Any:
    return builder.sext(builder.load(builder.gep(table, [i])), INT)


def _switch(
    most: int, tile: Any, context: Any, builder: Any, signature: Any, arguments: Any
) -> Any:
    """A switch over the number of rows: each has a loop of its own."""
    rows, *rest = arguments
    done = builder.function.append_basic_block()
    switch = builder.switch(rows, done)
    for count in range(1, most + 1):
        block = builder.function.append_basic_block()
        switch.add_case(number(count), block)
        builder.position_at_end(block)
        tile(count, context, builder, signature.args[1:], rest)
        builder.branch(done)
    builder.position_at_end(done)
    return context.get_dummy_value()


def _tile(vectors: int, size: int, rows: int, context: Any, builder: Any, kinds: Any,
          arguments: Any) -> None:  # fmt: skip
    c, c_at, start, s_at, s_row, x, x_at, row, r_at, col, k_at, b, b_at, depth = arguments
    words = Words(context, builder, kinds[0].dtype, size)
    columns = [number(v * words.lanes) for v in range(vectors)]
    target, begin = words.data(kinds[0], c, c_at), words.data(kinds[2], start, s_at)
    image, factors = words.data(kinds[5], x, x_at), words.data(kinds[11], b, b_at)
    table, taps = words.data(kinds[7], row, r_at), words.data(kinds[9], col, k_at)

    lines = [builder.gep(image, [_entry(builder, table, number(m))]) for m in range(rows)]
    first = []
    for m in range(rows):
        line = builder.gep(begin, [builder.mul(s_row, number(m))])
        first += [words.load(line, column) for column in columns]
    loop = _Loop(builder, depth, first)
    tap = _entry(builder, taps, loop.index)
    line = builder.gep(factors, [builder.mul(loop.index, number(vectors * words.lanes))])
    pieces = [words.load(line, column) for column in columns]
    sums, after = iter(loop.carried), []
    for m in range(rows):
        seen = words.spread(words.load(lines[m], tap, words.element))
        after += words.in_order([words.multiply_add(seen, piece, next(sums)) for piece in pieces])
    loop.end(after)
    totals = iter(after)
    for m in range(rows):
        line = builder.gep(target, [number(m * vectors * words.lanes)])
        for column in columns:
            words.store(next(totals), line, column)


def _make_across(name: str, most: int, vectors: int, size: int) -> Any:
    """The piece for tiles of up to `most` channels and some vectors of `size` bytes of pixels."""

    def across(
        typing: Any, rows: Any, y: Any, y_at: Any, y_row: Any, x: Any, x_at: Any, spots: Any,
        s_at: Any, col: Any, k_at: Any, b: Any, b_at: Any, w_at: Any, width: Any, depth: Any,
    ) -> Any:  # fmt: skip
        """y[to + i] = b[m] + sum over k of b[k, m] * x[from + col[k] + i], for channels m < rows.

        The table spots (S, 2) has from and to of vectors, of which those from line s_at on are
        made; x_at and y_at + m * y_row are added. Lines of b are `width` long; its biases are at
        b_at, the weights of the first tap at w_at. 1 <= rows <= most, depth >= 1.
        """
        n = types.intp
        signature = types.void(n, y, n, n, x, n, spots, n, col, n, b, n, n, n, n)
        return signature, partial(_switch, most, partial(_line_tile, vectors, size))

    return outlined(
        "n", "real", "n", "n", "real", "n", "taps", "n", "taps", "n", "real", "n", "n", "n", "n",
        name=name,
    )(across)  # fmt: skip


def _line_tile(vectors: int, size: int, rows: int, context: Any, builder: Any, kinds: Any,
               arguments: Any) -> None:  # fmt: skip
    y, y_at, y_row, x, x_at, spots, s_at, col, k_at, b, b_at, w_at, width, depth = arguments
    words = Words(context, builder, kinds[0].dtype, size)
    target, image = words.data(kinds[0], y, y_at), words.data(kinds[3], x, x_at)
    table, taps = (
        words.data(kinds[5], spots, builder.mul(s_at, number(2))),
        words.data(kinds[7], col, k_at),
    )
    biases, weights = words.data(kinds[9], b, b_at), words.data(kinds[9], b, w_at)

    lines = [builder.gep(image, [_entry(builder, table, number(2 * v))]) for v in range(vectors)]
    places = [_entry(builder, table, number(2 * v + 1)) for v in range(vectors)]
    first = []
    for m in range(rows):
        first += [words.spread(words.load(biases, number(m), words.element))] * vectors
    loop = _Loop(builder, depth, first)
    tap = _entry(builder, taps, loop.index)
    factors = builder.gep(weights, [builder.mul(loop.index, width)])
    pieces = [words.load(line, tap) for line in lines]
    sums, after = iter(loop.carried), []
    for m in range(rows):
        factor = words.spread(words.load(factors, number(m), words.element))
        after += words.in_order([words.multiply_add(factor, piece, next(sums)) for piece in pieces])
    loop.end(after)
    totals = iter(after)
    for m in range(rows):
        line = builder.gep(target, [builder.mul(y_row, number(m))])
        for place in places:
            words.store(next(totals), line, place)


wide = _make("windows_wide", isa().rows, 2, isa().vector)
single = _make("windows_single", NARROW_ROWS, 1, isa().vector)
half = _make("windows_half", NARROW_ROWS, 1, isa().vector // 2)
across = _make_across("across", isa().rows, 2, isa().vector)
ALONE = 8  # vectors of a tile of one channel: as many sums as keep the multipliers busy
across_alone = _make_across("across_alone", 1, ALONE, isa().vector)


TAPS = 4  # of a tile of `dots`; with as many rows as their sums leave registers for
DOT_ROWS = 6 if isa().rows >= 12 else 3


@outlined(
    "n", "real", "n", "n", "real", "n", "n", "real", "n", "taps", "n", "n", "n", "n", "taps", "n",
    name="conv_dots",
)  # fmt: skip
def dots(
    typing: Any, rows: Any, y: Any, y_at: Any, y_row: Any, g: Any, g_at: Any, g_row: Any, x: Any,
    x_at: Any, spots: Any, whole: Any, first: Any, partly: Any, rest: Any, col: Any, k_at: Any,
) -> Any:  # fmt: skip
    """y[m, t] += sum over i of g[m, to + i] * x[from + col[t] + i], for t < TAPS, over spots.

    The table spots is that of `across`: `whole` of its vectors from the beginning, and the first
    `rest` numbers of `partly` more from line `first` on. Sums are vectors, added up at the end.
    1 <= rows <= DOT_ROWS.
    """
    n = types.intp
    signature = types.void(n, y, n, n, g, n, n, x, n, spots, n, n, n, n, col, n)
    return signature, partial(_switch, DOT_ROWS, _dots)


def _dots(rows: int, context: Any, builder: Any, kinds: Any, arguments: Any) -> None:
    y, y_at, y_row, g, g_at, g_row, x, x_at, spots, whole, first, partly, rest, col, k_at = (
        arguments
    )
    words = Words(context, builder, kinds[0].dtype, isa().vector)
    grads, image = words.data(kinds[3], g, g_at), words.data(kinds[6], x, x_at)
    table, taps = words.data(kinds[8], spots, number(0)), words.data(kinds[13], col, k_at)
    lines = [builder.gep(grads, [builder.mul(g_row, number(m))]) for m in range(rows)]
    seen = [builder.gep(image, [_entry(builder, taps, number(t))]) for t in range(TAPS)]

    def over(load: Any, start: Any, count: Any, sums: list[Any]) -> list[Any]:
        def body() -> list[Any]:
            loop = _Loop(builder, count, sums)
            i = builder.mul(builder.add(loop.index, start), number(2))
            begin, to = (_entry(builder, table, builder.add(i, number(k))) for k in (0, 1))
            left, after = [load(line, to) for line in lines], []
            for t, line in enumerate(seen):
                piece, totals = load(line, begin), loop.carried[t * rows : (t + 1) * rows]
                after += words.in_order([
                    words.multiply_add(row, piece, total)
                    for row, total in zip(left, totals, strict=True)
                ])  # fmt: skip
            loop.end(after)
            return after

        return _if(builder, builder.icmp_signed(">", count, number(0)), sums, body)

    sums = over(words.load, number(0), whole, [words.zero] * (rows * TAPS))
    sums = over(words.first(rest), first, partly, sums)
    target = words.data(kinds[0], y, y_at)
    for m in range(rows):
        found, at = words.totals(sums[m::rows]), builder.mul(y_row, number(m))
        words.store(builder.fadd(words.load(target, at, found.type), found), target, at)


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


@helper
def tile_rows(
    c: Array, c_at: int, start: Array, s_at: int, s_row: int, x: Array, x_at: int, row: Array,
    r_at: int, rows: int, col: Array, k_at: int, b: Array, b_at: int, depth: int, width: int,
) -> None:  # fmt: skip
    """`conv_micro` for any number of rows, in register tiles as equal as possible."""
    panel = PANEL // c.itemsize
    most = ROWS if width == panel else NARROW_ROWS
    tiles = (rows + most - 1) // most
    done = 0
    for t in range(tiles):
        count = (rows - done) // (tiles - t)
        to, begin = c_at + done * width, s_at + done * s_row
        if width == panel:
            wide(count, c, to, start, begin, s_row, x, x_at, row, r_at + done, col, k_at, b, b_at,
                 depth)  # fmt: skip
        elif width * VECTORS == panel:
            single(count, c, to, start, begin, s_row, x, x_at, row, r_at + done, col, k_at, b, b_at,
                   depth)  # fmt: skip
        else:
            half(count, c, to, start, begin, s_row, x, x_at, row, r_at + done, col, k_at, b, b_at,
                 depth)  # fmt: skip
        done += count
