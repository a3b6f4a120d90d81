"""Recurrent layers: networks over sequences, and their single steps.

Parameters have PyTorch's names, order and initial values, so that its weights fit. Sequences of
different lengths are padded on the right and told by `lengths`, where PyTorch packs them.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from .. import ops
from ..engine.creation import Where, zeros
from ..engine.dtypes import float32
from ..engine.random import Generator
from ..engine.tensor import Tensor
from ..errors import ArgumentError, DTypeError, ShapeError
from . import init
from .module import Module, Parameter

States = tuple[Tensor, ...]  # h, and c in LSTM


class _Recurrent(Module):
    """What cells and layers share: sizes, weights, and how a step of this kind is run."""

    gates: ClassVar[int]
    count: ClassVar[int] = 1  # of states: h, and c in LSTM
    nonlinearity: str

    def _sizes(self, input_size: int, hidden_size: int, bias: bool) -> None:
        init.positive(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bool(bias)

    def _weights(
        self, features: int, suffix: str, backend: Where, dtype: Any, generator: Generator | None
    ) -> None:
        """Uniform within 1 / sqrt(hidden_size), as in PyTorch."""
        rows, bound = self.gates * self.hidden_size, 1 / math.sqrt(self.hidden_size)
        shapes: dict[str, Any] = {
            "weight_ih": (rows, features), "weight_hh": (rows, self.hidden_size),
            "bias_ih": rows, "bias_hh": rows,
        }  # fmt: skip
        for name, shape in shapes.items():
            made = None
            if self.bias or name.startswith("weight"):
                made = Parameter(zeros(shape, dtype, backend=backend))
                init.uniform_(made, -bound, bound, generator)
            setattr(self, name + suffix, made)

    def _run(
        self, x: Tensor, states: States, suffix: str, lengths: Tensor | None, reverse: bool
    ) -> tuple[Tensor, ...]:
        """Output and last states of x (T, N, D), with the weights of that suffix."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = [getattr(self, name + suffix) for name in names]
        arguments: list[Any] = [x, *states, *weights, lengths, reverse]
        if self.gates == 4:
            return ops.lstm(*arguments)
        if self.gates == 3:
            return ops.gru(*arguments)
        return ops.rnn(*[*arguments, self.nonlinearity])

    def _states(self, hx: Any, shape: tuple[int, ...], x: Tensor) -> States:
        """The states to start from, each of that shape: hx, or zeros."""
        name = type(self).__name__
        if hx is None:
            return (zeros(shape, x.dtype, backend=x.backend),) * self.count
        found = (hx,) if self.count == 1 else hx
        if not isinstance(found, (tuple, list)) or len(found) != self.count:
            raise DTypeError(
                f"{name}: hx must be a pair of Tensors (h, c), got {type(hx).__name__}"
            )
        for state in found:
            ops.check.shape_is(name, "hx", state, shape)
        return tuple(found)

    def _result(self, states: States) -> Any:
        return states[0] if self.count == 1 else states


class _Layers(_Recurrent):
    """A stack of layers, each running over the whole sequence in one or both directions."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *,
        backend: Where = None, dtype: Any = float32, generator: Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        name = type(self).__name__
        self._sizes(input_size, hidden_size, bias)
        self.num_layers = ops.check.integer(name, "num_layers", num_layers, 1)
        self.dropout = ops.check.number(name, "dropout", dropout, 0, 1)
        if self.dropout and num_layers == 1:
            raise ArgumentError(
                f"{name}: dropout acts between layers, and num_layers is 1; use nn.Dropout"
            )
        self.batch_first, self.bidirectional = bool(batch_first), bool(bidirectional)
        self.generator = generator
        features = input_size
        for layer in range(num_layers):
            for suffix in self._suffixes(layer):
                self._weights(features, suffix, backend, dtype, generator)
            features = hidden_size * (2 if bidirectional else 1)

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", *([f"_l{layer}_reverse"] if self.bidirectional else [])]

    def forward(self, x: Tensor, hx: Any = None, lengths: Tensor | None = None) -> tuple[Any, Any]:
        """Output of the last layer for every step, and the last states of all layers."""
        x, single = self._batched(x)
        directions = 2 if self.bidirectional else 1
        count = self.num_layers * directions
        batch = () if single else (x.shape[1],)
        states = self._states(hx, (count, *batch, self.hidden_size), x)
        if single:
            states = tuple(ops.unsqueeze(state, 1) for state in states)
        last: list[States] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = ops.dropout(x, self.dropout, self.training, self.generator)
            outputs = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                start = tuple(state[layer * directions + direction] for state in states)
                y, *ends = self._run(x, start, suffix, lengths, direction == 1)
                outputs.append(y)
                last.append(tuple(ends))
            x = outputs[0] if directions == 1 else ops.concatenate(outputs, 2)
        final = tuple(ops.stack(list(ends)) for ends in zip(*last, strict=True))
        if single:
            return ops.squeeze(x, 1), self._result(tuple(ops.squeeze(end, 1) for end in final))
        return ops.swapaxes(x, 0, 1) if self.batch_first else x, self._result(final)

    def _batched(self, x: Tensor) -> tuple[Tensor, bool]:
        """x as (T, N, D), and whether it was one sequence (T, D)."""
        name = type(self).__name__
        ops.check.tensors(name, x=x)
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            order = "(N, T, D)" if self.batch_first else "(T, N, D)"
            raise ShapeError(
                f"{name}: x must be {order}, or (T, D) for one sequence, with D = input_size = "
                f"{self.input_size}, got {x.shape}"
            )
        if x.ndim == 2:
            return ops.unsqueeze(x, 1), True
        return ops.swapaxes(x, 0, 1) if self.batch_first else x, False


class RNN(_Layers):
    """Layers of h = f(W_ih x[t] + b_ih + W_hh h + b_hh), f "tanh" or "relu"; see `ops.rnn`.

    Called as layer(x, hx=None, lengths=None): x (T, N, input_size), or (N, T, input_size) if
    batch_first, or (T, input_size); hx (num_layers * directions, N, hidden_size), zeros if None;
    lengths (N,) of int64, where sequences end before T: outputs behind are 0, and the reverse
    direction starts at each end. Returns output (T, N, directions * hidden_size) and h_n, as hx.
    PyTorch packs such sequences instead. Dropout acts between layers, while training.
    Raises: ArgumentError; ShapeError, DTypeError and IndexRangeError when called.

    >>> import minidl
    >>> y, h = RNN(3, 4, 2, bidirectional=True)(minidl.ones((5, 2, 3)))
    >>> y.shape, h.shape
    ((5, 2, 8), (4, 2, 4))
    """

    gates = 1

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh",
        bias: bool = True, batch_first: bool = False, dropout: float = 0.0,
        bidirectional: bool = False, *,
        backend: Where = None, dtype: Any = float32, generator: Generator | None = None,
    ) -> None:  # fmt: skip
        ops.check.choice("RNN", "nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            backend=backend, dtype=dtype, generator=generator,
        )  # fmt: skip
        self.nonlinearity = nonlinearity


class LSTM(_Layers):
    """Layers of long short-term memory; see `ops.lstm`.

    Called as `RNN`, but hx is a pair (h, c), and so is the second result.
    Raises: ArgumentError; ShapeError, DTypeError and IndexRangeError when called.

    >>> import minidl
    >>> y, (h, c) = LSTM(3, 4, batch_first=True)(minidl.ones((2, 5, 3)))
    >>> y.shape, h.shape, c.shape
    ((2, 5, 4), (1, 2, 4), (1, 2, 4))
    """

    gates, count = 4, 2


class GRU(_Layers):
    """Layers of gated recurrent units; see `ops.gru`. Called as `RNN`.

    Raises: ArgumentError; ShapeError, DTypeError and IndexRangeError when called.

    >>> import minidl
    >>> y, h = GRU(3, 4)(minidl.ones((5, 2, 3)), lengths=minidl.tensor([5, 1]))
    >>> y[1:, 1].abs().sum().item(), minidl.ops.equal(h[0, 1], y[0, 1]).tolist()
    (0.0, [True, True, True, True])
    """

    gates = 3


class _Cell(_Recurrent):
    """One step."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *,
        backend: Where = None, dtype: Any = float32, generator: Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._sizes(input_size, hidden_size, bias)
        self._weights(input_size, "", backend, dtype, generator)

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        """The next states."""
        name = type(self).__name__
        ops.check.tensors(name, x=x)
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{name}: x must be (N, D), or (D,) for one sample, with D = input_size = "
                f"{self.input_size}, got {x.shape}"
            )
        lead = x.shape[:-1]
        rows = (lead[0] if lead else 1, self.hidden_size)
        given = self._states(hx, (*lead, self.hidden_size), x)
        start = tuple(ops.reshape(state, rows) for state in given)
        _, *ends = self._run(ops.reshape(x, (1, rows[0], x.shape[-1])), start, "", None, False)
        return self._result(tuple(ops.reshape(end, (*lead, self.hidden_size)) for end in ends))


class RNNCell(_Cell):
    """One step of `RNN`: cell(x, h=None) -> h.

    Shapes: x (N, input_size), h (N, hidden_size), or both without N. Raises: ArgumentError;
    ShapeError, DTypeError when called.

    >>> import minidl
    >>> RNNCell(3, 4)(minidl.ones((2, 3))).shape
    (2, 4)
    """

    gates = 1

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", *,
        backend: Where = None, dtype: Any = float32, generator: Generator | None = None,
    ) -> None:  # fmt: skip
        ops.check.choice("RNNCell", "nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(
            input_size, hidden_size, bias, backend=backend, dtype=dtype, generator=generator
        )
        self.nonlinearity = nonlinearity


class LSTMCell(_Cell):
    """One step of `LSTM`: cell(x, (h, c)) -> (h, c), from zeros if there is no pair.

    Shapes: x (N, input_size), h and c (N, hidden_size), or all without N. Raises: ArgumentError;
    ShapeError, DTypeError when called.

    >>> import minidl
    >>> h, c = LSTMCell(3, 4)(minidl.ones((2, 3)))
    >>> h.shape, c.shape
    ((2, 4), (2, 4))
    """

    gates, count = 4, 2


class GRUCell(_Cell):
    """One step of `GRU`: cell(x, h=None) -> h.

    Shapes: x (N, input_size), h (N, hidden_size), or both without N. Raises: ArgumentError;
    ShapeError, DTypeError when called.

    >>> import minidl
    >>> GRUCell(3, 4)(minidl.ones(3)).shape
    (4,)
    """

    gates = 3
