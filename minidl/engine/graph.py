"""From a result back to what it was computed from: reverse-mode differentiation.

The graph is walked newest operation first, in a loop and not by recursion, so depth has no limit.
Source: Griewank & Walther (2008), "Evaluating Derivatives", chapter 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import numpy as np

from backends.quiet import IGNORE, STATE

from ..errors import BackendMismatch, DTypeError, GraphError, ShapeError
from . import modes
from .function import Edge, Function, Version
from .modes import recording
from .operations import operations

if TYPE_CHECKING:
    from .tensor import Tensor

Gradients = dict[Any, Any]  # Edge -> gradient: an array, or a Tensor under create_graph


def backward(
    output: Tensor, grad: Tensor | None, retain_graph: bool | None, create_graph: bool
) -> None:
    """Add d output / d leaf to `.grad` of every leaf; see `Tensor.backward`."""
    walk = _propagate([output], [grad], None, retain_graph, create_graph)
    for leaf, value in walk.found.items():
        leaf.accumulate(value, leaf in walk.fresh)


def grad(
    outputs: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None, create_graph: bool = False, allow_unused: bool = False,
) -> tuple[Any, ...]:  # fmt: skip
    """Gradients of outputs with respect to inputs, as a tuple; no `.grad` of a leaf is touched.

    Shapes: each gradient has the shape of its input. With `create_graph` the gradients can be
    differentiated again, to any order.
    Raises: GraphError if an input plays no part in the outputs (with `allow_unused` its gradient
    is None) or if the graph was freed; ShapeError for an output that is not a scalar and has no
    grad_output.

    >>> import minidl
    >>> x = minidl.tensor(2.0, requires_grad=True)
    >>> (slope,) = grad(x**3, x, create_graph=True)
    >>> slope.item(), grad(slope, x)[0].item()
    (12.0, 12.0)
    """
    outs, ins = _listed(outputs), _listed(inputs)
    seeds = [None] * len(outs) if grad_outputs is None else _listed(grad_outputs)
    if len(seeds) != len(outs):
        raise ShapeError(
            f"grad: {len(outs)} outputs but {len(seeds)} grad_outputs; give one for each"
        )
    targets = [_edge(x, "grad") for x in ins]
    found = _propagate(outs, seeds, targets, retain_graph, create_graph).found
    results: list[Any] = []
    given = [_memory(x.data) for x in (*seeds, *ins) if x is not None]
    taken = {id(memory): memory for memory in given}
    for i, (x, target) in enumerate(zip(ins, targets, strict=True)):
        value = found.get(target)
        if value is None and not allow_unused:
            raise GraphError(
                f"grad: input {i} (shape {x.shape}) plays no part in the outputs. "
                "Pass allow_unused=True to get None for it."
            )
        results.append(None if value is None else _owned(x, value, taken))
    return tuple(results)


def _owned(x: Tensor, value: Any, taken: dict[int, Any]) -> Tensor:
    """A gradient as a Tensor whose memory is the caller's alone: a copy if its elements are one
    repeated (strides of 0), or if its memory was given to us or returned already.
    """
    raw = x.backend.is_array(value)
    array = value if raw else value.data
    memory = _memory(array)
    shared = id(memory) in taken or 0 in getattr(array, "strides", ())
    taken[id(memory)] = memory
    if raw:
        return x.linked(x.backend.copy(array) if shared else array, None)
    with modes.enable_grad():
        return operations.clone(value) if shared else value


def _memory(array: Any) -> Any:
    """The array that a view is a view of, or the array itself."""
    while isinstance(getattr(array, "base", None), type(array)):
        array = array.base
    return array


def _listed(xs: Any) -> list[Any]:
    return list(xs) if isinstance(xs, Iterable) and not hasattr(xs, "backend") else [xs]


def _edge(x: Tensor, operation: str) -> Edge:
    if not hasattr(x, "requires_grad"):
        raise DTypeError(f"{operation}: needs Tensors, got {type(x).__name__}")
    if not x.requires_grad:
        raise GraphError(
            f"{operation}: nothing was recorded for the tensor of shape {x.shape}: it does not "
            "require grad. "
            "Create the inputs with requires_grad=True, outside no_grad()."
        )
    return x.node or x


def _propagate(
    outputs: Sequence[Tensor], seeds: Sequence[Tensor | None], targets: list[Edge] | None,
    retain_graph: bool | None, create_graph: bool,
) -> _Walk:  # fmt: skip
    """A walk that found the gradients for the targets, or for all leaves if targets is None."""
    walk = _Walk(_floor(targets), targets is None)
    for output, seed in zip(outputs, seeds):  # noqa: B905  (grad compared their numbers)
        lib = operations if create_graph else output.backend
        walk.add(_edge(output, "backward"), _seed(output, seed, create_graph), lib)
    before, recording.enabled = recording.enabled, create_graph
    warnings = STATE.set(IGNORE)  # infinities are values here, not accidents
    try:
        walk.run(None if targets is None else set(targets), create_graph)
    finally:
        STATE.reset(warnings)
        recording.enabled = before
    if not (create_graph if retain_graph is None else retain_graph):
        for node in walk.used:
            node.release()
    return walk


class _Walk:
    """One way through the graph: gradients that have arrived, and where to go on."""

    def __init__(self, floor: int, accumulating: bool) -> None:
        self.floor = floor  # operations older than this one are not visited
        self.accumulating = accumulating  # whether leaves will add what arrives to their `.grad`
        self.claimed: set[Any] = set()
        self.pending: Gradients = {}
        self.queue: list[tuple[int, Function]] = []  # a heap: the newest operation comes first
        self.used: list[Function] = []
        self.found: Gradients = {}
        self.fresh: set[Any] = set()  # leaves whose gradient nobody else holds

    def add(self, edge: Any, value: Any, lib: Any) -> None:
        """A gradient arrives; operations that get one are queued."""
        pending = self.pending
        if edge in pending:
            pending[edge] = lib.add(pending[edge], value)
            return
        pending[edge] = value
        if isinstance(edge, Function) and edge._order >= self.floor:
            heappush(self.queue, (-edge._order, edge))

    def claim(self, edge: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        """Where the first gradient for a leaf may be computed: in its `grad_buffer`, or None."""
        if edge is None or isinstance(edge, Function) or edge.grad_buffer is None:
            return None
        if not self.accumulating or edge in self.claimed or edge in self.pending:
            return None
        self.claimed.add(edge)
        memory = edge.grad_buffer
        fits = edge.grad is None and memory.shape == shape and memory.dtype == dtype
        return memory if fits else None

    def run(self, targets: set[Edge] | None, create_graph: bool) -> None:
        """Hand gradients on to older operations until only leaves are left; keep those wanted."""
        found = self.found
        while self.queue:
            node = heappop(self.queue)[1]  # whatever used its result is newer and was here before
            value = self.pending.pop(node)
            if node._hooks:
                value = _hooked(node, node._hooks, value)
            if targets is not None and node in targets:
                found[node] = value
            if node._order > self.floor:
                self._through(node, value, create_graph)
        for leaf, value in self.pending.items():
            if not isinstance(leaf, Function) and (targets is None or leaf in targets):
                if leaf.hooks:
                    value = _hooked(leaf, leaf.hooks, value)
                    self.fresh.discard(leaf)
                found[leaf] = value

    def _through(self, node: Function, value: Any, create_graph: bool) -> None:
        if node._links is None:
            raise GraphError(
                f"backward: the graph behind {node.name} was already used and freed. "
                "Pass retain_graph=True to the first backward() to go through it twice."
            )
        self.used.append(node)
        lib = operations if create_graph else node.backend
        node._claim = None if create_graph else self.claim
        pieces = _local(node, value, create_graph)
        node._claim = None
        fitted: list[Any] = []
        for (edge, shape, dtype, _, _), piece in zip(node._links, pieces):  # noqa: B905  (checked)
            if edge is None or piece is None:
                fitted.append(None)
                continue
            if getattr(piece, "shape", ()) != shape or not shape or piece.dtype is not dtype:
                piece = _fit(node, piece, shape, dtype, lib)
            fitted.append(piece)
            self.add(edge, piece, lib)
            if node.fresh and not modes.observers:  # who may keep what they see, as hooks do
                self.fresh.add(edge)
        for observer in modes.observers:
            observer("backward", node, (value,), tuple(fitted))


def _seed(output: Tensor, grad: Tensor | None, create_graph: bool) -> Any:
    """The gradient to start from: an array, or a Tensor under create_graph."""
    if grad is None:
        if output.data.size != 1:
            raise ShapeError(
                f"backward: the output has shape {output.shape}; only a scalar has one gradient. "
                "Reduce it first (.sum(), .mean()), or pass the gradient to start from."
            )
        one = output.backend.full(output.data.shape, 1, output.data.dtype)
        return output.linked(one, None) if create_graph else one
    if not hasattr(grad, "backend"):
        raise DTypeError(
            f"backward: the gradient to start from must be a Tensor, got {type(grad).__name__}"
        )
    if grad.backend is not output.backend:
        raise mismatch("backward", output.backend.name, grad.backend.name)
    if grad.shape != output.shape:
        raise ShapeError(
            f"backward: the output has shape {output.shape}, its gradient {grad.shape}"
        )
    grad = grad if grad.dtype == output.dtype else operations.astype(grad, output.dtype)
    return grad if create_graph else grad.data


def _floor(targets: list[Edge] | None) -> int:
    """Operations older than every target cannot depend on one and need no visit."""
    if targets is None:
        return -1
    return min((t._order if isinstance(t, Function) else -1 for t in targets), default=-1)


def _local(node: Function, grad: Any, create_graph: bool) -> Sequence[Any]:
    """One node's step: a gradient for each of its inputs, as its backward gives them."""
    if Version.last >= node._order:  # else nothing was changed since it was recorded
        node.check_unchanged()
    pieces: Sequence[Any]
    if not create_graph:
        pieces = node.backward(grad)
    elif node.definition is not None:
        pieces = _through_definition(node, grad)
    else:
        pieces = node.linked(grad).backward(grad)
    if not isinstance(pieces, (tuple, list)):
        pieces = (pieces,)
    assert node._links is not None
    if len(pieces) != len(node._links):
        raise GraphError(
            f"{node.name}.backward: {len(pieces)} gradients for {len(node._links)} inputs; "
            "return one for each, None for an input that has none"
        )
    return pieces


def _through_definition(node: Function, grad_output: Any) -> tuple[Any, ...]:
    """Differentiate a fused operation through the elementary operations that define it."""
    inputs = node.linked_inputs(grad_output)
    targets: list[Edge] = [None] * len(inputs)
    for i, need in enumerate(node.needs):
        if need:  # a fresh node in front of each input marks where to stop
            inputs[i] = operations.alias(inputs[i])
            targets[i] = inputs[i].node
    assert node.definition is not None
    wanted: list[Edge] = [target for target in targets if target is not None]
    walk = _propagate([node.definition(*inputs)], [grad_output], wanted, None, True)
    return tuple(map(walk.found.get, targets))


def _fit(node: Function, grad: Any, shape: tuple[int, ...], dtype: Any, lib: Any) -> Any:
    """Undo broadcasting and promotion: sum what was repeated, narrow what was widened."""
    if isinstance(grad, np.generic):  # NumPy turns 0-d results of operators into scalars
        grad = np.asarray(grad)
    elif not hasattr(grad, "shape"):
        raise GraphError(f"{node.name}.backward: {grad!r:.40} is no array; multiply grad by it")
    if grad.shape != shape:
        if not repeats(shape, grad.shape):
            raise GraphError(
                f"{node.name}.backward: a gradient of shape {grad.shape} for an input of {shape}"
            )
        extra = len(grad.shape) - len(shape)
        repeated = [i + extra for i, n in enumerate(shape) if n == 1 and grad.shape[i + extra] != 1]
        grad = lib.reshape(lib.sum(grad, (*range(extra), *repeated)), shape)
    return grad if grad.dtype == dtype else lib.astype(grad, dtype)


def repeats(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether an array of that shape broadcasts to the target shape."""
    extra = len(target) - len(shape)
    return extra >= 0 and all(n in (1, m) for n, m in zip(shape, target[extra:], strict=True))


def _hooked(edge: Edge, hooks: dict[object, Callable[[Edge, Any], Any]], value: Any) -> Any:
    """Show a gradient to the hooks of its tensor; what a hook returns replaces it."""
    for hook in list(hooks.values()):
        value = hook(edge, value)
    return value


def mismatch(operation: str, first: str, second: str) -> BackendMismatch:
    """The error for two backends in one operation."""
    return BackendMismatch(
        f"{operation}: got tensors of two backends, {first!r} and {second!r}; "
        f"bring them together with .to({first!r})"
    )
