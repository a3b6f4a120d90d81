"""One operation: its forward, its backward, and its place in the recorded graph."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from backends import Array

from ..errors import GraphError
from .operations import operations

if TYPE_CHECKING:
    from .tensor import Tensor

_orders = itertools.count()


class Version:
    """Counts the in-place changes of one piece of memory; views share their base's counter."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Function:
    """Base of all operations; an instance is one call of the operation and a node of the graph.

    A subclass keeps its settings in `__init__`, computes on arrays in `forward` and stores there,
    as attributes, what `backward` needs. `backward(grad)` returns one gradient per input (a single
    one need not be a tuple; None where `needs` is False) in the shape of the result: the graph
    undoes broadcasting.

    `backward` is written once for two worlds. In ordinary training it runs on arrays, and
    `self.backend` is the backend. Under `create_graph=True` it runs on Tensors, `self.backend` is
    `minidl.ops`, and saved inputs and results are Tensors too: so it may use operators and
    the names that both have. An operation whose backward is a fused kernel instead gives a
    `definition` in elementary operations, which serves for gradients of gradients, for reading and
    for tests.

    >>> import minidl
    >>> class Square(Function):
    ...     def forward(self, x):
    ...         self.x = x
    ...         return x * x
    ...
    ...     def backward(self, grad):
    ...         return 2 * self.x * grad
    >>> x = minidl.tensor([3.0], requires_grad=True)
    >>> minidl.apply(Square(), x).backward()
    >>> x.grad.tolist()
    [6.0]
    """

    backend: Any
    needs: tuple[bool, ...]  # which inputs want a gradient
    definition: ClassVar[Callable[..., Tensor] | None] = None

    # Filled in by `record`; names with an underscore cannot collide with saved values.
    _edges: tuple[Edge, ...] | None = None
    _inputs: tuple[Array, ...] = ()
    _hooks: dict[int, Callable[[Tensor], Tensor | None]] | None = None

    def forward(self, *inputs: Array) -> Array:
        """Compute the result on arrays of `self.backend`."""
        raise NotImplementedError(f"{self.name}.forward is missing")

    def backward(self, grad: Array) -> Any:
        """Gradients for the inputs, given the gradient for the result."""
        raise NotImplementedError(f"{self.name}.backward is missing")

    @property
    def name(self) -> str:
        """What the operation is called in a message."""
        return type(self).__name__

    def record(self, inputs: tuple[Any, ...], arrays: list[Array], result: Tensor) -> None:
        """Enter the graph: remember where each input came from and what it looked like."""
        self._order = next(_orders)
        self._edges = tuple(
            (x.node or x) if need else None for x, need in zip(inputs, self.needs, strict=True)
        )
        self._like = tuple(
            (a.shape, a.dtype) if need else None for a, need in zip(arrays, self.needs, strict=True)
        )
        self._versions = tuple(
            (i, x.version, x.version.count)
            for i, x in enumerate((*inputs, result))
            if hasattr(x, "version")
        )
        self._ids = [*map(id, arrays), id(result.data)]
        if self.definition is not None:
            self._inputs = tuple(arrays)
        result.node, result.requires_grad = self, True

    def saved(self) -> dict[str, Any]:
        """What forward stored for backward."""
        return {
            k: v for k, v in vars(self).items() if k[0] != "_" and k not in ("backend", "needs")
        }

    def release(self) -> None:
        """Drop saved values and edges: the graph behind this node can be collected."""
        for name in self.saved():
            delattr(self, name)
        self._edges, self._inputs = None, ()

    def check_unchanged(self) -> None:
        """Raise GraphError if a saved value was modified in place since it was saved."""
        for i, version, count in self._versions:
            if version.count != count and self._holds(self._ids[i]):
                raise GraphError(
                    f"{self.name}: a value needed for its gradient was modified in place after use "
                    f"(version {count}, now {version.count}). Modify a copy (x.clone()), or call "
                    "backward() before the modification."
                )

    def _holds(self, identity: int) -> bool:
        return any(id(v) == identity for v in (*self.saved().values(), *self._inputs))

    def linked(self, like: Tensor) -> Function:
        """A twin of this node whose saved arrays are Tensors joined to the graph again."""
        twin = copy.copy(self)
        for name, value in self.saved().items():
            if self.backend.is_array(value):
                setattr(twin, name, self._as_tensor(name, value, like))
        twin.backend = operations
        return twin

    def linked_inputs(self, like: Tensor) -> list[Any]:
        """The saved inputs of a fused operation as Tensors joined to the graph."""
        assert self._edges is not None
        pairs = zip(self._inputs, self._edges, strict=True)
        return [like.linked(a, e) if self.backend.is_array(a) else a for a, e in pairs]

    def _as_tensor(self, name: str, value: Array, like: Tensor) -> Tensor:
        assert self._edges is not None
        sources: tuple[Edge, ...] = (*self._edges, self)
        for identity, edge in zip(self._ids, sources, strict=True):
            if id(value) == identity:
                return like.linked(value, edge)
        if value.dtype.kind == "f":
            raise GraphError(
                f"{self.name} saved {name!r}, neither an input nor the result, so its gradient "
                "cannot be differentiated again. Save inputs, or give the operation a `definition`."
            )
        return like.linked(value, None)


# Where a gradient flows next: the operation that made the input, or the input if it is a leaf.
Edge: TypeAlias = "Function | Tensor | None"
