"""Steps of an integer program for an LSTM: its gates come out of tables, its states are codes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from backends import Array, Backend, Requantize

from ..engine.creation import tensor
from ..engine.dtypes import float64, int32
from ..engine.tensor import Tensor
from .graph import Value
from .integer_parts import Step, layer_path
from .integer_plan import Plan
from .integer_steps import Call, IntegerStep, Known, MoveStep, Prepared, alone, moves
from .layers import Coded
from .models import backend_of
from .nodes import resolved
from .qtensor import Scheme
from .recurrences import STATES, start
from .requantize import Grid, narrow, offsets, quantized_weight, requantizer

# Units of `Backend.int8_lstm`: gates before their tables, what tables hold, and cells.
GATES = Grid(2.0**-12, 0, Scheme("symmetric", np.dtype(np.int16), -(2**15), 2**15 - 1, 16))
_TABLE, _CELL = 2.0**-15, 2.0**-11
_MIDDLES = (np.arange(4096) + 0.5) / 256 - 8  # of what shares an entry of a table


def state_grid(low: float, high: float, scheme: Scheme) -> Grid:
    """The grid of an LSTM's states: codes around 0, in steps of the power of two that covers them.

    A state is a product of two numbers out of tables, so that a shift alone makes a code of it; its
    absolute value is below 1.

    >>> from .qtensor import AFFINE
    >>> str(state_grid(-0.4, 0.3, AFFINE))
    'uint8 0.00390625 * (q - 128)'
    """
    _, exponent = math.frexp(max(-low, high, 2.0**-14) / _reach(scheme))
    return Grid(2.0 ** min(exponent, -7), (scheme.low + scheme.high + 1) // 2, scheme)


def _reach(scheme: Scheme) -> int:
    """How many codes there are above the one in the middle."""
    return (scheme.high - scheme.low) // 2


def table(function: Any) -> np.ndarray:
    """A function of gates from -8 to 8, as `Backend.int8_lstm` looks it up."""
    values = np.rint(function(_MIDDLES) / _TABLE)
    found: np.ndarray = np.clip(values, -(2**15), 2**15 - 1).astype(np.int16)
    return found


class GateWeight(Coded):
    """One of the two weights of an LSTM. Buffers: weight (int8), weight_scale, and bias (int32, in
    units of the scale of what it multiplies times its own), which only the input's has.
    """

    def __init__(
        self, weight: Value, bias: Value | None, known: Known, given: Grid, scheme: Scheme,
        per_channel: bool, where: Backend,
    ) -> None:  # fmt: skip
        super().__init__()
        added = None if bias is None else known[bias].numpy()
        numbers = known[weight].numpy()
        codes, scale, counted = quantized_weight(numbers, added, given.scale, scheme, per_channel)
        self.register_buffer("weight", tensor(codes, backend=where))
        self.register_buffer("weight_scale", tensor(scale, backend=where))
        self.register_buffer("bias", None if bias is None else tensor(counted, backend=where))

    def finish(self, lib: Backend, given: Grid) -> Requantize:
        """What makes gates of the sums of products with codes on a grid."""
        outputs = self.weight.shape[0]
        bias = np.zeros(outputs, int32) if self.bias is None else self.bias.numpy()
        offset = offsets(bias, self.weight.numpy(), given.zero_point)
        scale = np.broadcast_to(self.weight_scale.numpy().astype(float64), (outputs,))
        return requantizer(lib, offset, scale * given.scale / GATES.scale, GATES, False)


class LSTMStep(IntegerStep):
    """All steps of a layer and direction, from codes to codes of its states (T + 1, N, H): the last
    row is the last state.

    Buffers: those of `input` and `hidden`, its two weights, and start (2, H), int32: the code of h
    and the c that all samples begin with.
    """

    start: Tensor

    def __init__(
        self, plan: Plan, step: Step, known: Known, grids: Sequence[Grid], scheme: Scheme,
        per_channel: bool,
    ) -> None:  # fmt: skip
        super().__init__(plan, step, known)
        linear, _, lstm = step.nodes
        gates, weight, bias, h, c, _ = lstm.inputs
        self.path, self.sizes = layer_path(linear), gates.sizes
        self.reverse: bool = lstm.settings["reverse"]
        where, states = backend_of(plan.graph.model), grids[self.grid_out]
        how = scheme, per_channel, where
        self.input = GateWeight(linear.inputs[1], bias, known, grids[self.grid_in[0]], *how)
        self.hidden = GateWeight(weight, None, known, states, *how)
        first = np.array([states.codes(start(h)), cells(start(c))], int32)
        self.register_buffer("start", tensor(first, backend=where))

    def prepare(self, lib: Backend, grids: Sequence[Grid]) -> Prepared:
        given, states = grids[self.grid_in[0]], grids[self.grid_out]
        weights = self.input.weight.data, self.hidden.weight.data
        packed, packed_hidden = (lib.int8_pack(weight, 1) for weight in weights)
        finishes = self.input.finish(lib, given), self.hidden.finish(lib, states)
        tables = lib.asarray(table(sigmoid)), lib.asarray(table(np.tanh))
        finish = narrow(states, round(math.log2(states.scale / _TABLE**2)))
        kinds = states.scheme.dtype, GATES.scheme.dtype

        def prepared(batch: int) -> Call:
            shape = resolved(self.sizes, batch)
            rows = zip(self.start.numpy(), kinds, strict=True)
            h, c = (lib.asarray(np.tile(row.astype(kind), (shape[1], 1))) for row, kind in rows)

            def call(x: Array, lengths: Array | None = None) -> Array:
                sums = lib.reshape(lib.int8_linear(x, weights[0], packed, None), shape)
                options = lengths, self.reverse, *finishes, *tables, finish
                return lib.int8_lstm(sums, weights[1], packed_hidden, h, c, *options)[0]

            return call

        return prepared

    def describe(self) -> str:
        per = "tensor" if self.input.weight_scale.ndim == 0 else "channel"
        rows, features = self.input.weight.shape
        return f"LSTM {rows}x{features}+{rows}x{rows // 4} per {per}"


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x)."""
    y: np.ndarray = 1 / (1 + np.exp(-x))
    return y


def cells(c: Any) -> np.ndarray:
    """Numbers as the cells of `Backend.int8_lstm`."""
    found: np.ndarray = np.clip(np.rint(c / _CELL), -(2**15), 2**15 - 1)
    return found


class StatesStep(MoveStep):
    """The states of an LSTM, or the last one, perhaps moved: rows of codes, without the cell that
    stands behind them where `ops.lstm` takes its rows.
    """

    def __init__(self, plan: Plan, step: Step, known: Known) -> None:
        super().__init__(plan, step, known)
        first, *others = step.nodes
        row = alone(first)
        row.settings = {**first.settings, "index": self._index(first.settings["index"])}
        self.moves = moves([row, *others])

    @staticmethod
    def _index(index: Any) -> Any:
        return slice(None, -1) if index == STATES else -1


class FillStep(IntegerStep):
    """Codes where a condition holds, and that of 0 elsewhere."""

    def prepare(self, lib: Backend, grids: Sequence[Grid]) -> Prepared:
        zero = grids[self.grid_out].zero_point
        return lambda batch: lambda condition, x: lib.where(condition, x, zero)
