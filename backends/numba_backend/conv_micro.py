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

from functools import partial
from typing import Any

from numba import types

from .ir_words import INT, Words, number
from .microkernel import isa
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

    def entry(table: Any, i: Any) -> Any:
        return builder.sext(builder.load(builder.gep(table, [i])), INT)

    lines = [builder.gep(image, [entry(table, number(m))]) for m in range(rows)]
    first = []
    for m in range(rows):
        line = builder.gep(begin, [builder.mul(s_row, number(m))])
        first += [words.load(line, column) for column in columns]
    loop = _Loop(builder, depth, first)
    tap = entry(taps, loop.index)
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

    def entry(table: Any, i: Any) -> Any:
        return builder.sext(builder.load(builder.gep(table, [i])), INT)

    lines = [builder.gep(image, [entry(table, number(2 * v))]) for v in range(vectors)]
    places = [entry(table, number(2 * v + 1)) for v in range(vectors)]
    first = []
    for m in range(rows):
        first += [words.spread(words.load(biases, number(m), words.element))] * vectors
    loop = _Loop(builder, depth, first)
    tap = entry(taps, loop.index)
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
