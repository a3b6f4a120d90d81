"""The innermost loops of products with a sparse weight: only what is stored is multiplied.

    block_tile   c[s, :] = bias[:] + sum of x[index[k], s] * values[k, :]
    panel_tile   c[r, :] = bias[r] + sum of x[index[k], :] * values[k, r]
    row_tile     c[:]    = bias    + sum of x[index[k], :] * values[k]

over k = 0, 1, ..., the stored blocks or numbers of some outputs, with the sums in registers.
Vectors run along outputs for a few samples s (block_tile), else along samples, for several outputs
r or one. x lies transposed, so that what an index points to is contiguous: some samples of one
input. Where few sums would wait for each other, several k are under way at once, each with sums of
its own; these are added in the end, always in the same order. Source of the scheme for rows: Gale
et al. (2020), "Sparse GPU kernels for deep learning", arXiv:2006.10901, section 5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from .ir_words import Words, number
from .microkernel import isa
from .outline import outlined

# What fits the registers. A load from memory takes as long as a multiply-add, so a number that is
# spread over a vector should serve several: three vectors of samples, if there are so many.
WIDE = isa().vector == 64
SAMPLES = 16 if WIDE else 8  # of block_tile: a sum of one vector for each
OUTPUTS, VECTORS = 8 if WIDE else 4, 3  # of panel_tile
ROW_VECTORS = 4
CHAINS = 8  # sums under way that keep both multipliers busy

_INDEX = ir.IntType(32)
_KINDS = (
    "n", "real", "n", "n", "real", "n", "flag",
    "real", "n", "n", "taps", "n", "n", "real", "n", "n",
)  # fmt: skip
Sums = list[Any]


def _tiles(name: str, cases: range, emit: Callable[[_Loop, int], None]) -> Any:
    """The intrinsic with a loop of its own for each size in cases."""

    def tile(
        typing: Any, size: Any, c: Any, c_at: Any, c_row: Any, bias: Any, b_at: Any, relu: Any,
        values: Any, v_at: Any, v_step: Any, indices: Any, i_at: Any, depth: Any, x: Any, x_at: Any,
        x_step: Any,
    ) -> Any:  # fmt: skip
        """See the head of this file; with relu, max(c, 0).

        Flat arrays: row r of c is at c_at + r * c_row, the bias from b_at on, values[k, :] at
        v_at + k * v_step, index k at i_at + k, and x[i, :] at x_at + i * x_step.
        """
        n, flag = types.intp, types.boolean
        operands = values, n, n, indices, n, n, x, n, n
        return types.void(n, c, n, n, bias, n, flag, *operands), switch_over

    def switch_over(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        done = builder.function.append_basic_block()
        switch = builder.switch(arguments[0], done)
        for count in cases:
            block = builder.function.append_basic_block()
            switch.add_case(number(count), block)
            builder.position_at_end(block)
            emit(_Loop(context, builder, signature.args[1:], arguments[1:]), count)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return outlined(*_KINDS, name=name)(tile)


class _Loop:
    """The loop over k, in steps of several and then one by one."""

    def __init__(self, context: Any, builder: Any, kinds: Any, arguments: Any) -> None:
        c, c_at, self.c_row, bias, b_at, self.relu, values, v_at, self.v_step, *rest = arguments
        indices, i_at, self.depth, x, x_at, self.x_step = rest
        self.builder = builder
        self.words = Words(context, builder, kinds[0].dtype, isa().vector)
        self.c = self.words.data(kinds[0], c, c_at)
        self.bias = self.words.data(kinds[3], bias, b_at)
        self.values = self.words.data(kinds[6], values, v_at)
        self.indices = self.words.data(kinds[9], indices, i_at)
        self.x = self.words.data(kinds[12], x, x_at)

    def sums(self, first: Sums, step: Callable[[Any, Any, Sums], Sums]) -> Sums:
        """first, and what step(values, x, sums) adds to the sums for each k."""
        builder, several = self.builder, max(CHAINS // len(first), 1)
        whole = builder.mul(builder.sdiv(self.depth, number(several)), number(several))
        kind = first[0].type
        zero = ir.Constant(kind, None if kind == self.words.vector else 0.0)
        start = [first, *([[zero] * len(first)] * (several - 1))]
        sums = self._pass(number(0), whole, start, step)
        while len(sums) > 1:
            half = len(sums) // 2
            pairs = zip(sums[:half], sums[half : 2 * half], strict=True)
            joined = [[builder.fadd(a, b) for a, b in zip(*pair, strict=True)] for pair in pairs]
            sums = [*joined, *sums[2 * half :]]
        return self._pass(whole, self.depth, sums, step)[0] if several > 1 else sums[0]

    def _pass(
        self, begin: Any, end: Any, start: list[Sums], step: Callable[[Any, Any, Sums], Sums]
    ) -> list[Sums]:
        """Over k from begin to end, in steps of as many as there are lists of sums."""
        builder, several = self.builder, len(start)
        before, function = builder.block, builder.function
        loop, done = function.append_basic_block(), function.append_basic_block()
        builder.cbranch(builder.icmp_signed("<", begin, end), loop, done)
        builder.position_at_end(loop)
        k = builder.phi(begin.type)
        sums = [[builder.phi(value.type) for value in values] for values in start]
        after = [step(*self._stored(k, i), sums[i]) for i in range(several)]
        following = builder.add(k, number(several))
        k.add_incoming(begin, before)
        k.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, end), loop, done)
        builder.position_at_end(done)
        return [
            [self._carried(*three, before, loop) for three in zip(*lists, strict=True)]
            for lists in zip(sums, after, start, strict=True)
        ]

    def _stored(self, k: Any, i: int) -> tuple[Any, Any]:
        """Where number k + i is, and the inputs that belong to it."""
        builder, words = self.builder, self.words
        at = builder.add(k, number(i))
        index = builder.sext(words.load(self.indices, at, _INDEX), at.type)
        x = builder.gep(self.x, [builder.mul(index, self.x_step)])
        return builder.gep(self.values, [builder.mul(at, self.v_step)]), x

    def _carried(self, phi: Any, value: Any, first: Any, before: Any, loop: Any) -> Any:
        """What a sum is after the loop, which may not have been entered."""
        total = self.builder.phi(value.type)
        for target in (phi, total):
            target.add_incoming(first, before)
            target.add_incoming(value, loop)
        return total

    def store(self, row: int, column: int, value: Any) -> None:
        """A finished sum into c. Written so that NaN stays."""
        builder, kind = self.builder, value.type
        zero = ir.Constant(kind, None if kind == self.words.vector else 0.0)
        positive = builder.select(builder.fcmp_ordered("<=", value, zero), zero, value)
        value = builder.select(self.relu, positive, value)
        at = builder.add(builder.mul(self.c_row, number(row)), number(column))
        self.words.store(value, self.c, at)


def _blocks(loop: _Loop, samples: int) -> None:
    words = loop.words

    def step(values: Any, x: Any, sums: Sums) -> Sums:
        stored, result = words.load(values, number(0)), []
        for s, total in enumerate(sums):
            factor = words.spread(words.load(x, number(s), words.element))
            result.append(words.multiply_add(factor, stored, total))
        return result

    first = [words.load(loop.bias, number(0))] * samples
    for s, total in enumerate(loop.sums(first, step)):
        loop.store(s, 0, total)


def _samples_along(outputs: int) -> Callable[[_Loop, int], None]:
    """Tiles of so many outputs and some vectors of samples; with none, of one number each."""

    def emit(loop: _Loop, vectors: int) -> None:
        words, columns = loop.words, max(vectors, 1)

        def spread(base: Any, r: int) -> Any:
            one = words.load(base, number(r), words.element)
            return words.spread(one) if vectors else one

        def step(values: Any, x: Any, sums: Sums) -> Sums:
            kind = words.vector if vectors else words.element
            pieces = [words.load(x, number(v * words.lanes), kind) for v in range(columns)]
            result = []
            for r in range(outputs):
                factor, totals = spread(values, r), sums[r * columns : (r + 1) * columns]
                pairs = zip(pieces, totals, strict=True)
                result += [words.multiply_add(factor, piece, total) for piece, total in pairs]
            return result

        first = [value for r in range(outputs) for value in [spread(loop.bias, r)] * columns]
        for i, total in enumerate(loop.sums(first, step)):
            loop.store(i // columns, i % columns * words.lanes, total)

    return emit


block_tile = _tiles("block_tile", range(1, SAMPLES + 1), _blocks)
panel_tile = _tiles("panel_tile", range(1, VECTORS + 1), _samples_along(OUTPUTS))
row_tile = _tiles("row_tile", range(ROW_VECTORS + 1), _samples_along(1))
