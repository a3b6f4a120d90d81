"""The innermost loops of products with a sparse weight: only what is stored is multiplied.

    block_tile   c[s, :] += x[index[k], s] * values[k, :]   a vector of outputs for each sample
    panel_tile   c[r, :] += x[index[k], :] * values[k, r]   vectors of samples for some outputs
    row_tile     c[:]    += x[index[k], :] * values[k]      the same for one output

for k = 0, 1, ... over the stored blocks or numbers of some outputs, the sums in registers. x lies
transposed, so that what an index points to is contiguous: a few samples of one input. Where few
sums would wait for each other, several k are under way at once, each with sums of its own; these
are added in the end, always in the same order. Source of the scheme for rows: Gale et al. (2020),
"Sparse GPU kernels for deep learning", arXiv:2006.10901, section 5 (one-dimensional tiling).
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
SAMPLES = 16 if WIDE else 8  # sums of a tile of blocks: one vector for each sample
OUTPUTS, VECTORS = 8 if WIDE else 4, 3  # of a panel
ROW_VECTORS = 4
CHAINS = 8  # sums under way that keep both multipliers busy

Sums = list[Any]


@outlined("n", "real", "n", "n", "real", "n", "n", "taps", "n", "n", "real", "n", "n")
def block_tile(
    typing: Any, samples: Any, c: Any, c_at: Any, c_row: Any, values: Any, v_at: Any, v_step: Any,
    indices: Any, i_at: Any, depth: Any, x: Any, x_at: Any, x_step: Any,
) -> Any:  # fmt: skip
    """c[s, :] = sum over k of x[index k, s] * values[k, :], one vector for each s < samples.

    Flat arrays: c[s, :] is at c_at + s * c_row, values[k, :] at v_at + k * v_step, index k at
    i_at + k, and x[i, s] at x_at + i * x_step + s.
    """
    n = types.intp
    return types.void(n, c, n, n, values, n, n, indices, n, n, x, n, n), _emit_blocks


def _emit_blocks(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    samples, c, c_at, c_row, *rest = arguments
    kinds = signature.args

    def tile(count: int) -> None:
        loop = _Loop(context, builder, kinds[4:], rest)
        words = loop.words
        places = [number(s) for s in range(count)]

        def step(value: Any, x: Any, sums: Sums) -> Sums:
            stored = words.load(value, number(0))
            factors = [words.spread(words.load(x, place, words.element)) for place in places]
            return [words.multiply_add(f, stored, c) for f, c in zip(factors, sums, strict=True)]

        sums = loop.run(count, words.vector, step)
        base = words.data(kinds[1], c, c_at)
        for place, total in zip(places, sums, strict=True):
            words.store(total, base, builder.mul(c_row, place))

    return _switch(context, builder, samples, range(1, SAMPLES + 1), tile)


def _samples_first(outputs: int, most: int, name: str) -> Any:
    """The intrinsic for tiles of so many outputs and up to `most` vectors of samples."""

    def tile(
        typing: Any, vectors: Any, c: Any, c_at: Any, c_row: Any, values: Any, v_at: Any,
        v_step: Any, indices: Any, i_at: Any, depth: Any, x: Any, x_at: Any, x_step: Any,
    ) -> Any:  # fmt: skip
        """c[r, :] = sum over k of x[index k, :] * values[k, r]; with 0 vectors, one number each.

        Where things are is said as in `block_tile`, c[r, :] at c_at + r * c_row.
        """
        n = types.intp
        return types.void(n, c, n, n, values, n, n, indices, n, n, x, n, n), emit

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vectors, c, c_at, c_row, *rest = arguments
        kinds = signature.args

        def one(count: int) -> None:
            loop = _Loop(context, builder, kinds[4:], rest)
            words = loop.words
            kind = words.vector if count else words.element
            columns = [number(v * words.lanes) for v in range(max(count, 1))]

            def step(value: Any, x: Any, sums: Sums) -> Sums:
                pieces, result = [words.load(x, column, kind) for column in columns], []
                for r in range(outputs):
                    factor = words.load(value, number(r), words.element)
                    factor = words.spread(factor) if count else factor
                    totals = sums[r * len(pieces) : (r + 1) * len(pieces)]
                    pairs = zip(pieces, totals, strict=True)
                    result += [words.multiply_add(factor, piece, total) for piece, total in pairs]
                return result

            sums = iter(loop.run(outputs * len(columns), kind, step))
            for r in range(outputs):
                base = words.data(kinds[1], c, builder.add(c_at, builder.mul(c_row, number(r))))
                for column in columns:
                    words.store(next(sums), base, column)

        return _switch(context, builder, vectors, range(most + 1), one)

    kinds = ("n", "real", "n", "n", "real", "n", "n", "taps", "n", "n", "real", "n", "n")
    return outlined(*kinds, name=name)(tile)


panel_tile = _samples_first(OUTPUTS, VECTORS, "panel_tile")
row_tile = _samples_first(1, ROW_VECTORS, "row_tile")


def _switch(
    context: Any, builder: Any, which: Any, cases: range, emit: Callable[[int], None]
) -> Any:
    """Loops of their own for each size of a tile."""
    done = builder.function.append_basic_block()
    switch = builder.switch(which, done)
    for count in cases:
        block = builder.function.append_basic_block()
        switch.add_case(number(count), block)
        builder.position_at_end(block)
        emit(count)
        builder.branch(done)
    builder.position_at_end(done)
    return context.get_dummy_value()


class _Loop:
    """The loop over k, in steps of several and then one by one."""

    def __init__(self, context: Any, builder: Any, kinds: Any, arguments: Any) -> None:
        values, v_at, self.v_step, indices, i_at, self.depth, x, x_at, self.x_step = arguments
        self.builder = builder
        self.words = Words(context, builder, kinds[0].dtype, isa().vector)
        self.values = self.words.data(kinds[0], values, v_at)
        self.indices = self.words.data(kinds[3], indices, i_at)
        self.x = self.words.data(kinds[6], x, x_at)

    def run(self, count: int, kind: Any, step: Callable[..., Sums]) -> Sums:
        """The sums, `count` of them, of what step(value, x, sums) adds to them for each k."""
        builder, several = self.builder, max(CHAINS // count, 1)
        whole = builder.mul(builder.sdiv(self.depth, number(several)), number(several))
        start = [[ir.Constant(kind, None if kind is self.words.vector else 0.0)] * count] * several
        sums = self._pass(number(0), whole, start, step)
        while len(sums) > 1:
            half = len(sums) // 2
            pairs = zip(sums[:half], sums[half : 2 * half], strict=True)
            joined = [[builder.fadd(a, b) for a, b in zip(*pair, strict=True)] for pair in pairs]
            sums = joined + sums[2 * half :]
        return self._pass(whole, self.depth, sums, step)[0] if several > 1 else sums[0]

    def _pass(
        self, begin: Any, end: Any, start: list[Sums], step: Callable[..., Sums]
    ) -> list[Sums]:
        """Over k from begin to end, in steps of as many as there are lists of sums."""
        builder, words, several = self.builder, self.words, len(start)
        before, function = builder.block, builder.function
        loop, done = function.append_basic_block(), function.append_basic_block()
        builder.cbranch(builder.icmp_signed("<", begin, end), loop, done)
        builder.position_at_end(loop)
        k = builder.phi(begin.type)
        sums = [[builder.phi(value.type) for value in values] for values in start]
        after = []
        for i in range(several):
            at = builder.add(k, number(i))
            index = builder.sext(words.load(self.indices, at, ir.IntType(32)), begin.type)
            x = builder.gep(self.x, [builder.mul(index, self.x_step)])
            value = builder.gep(self.values, [builder.mul(at, self.v_step)])
            after.append(step(value, x, sums[i]))
        following = builder.add(k, number(several))
        k.add_incoming(begin, before)
        k.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, end), loop, done)
        builder.position_at_end(done)
        result: list[Sums] = []
        for phis, values, firsts in zip(sums, after, start, strict=True):
            result.append([])
            for phi, value, first in zip(phis, values, firsts, strict=True):
                phi.add_incoming(first, before)
                phi.add_incoming(value, loop)
                total = builder.phi(value.type)
                total.add_incoming(first, before)
                total.add_incoming(value, loop)
                result[-1].append(total)
        return result
