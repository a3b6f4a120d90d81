"""An LSTM in integers: 8-bit states and weights, 16-bit cells, gates out of tables."""

from __future__ import annotations

from ..interface import Array, Narrow, Requantize
from .int8 import Int8, halved
from .int8_between import Int8Between
from .recurrent import order, parts, running

LOWEST, HIGHEST = -(2**15), 2**15 - 1  # of int16


class Int8Recurrent(Int8, Int8Between):
    """Step by step, as the contract states it, in 64 bits."""

    def int8_lstm(
        self, x: Array, weight: Array, packed: Array, h: Array, c: Array, lengths: Array | None,
        reverse: bool, inputs: Requantize, hidden: Requantize, sigmoid: Array, tanh: Array,
        narrow: Narrow,
    ) -> tuple[Array, Array]:  # fmt: skip
        xp = self.xp
        states = xp.full((len(x) + 1, *h.shape), narrow.zero_point, narrow.dtype)
        for t in order(len(x), reverse):
            p = self._finished(x[t], inputs, (-1,)).astype(xp.int32)
            p = p + self._finished(self._exact_matmul(h, weight.T), hidden, (-1,))
            index = (xp.clip(p, LOWEST, HIGHEST) >> 4) + 2048
            i, f, g, o = parts(index, 4)
            i, f, g, o = (
                table[at].astype(xp.int64)
                for table, at in ((sigmoid, i), (sigmoid, f), (tanh, g), (sigmoid, o))
            )
            n = halved(f * c * 16 + i * g, 19, 1 << 18)
            new_c = xp.clip(n, LOWEST, HIGHEST).astype(xp.int16)
            level = tanh[xp.clip(new_c >> 3, -2048, 2047) + 2048]
            new = self._narrowed(o * level, narrow)
            valid = running(t, lengths)
            if valid is None:
                states[t], h, c = new, new, new_c
            else:
                states[t] = xp.where(valid, new, states[t])
                h, c = xp.where(valid, new, h), xp.where(valid, new_c, c)
        states[len(x)] = h
        return states, c
