"""Wrong inputs to every public operation, and the error that each must raise on every backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import backends
from backends import Backend
from backends.numpy_backend import NumpyBackend

from .. import ops
from ..engine.creation import ones, tensor
from ..errors import (
    ArgumentError,
    BackendMismatch,
    DTypeError,
    IndexRangeError,
    MinidlError,
    ShapeError,
)


class _Twin(NumpyBackend):
    name = "twin"


class Inputs:
    """Good tensors of a backend, of which the wrong inputs are made."""

    def __init__(self, backend: Backend) -> None:
        other = backends.get("numpy") if backend.name != "numpy" else _Twin()
        self.x, self.other = ones((2, 3), backend=backend), ones((2, 3), backend=other)
        self.wide = ones((2, 3), "float64", backend=backend)
        self.long = ones((2, 4), backend=backend)
        self.whole = ones((2, 3), "int64", backend=backend)
        self.mask = ones((2, 3), "bool", backend=backend)
        self.two, self.three = ones(2, backend=backend), ones(3, backend=backend)
        self.labels = tensor([0, 2], backend=backend)
        self.beyond = tensor([0, 3], backend=backend)
        self.images = ones((1, 2, 4, 4), backend=backend)
        self.kernel = ones((2, 2, 3, 3), backend=backend)
        self.steps = ones((4, 2, 3), backend=backend)

    def cell(self, operation: str, **changed: Any) -> dict[str, Any]:
        """What a recurrent operation takes: 4 steps of 2 samples, 3 features and 2 units."""
        rows = {"rnn": 2, "lstm": 8, "gru": 6}[operation]
        where = self.x.backend
        state, weight = ones((2, 2), backend=where), ones((rows, 2), backend=where)
        more = {"c": state} if operation == "lstm" else {}
        first = ones((rows, 3), backend=where)
        found = {"x": self.steps, "h": state, **more, "weight_ih": first, "weight_hh": weight}
        return {**found, **changed}


Call = Callable[[Inputs], object]


@dataclass(frozen=True)
class Door:
    """One wrong call of an operation."""

    operation: str
    number: int
    call: Call
    error: type[MinidlError]

    def __str__(self) -> str:
        return f"{self.operation} {self.number}"

    @property
    def subjects(self) -> tuple[str, ...]:
        """The operation."""
        return (self.operation,)

    def knock(self, backend: Backend) -> None:
        """Fail unless the call raises exactly this error. Raises: AssertionError."""
        found: type[Exception] | None = None
        try:
            self.call(Inputs(backend))
        except Exception as error:  # another error is the finding
            found = type(error)
        what = "no error" if found is None else found.__name__
        assert found is self.error, f"{self}: {what}, where {self.error.__name__} is due"


DOORS: list[Door] = []


def wrong(operations: str, error: type[MinidlError], *calls: Callable[..., object]) -> None:
    """Each call takes (operation, inputs), or (inputs) where it names its operation itself."""
    for name in operations.split():
        function = getattr(ops, name)
        for call in calls:
            number = sum(door.operation == name for door in DOORS)
            DOORS.append(Door(name, number, lambda v, c=call, f=function: c(f, v), error))  # type: ignore[misc]


UNARY = "negative abs sign exp log sqrt sin cos tanh erf alias clone clip"
ACTIVATIONS = "sigmoid softplus relu leaky_relu gelu silu"
FLOATING = "exp log sqrt sin cos tanh erf sigmoid softplus leaky_relu gelu silu mean var softmax"
BINARY = "add subtract multiply divide pow maximum minimum"
COMPARISONS = "equal not_equal less less_equal greater greater_equal"
REDUCTIONS = "sum mean var max min logsumexp"
LOSSES = "mse_loss l1_loss huber_loss binary_cross_entropy_with_logits kl_div"
POOLS = "max_pool2d avg_pool2d"

wrong(f"{UNARY} {ACTIVATIONS}", DTypeError, lambda f, v: f([1.0, 2.0]), lambda f, v: f(None))
wrong(f"{FLOATING} logsumexp log_softmax dropout", DTypeError, lambda f, v: f(v.whole))
wrong("leaky_relu clip", ArgumentError, lambda f, v: f(v.x, "a"))
wrong("gelu", ArgumentError, lambda f, v: f(v.x, "sometimes"))
wrong("astype", DTypeError, lambda f, v: f(v.x, "complex64"), lambda f, v: f(v.x, "letters"))
wrong("to_backend", DTypeError, lambda f, v: f(np.ones(2), v.x.backend))
wrong(f"{BINARY} {COMPARISONS}", ShapeError, lambda f, v: f(v.x, v.long))
wrong(f"{BINARY} {COMPARISONS}", BackendMismatch, lambda f, v: f(v.x, v.other))
wrong(f"{BINARY} {COMPARISONS}", DTypeError, lambda f, v: f(v.x, "a"), lambda f, v: f(v.x, None))
wrong("logical_and logical_or", DTypeError, lambda f, v: f(v.x, v.mask))
wrong("logical_and logical_or", ShapeError, lambda f, v: f(v.mask, v.mask[:, :2]))
wrong("logical_not", DTypeError, lambda f, v: f(v.x))
wrong("where", DTypeError, lambda f, v: f(v.x, v.x, 0.0), lambda f, v: f(v.mask, None, 1.0))
wrong("where", ShapeError, lambda f, v: f(v.mask, v.long, 0.0))
wrong("where", BackendMismatch, lambda f, v: f(v.mask, v.x, v.other))

wrong(f"{REDUCTIONS} argmax argmin cumsum softmax log_softmax flip squeeze", ShapeError,
      lambda f, v: f(v.x, 2), lambda f, v: f(v.x, -3), lambda f, v: f(v.x, 0.5))  # fmt: skip
wrong(f"{REDUCTIONS} flip squeeze", ShapeError, lambda f, v: f(v.x, (0, 0)))
wrong("max min argmax argmin logsumexp", ShapeError, lambda f, v: f(v.x[:, :0], 1))
wrong(f"{REDUCTIONS} argmax argmin", DTypeError, lambda f, v: f(np.ones(3)))

wrong("reshape", ShapeError, lambda f, v: f(v.x, (4, 2)), lambda f, v: f(v.x, (-1, -1)))
wrong("reshape", ArgumentError, lambda f, v: f(v.x, (2.0, 3.0)))
wrong("transpose permute", ShapeError, lambda f, v: f(v.x, (0,)), lambda f, v: f(v.x, (0, 0)))
wrong("swapaxes", ShapeError, lambda f, v: f(v.x, 0, 2))
wrong("flatten unsqueeze", ShapeError, lambda f, v: f(v.x, 5))
wrong("squeeze", ShapeError, lambda f, v: f(v.x, 0))
wrong("broadcast_to expand", ShapeError, lambda f, v: f(v.x, (3, 3)), lambda f, v: f(v.x, (3,)))
wrong("concatenate stack", ShapeError, lambda f, v: f([]), lambda f, v: f([v.x, v.two]))
wrong("concatenate stack", DTypeError, lambda f, v: f([v.x, [1.0]]))
wrong("concatenate stack", BackendMismatch, lambda f, v: f([v.x, v.other]))
wrong("split", ShapeError, lambda f, v: f(v.x, [1, 2], 0), lambda f, v: f(v.x, 1, 2))
wrong("split", ArgumentError, lambda f, v: f(v.x, 0), lambda f, v: f(v.x, 0.5))
wrong("pad", ShapeError, lambda f, v: f(v.x, [(1, 1)]))
wrong("pad", ArgumentError, lambda f, v: f(v.x, -1), lambda f, v: f(v.x, 1, "a"))
wrong("getitem", IndexRangeError, lambda f, v: f(v.x, 2), lambda f, v: f(v.x, v.beyond))
wrong("getitem", DTypeError, lambda f, v: f(v.x, v.x), lambda f, v: f(v.x, "a"))
wrong("getitem", ShapeError, lambda f, v: f(v.x, (0, 0, 0)), lambda f, v: f(v.x, v.mask[:, :2]))
wrong("gather", IndexRangeError, lambda f, v: f(v.x, 1, v.whole * 3))
wrong("gather", DTypeError, lambda f, v: f(v.x, 1, v.x))
wrong("gather", ShapeError, lambda f, v: f(v.x, 1, v.labels), lambda f, v: f(v.x, 2, v.whole))
wrong("index_add", IndexRangeError, lambda f, v: f(v.x, 0, v.beyond, v.x))
wrong("index_add", ShapeError, lambda f, v: f(v.x, 0, v.labels[:1], v.long))
wrong("index_add", DTypeError, lambda f, v: f(v.x, 0, v.two, v.x))
wrong("embedding", IndexRangeError, lambda f, v: f(v.x, v.beyond), lambda f, v: f(v.x, -v.whole))
wrong("embedding", DTypeError, lambda f, v: f(v.x, v.two))

wrong("matmul", ShapeError, lambda f, v: f(v.x, v.x), lambda f, v: f(v.x, v.x.sum()))
wrong("matmul linear", DTypeError, lambda f, v: f(v.x, [1.0]))
wrong("linear linear_relu", ShapeError,
      lambda f, v: f(v.x, v.long), lambda f, v: f(v.x, v.x, v.three))  # fmt: skip
wrong("linear linear_relu", DTypeError, lambda f, v: f(v.x, v.wide))
wrong("linear linear_relu", BackendMismatch, lambda f, v: f(v.x, v.other))
wrong("matmul", BackendMismatch, lambda f, v: f(v.x, ops.swapaxes(v.other, 0, 1)))
wrong("einsum", ShapeError, lambda f, v: f("ij,jk->ik", v.x, v.x))
wrong("einsum", ArgumentError, lambda f, v: f("i1->i", v.x), lambda f, v: f("ij->k", v.x))

wrong("conv2d conv_transpose2d", ShapeError, lambda f, v: f(v.images[0], v.kernel),
      lambda f, v: f(v.images, v.kernel[:, :, 0]),
      lambda f, v: f(v.images, v.kernel, v.three))  # fmt: skip
wrong("conv2d conv_transpose2d", ArgumentError, lambda f, v: f(v.images, v.kernel, stride=0),
      lambda f, v: f(v.images, v.kernel, padding=-1), lambda f, v: f(v.images, v.kernel, groups=0),
      lambda f, v: f(v.images, v.kernel, dilation=1.5))  # fmt: skip
wrong("conv2d conv_transpose2d", DTypeError, lambda f, v: f(v.images, v.kernel.astype("float64")))
wrong("conv2d conv_transpose2d", BackendMismatch,
      lambda f, v: f(v.images, ones((2, 2, 3, 3), backend=v.other.backend)))  # fmt: skip
wrong(POOLS, ShapeError, lambda f, v: f(v.x, 2), lambda f, v: f(v.images, 9))
wrong(POOLS, ArgumentError, lambda f, v: f(v.images, 0), lambda f, v: f(v.images, 2, 0),
      lambda f, v: f(v.images, 2, padding=2))  # fmt: skip
wrong(f"{POOLS} adaptive_avg_pool2d", DTypeError, lambda f, v: f(v.images.astype("int64"), 2))
wrong("adaptive_avg_pool2d adaptive_max_pool2d", ArgumentError, lambda f, v: f(v.images, 0))
wrong("adaptive_avg_pool2d adaptive_max_pool2d", ShapeError, lambda f, v: f(v.x, 1))

for name in ("rnn", "lstm", "gru"):
    wrong(name, ShapeError, *(
        lambda f, v, n=name, k=key, x=bad: f(**v.cell(n, **{k: getattr(v, x)}))
        for key, bad in (("x", "x"), ("h", "x"), ("weight_ih", "long"), ("weight_hh", "steps"),
                         ("bias_ih", "three"), ("bias_hh", "x"))
    ))  # fmt: skip
    wrong(name, ShapeError, lambda f, v, n=name: f(**v.cell(n, x=v.steps[:0])),
          lambda f, v, n=name: f(**v.cell(n, lengths=v.labels[:1])))  # fmt: skip
    wrong(name, DTypeError, lambda f, v, n=name: f(**v.cell(n, x=None)),
          lambda f, v, n=name: f(**v.cell(n, x=v.steps.astype("float64"))),
          lambda f, v, n=name: f(**v.cell(n, lengths=v.two)))  # fmt: skip
    wrong(name, IndexRangeError, lambda f, v, n=name: f(**v.cell(n, lengths=v.labels)),
          lambda f, v, n=name: f(**v.cell(n, lengths=v.beyond + 3)))  # fmt: skip
    wrong(name, BackendMismatch, lambda f, v, n=name: f(
        **v.cell(n, h=ones((2, 2), backend=v.other.backend))))  # fmt: skip
wrong("rnn", ArgumentError, lambda f, v: f(**v.cell("rnn", nonlinearity="gelu")))
wrong("layer_norm", ShapeError, lambda f, v: f(v.x, 2), lambda f, v: f(v.x, 3, v.two))
wrong("batch_norm", ShapeError, lambda f, v: f(v.two, None, None, training=True),
      lambda f, v: f(v.x, v.two, v.two),
      lambda f, v: f(v.x[:1], None, None, training=True))  # fmt: skip
wrong("batch_norm", ArgumentError, lambda f, v: f(v.x, None, None))
wrong("group_norm", ShapeError, lambda f, v: f(v.x, 2), lambda f, v: f(v.two, 1))
wrong("group_norm", ArgumentError, lambda f, v: f(v.x, 0))
wrong("layer_norm", ArgumentError, lambda f, v: f(v.x, 3, eps=-1))
wrong("group_norm layer_norm", DTypeError, lambda f, v: f(v.whole, 3))
wrong("dropout", ArgumentError, lambda f, v: f(v.x, 1.5), lambda f, v: f(v.x, "a"))

ATTENTION = "scaled_dot_product_attention"
wrong(ATTENTION, ShapeError, lambda f, v: f(v.x, v.long, v.x), lambda f, v: f(v.two, v.two, v.two),
      lambda f, v: f(v.x, v.x, v.x[:1]), lambda f, v: f(v.x, v.x, v.x, v.mask),
      lambda f, v: f(v.images, v.images, v.images, v.mask))  # fmt: skip
wrong(ATTENTION, DTypeError, lambda f, v: f(v.x, v.wide, v.x), lambda f, v: f(v.x, v.x, [1.0]),
      lambda f, v: f(v.x, v.x, v.x, v.whole[:, :2]))  # fmt: skip
wrong(ATTENTION, ArgumentError, lambda f, v: f(v.x, v.x, v.x, None, 2),
      lambda f, v: f(v.x, v.x, v.x, scale="a"))  # fmt: skip
wrong(ATTENTION, BackendMismatch, lambda f, v: f(v.x, v.other, v.x))
wrong("self_attention", ShapeError, lambda f, v: f(v.x),
      lambda f, v: f(ones((1, 2, 3, 1, 2), backend=v.x.backend), v.mask))  # fmt: skip
wrong("self_attention", DTypeError, lambda f, v: f(v.whole))
wrong("attention_weights", ShapeError, lambda f, v: f(v.x, v.long), lambda f, v: f(v.two, v.two))
wrong("attention_weights", DTypeError, lambda f, v: f(v.x, v.wide))

wrong(LOSSES, ShapeError, lambda f, v: f(v.x, v.long))
wrong(LOSSES, DTypeError, lambda f, v: f(v.x, v.whole))
wrong(LOSSES, ArgumentError, lambda f, v: f(v.x, v.x, reduction="average"))
wrong(LOSSES, BackendMismatch, lambda f, v: f(v.x, v.other))
wrong("huber_loss", ArgumentError, lambda f, v: f(v.x, v.x, delta=0))
wrong("cross_entropy nll_loss", IndexRangeError, lambda f, v: f(v.x, v.beyond))
wrong("cross_entropy nll_loss", ShapeError, lambda f, v: f(v.x, v.labels[:1]),
      lambda f, v: f(v.x, v.labels, v.two))  # fmt: skip
wrong("cross_entropy nll_loss", DTypeError, lambda f, v: f(v.x, v.two))
wrong("cross_entropy nll_loss", ArgumentError, lambda f, v: f(v.x, v.labels, reduction="average"))
wrong("cross_entropy", ArgumentError, lambda f, v: f(v.x, v.labels, label_smoothing=2))

# Called by the gradients of other operations, not by users: they trust their arguments.
TRUSTED = frozenset(name for name in ops.__all__ if name.endswith("_grad")) | {"native_index"}
