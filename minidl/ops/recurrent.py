"""Recurrent networks over whole sequences: each operation a loop over time, in one kernel.

Time is the first axis. What x brings to all steps is one product made before; in the kernel remains
what each step needs of the one before it. Gradients are backpropagated through time (Werbos 1990,
"Backpropagation through time: what it does and how to do it"); the definitions say it step by step.
"""

from __future__ import annotations

from typing import Any

from ..engine.apply import apply
from ..engine.creation import arange
from ..engine.function import Function
from ..engine.tensor import Tensor
from ..errors import ShapeError
from . import check
from .activation import relu, sigmoid
from .elementwise import where
from .linear import linear
from .shape import split, stack, unsqueeze
from .unary import tanh


class RNN(Function):
    """h = f(x[t] + b + W h); dL/dz = dL/dh f', which W takes to the step before.

    Source: Elman (1990), "Finding structure in time", Cognitive Science 14.
    """

    def __init__(self, reverse: bool, nonlinearity: str) -> None:
        self.settings = reverse, nonlinearity

    def forward(self, x: Any, weight: Any, bias: Any, h: Any, lengths: Any) -> Any:
        self.weight, self.h, self.lengths = weight, h, lengths
        self.states = self.backend.rnn(x, weight, bias, h, lengths, *self.settings)
        return self.states

    def backward(self, grad: Any) -> Any:
        saved = self.states, self.weight, self.h, self.lengths
        return *self.backend.rnn_grad(grad, *saved, *self.settings), None

    def definition(self, x: Tensor, weight: Any, bias: Any, h: Any, lengths: Any) -> Tensor:
        reverse, nonlinearity = self.settings
        activation = tanh if nonlinearity == "tanh" else relu

        def step(x: Tensor, h: Tensor) -> tuple[Tensor]:
            return (activation(x + linear(h, weight, bias)),)

        return _unrolled(step, x, (h,), lengths, reverse)


class LSTM(Function):
    """c = f c + i g and h = o tanh(c), with gates i, f, o = sigmoid and g = tanh of x[t] + b + W h.

    Sources: Hochreiter & Schmidhuber (1997), "Long short-term memory", Neural Computation 9; the
    forget gate f: Gers, Schmidhuber & Cummins (2000), "Learning to forget", Neural Computation 12.
    """

    def __init__(self, reverse: bool) -> None:
        self.reverse = reverse

    def forward(self, x: Any, weight: Any, bias: Any, h: Any, c: Any, lengths: Any) -> Any:
        self.weight, self.h, self.c, self.lengths = weight, h, c, lengths
        found = self.backend.lstm(x, weight, bias, h, c, lengths, self.reverse)
        self.states, self.gates, self.cells = found
        return self.states

    def backward(self, grad: Any) -> Any:
        saved = self.states, self.gates, self.cells, self.weight, self.h, self.c, self.lengths
        return *self.backend.lstm_grad(grad, *saved, self.reverse), None

    def definition(self, x: Tensor, weight: Any, bias: Any, h: Any, c: Any, lengths: Any) -> Tensor:
        def step(x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
            i, f, g, o = split(x + linear(h, weight, bias), h.shape[1], 1)
            c = sigmoid(f) * c + sigmoid(i) * tanh(g)
            return sigmoid(o) * tanh(c), c

        return _unrolled(step, x, (h, c), lengths, self.reverse)


class GRU(Function):
    """h = (1 - z) n + z h with n = tanh(x_n + r q), where q is the last third of W h + its bias.

    r and z are the sigmoid of the other thirds of x[t] + b plus those of W h. Source: Cho et al.
    (2014), arXiv:1406.1078, section 2.3; r after the product with W, as in cuDNN and PyTorch.
    """

    def __init__(self, reverse: bool) -> None:
        self.reverse = reverse

    def forward(self, x: Any, weight: Any, bias: Any, own: Any, h: Any, lengths: Any) -> Any:
        self.weight, self.h, self.lengths = weight, h, lengths
        found = self.backend.gru(x, weight, bias, own, h, lengths, self.reverse)
        self.states, self.gates = found
        return self.states

    def backward(self, grad: Any) -> Any:
        saved = self.states, self.gates, self.weight, self.h, self.lengths
        return *self.backend.gru_grad(grad, *saved, self.reverse), None

    def definition(
        self, x: Tensor, weight: Any, bias: Any, own: Any, h: Any, lengths: Any
    ) -> Tensor:
        def step(x: Tensor, h: Tensor) -> tuple[Tensor]:
            x_r, x_z, x_n = split(x if bias is None else x + bias, h.shape[1], 1)
            p_r, p_z, q = split(linear(h, weight, own), h.shape[1], 1)
            r, z = sigmoid(x_r + p_r), sigmoid(x_z + p_z)
            return ((1 - z) * tanh(x_n + r * q) + z * h,)

        return _unrolled(step, x, (h,), lengths, self.reverse)


def _unrolled(step: Any, x: Tensor, state: Any, lengths: Any, reverse: bool) -> Tensor:
    """The rows of `states` (see `backends.interface`): h after each step, and the last state."""
    steps = x.shape[0]
    rows: list[Any] = [None] * steps
    for t in range(steps - 1, -1, -1) if reverse else range(steps):
        new = step(x[t], *state)
        rows[t] = new[0]
        if lengths is not None:  # a sample that has ended stands still
            valid = unsqueeze(lengths > t, 1)
            rows[t] = where(valid, new[0], 0.0)
            new = tuple(where(valid, n, old) for n, old in zip(new, state, strict=True))
        state = new
    return stack([*rows, *state])


def rnn(
    x: Tensor, h: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None, lengths: Tensor | None = None, reverse: bool = False,
    nonlinearity: str = "tanh",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """h = f(W_ih x[t] + b_ih + W_hh h + b_hh), f "tanh" or "relu": all h, and the last.

    Shapes: x (T, N, D), h (N, H), weight_ih (H, D), weight_hh (H, H), biases (H,), lengths (N,) ->
    (T, N, H), (N, H). Sample n ends after lengths[n] steps: what x holds behind that is not looked
    at, and the output there is 0. With `reverse` each runs from its own end to the start.
    Raises: ShapeError, DTypeError, ArgumentError, IndexRangeError.

    >>> from minidl import ones, tensor
    >>> one = tensor([[1.0]])
    >>> y, last = rnn(ones((3, 1, 1)), one, one, one, nonlinearity="relu")
    >>> y.flatten().tolist(), last.item()
    ([2.0, 3.0, 4.0], 4.0)
    """
    check.choice("rnn", "nonlinearity", nonlinearity, ("tanh", "relu"))
    weights = weight_ih, weight_hh, bias_ih, bias_hh
    x, lengths = _door("rnn", 1, x, {"h": h}, *weights, lengths)
    function = RNN(bool(reverse), nonlinearity)
    states = apply(function, linear(x, weight_ih), weight_hh, _sum(bias_ih, bias_hh), h, lengths)
    return states[:-1], states[-1]


def lstm(
    x: Tensor, h: Tensor, c: Tensor, weight_ih: Tensor, weight_hh: Tensor,
    bias_ih: Tensor | None = None, bias_hh: Tensor | None = None, lengths: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Long short-term memory: all h, the last h and the last c.

    Shapes: x (T, N, D), h and c (N, H), weight_ih (4H, D), weight_hh (4H, H), biases (4H,) for the
    gates i, f, g, o; lengths and reverse as in `rnn` -> (T, N, H), (N, H), (N, H).
    Raises: ShapeError, DTypeError, IndexRangeError.

    >>> from minidl import ones, zeros
    >>> start, weights = zeros((2, 4)), (ones((16, 3)), ones((16, 4)))
    >>> [y.shape for y in lstm(ones((5, 2, 3)), start, start, *weights)]
    [(5, 2, 4), (2, 4), (2, 4)]
    """
    weights = weight_ih, weight_hh, bias_ih, bias_hh
    x, lengths = _door("lstm", 4, x, {"h": h, "c": c}, *weights, lengths)
    bias = _sum(bias_ih, bias_hh)
    function = LSTM(bool(reverse))
    states = apply(function, linear(x, weight_ih), weight_hh, bias, h, c, lengths)
    return states[:-2], states[-2], states[-1]


def gru(
    x: Tensor, h: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None, lengths: Tensor | None = None, reverse: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """A gated recurrent unit: all h, and the last.

    Shapes: x (T, N, D), h (N, H), weight_ih (3H, D), weight_hh (3H, H), biases (3H,) for the gates
    r, z, n; lengths and reverse as in `rnn` -> (T, N, H), (N, H).
    Raises: ShapeError, DTypeError, IndexRangeError.

    >>> from minidl import ones, zeros
    >>> [y.shape for y in gru(ones((5, 2, 3)), zeros((2, 4)), ones((12, 3)), ones((12, 4)))]
    [(5, 2, 4), (2, 4)]
    """
    weights = weight_ih, weight_hh, bias_ih, bias_hh
    x, lengths = _door("gru", 3, x, {"h": h}, *weights, lengths)
    function = GRU(bool(reverse))
    states = apply(function, linear(x, weight_ih), weight_hh, bias_ih, bias_hh, h, lengths)
    return states[:-1], states[-1]


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _door(
    operation: str, gates: int, x: Tensor, states: dict[str, Tensor], weight_ih: Tensor,
    weight_hh: Tensor, bias_ih: Tensor | None, bias_hh: Tensor | None, lengths: Tensor | None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """The checks of all three; x without what stands behind the ends, and lengths as int64."""
    check.floating(operation, x=x, weight_ih=weight_ih, weight_hh=weight_hh, **states)
    if x.ndim != 3 or not x.shape[0] or weight_hh.ndim != 2 or not weight_hh.shape[1]:
        raise ShapeError(
            f"{operation}: x {x.shape} must be (T, N, D) with T >= 1 steps, and weight_hh "
            f"{weight_hh.shape} ({gates} H, H)"
        )
    units, (steps, batch, features) = weight_hh.shape[1], x.shape
    rows = gates * units
    check.shape_is(operation, "weight_ih", weight_ih, (rows, features))
    check.shape_is(operation, "weight_hh", weight_hh, (rows, units))
    check.shape_is(operation, "bias_ih", bias_ih, (rows,))
    check.shape_is(operation, "bias_hh", bias_hh, (rows,))
    for name, state in states.items():
        check.shape_is(operation, name, state, (batch, units))
    others = {"weight_ih": weight_ih, "weight_hh": weight_hh, "bias_ih": bias_ih}
    check.same_dtype(operation, x, **others, bias_hh=bias_hh, **states)
    if lengths is None:
        return x, None
    check.integers(operation, "lengths", lengths)
    check.shape_is(operation, "lengths", lengths, (batch,))
    check.same_backend(operation, x, lengths)
    check.in_range(operation, "lengths", lengths, 1, steps + 1)
    inside = unsqueeze(arange(steps, backend=x.backend), 1) < lengths
    return where(unsqueeze(inside, 2), x, 0.0), lengths.astype("int64")
