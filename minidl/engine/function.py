"""One operation: its forward, its backward, and its place in the recorded graph."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from backends import Array

from ..errors import GraphError
from .operations import operations

if TYPE_CHECKING:
    from .tensor import Tensor

_changing = threading.Lock()
_clock = itertools.count(1)  # ticks with every recorded operation and every change in place


class Version:
    """When one piece of memory was last changed in place; views share their base's."""

    last: ClassVar[int] = 0  # the latest change of any memory: nothing newer needs to be looked at
    changed = 0  # of the class, so that the entry that most tensors never use costs nothing

    def change(self, *others: Version) -> None:
        """Note that the memory is being changed now, and so are others."""
        with _changing:
            Version.last = now = next(_clock)
            self.changed = now
            for other in others:
                other.changed = now


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
    needs: Sequence[bool]  # which inputs want a gradient; known in backward
    definition: ClassVar[Callable[..., Tensor] | None] = None
    view: bool = False  # may the result share memory with the first input?
    fresh: bool = False  # are the gradients new arrays of which nobody else knows?
    rests_on: Sequence[Any] = ()  # tensors from which arrays of its own follow; see `modes.aside`

    # Filled in by `record`; names with an underscore cannot collide with saved values.
    _order: int
    _links: Sequence[Link] | None = None  # one per input; None before recording and after release
    _result: tuple[int, Version]  # identity and version of the result
    _inputs: Sequence[Array] = ()
    _hooks: dict[object, Callable[[Edge, Any], Any]] | None = None
    _claim: Callable[..., Array | None] | None = None  # of the walk that is under way

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

    def record(self, inputs: Sequence[Any], arrays: Sequence[Any], result: Tensor) -> None:
        """Enter the graph: remember where each input came from and what it looked like."""
        if self._links is not None:
            raise GraphError(f"{self.name}: one instance is one call; apply a new one each time")
        links: list[Link] = []
        needs = []
        for x, array in zip(inputs, arrays):  # noqa: B905  (apply made one for each)
            if x is array:  # a Python number stands for itself
                links.append(_NUMBER)
                needs.append(False)
                continue
            if x.requires_grad:
                links.append((x.node or x, array.shape, array.dtype, id(array), x.version))
                needs.append(True)
            else:
                links.append((None, (), None, id(array), x.version))
                needs.append(False)
        self._links, self.needs, self._order = links, needs, next(_clock)
        self._result = id(result.data), result.version
        if self.definition is not None:
            self._inputs = arrays
        result.node, result.requires_grad = self, True

    def into(self, *inputs: int) -> tuple[Array | None, ...]:
        """`out` for a kernel that computes the gradients of some inputs: the memory where an
        optimizer wants each, so that it need not be copied there; or None.
        """
        claim, links = self._claim, self._links
        if claim is None or links is None:
            return (None,) * len(inputs)
        return tuple([claim(*links[i][:3]) for i in inputs])

    def saved(self) -> dict[str, Any]:
        """What forward stored for backward."""
        return {
            k: v for k, v in vars(self).items() if k[0] != "_" and k not in ("backend", "needs")
        }

    def release(self) -> None:
        """Drop saved values and edges: the graph behind this node can be collected."""
        order = self._order
        vars(self).clear()
        self._order = order

    def check_unchanged(self) -> None:
        """Raise GraphError if a saved value was modified in place since it was saved."""
        for identity, version in self._marks():
            if version.changed > self._order and self._holds(identity):
                raise GraphError(
                    f"{self.name}: a value needed for its gradient was modified in place after "
                    "use. Modify a copy (x.clone()), or call backward() before the modification."
                )

    def _marks(self) -> Iterator[tuple[int, Version]]:
        """Identity and version of each input and of the result."""
        assert self._links is not None
        yield from ((identity, version) for *_, identity, version in self._links)
        yield self._result

    def _holds(self, identity: int) -> bool:
        return any(id(v) == identity for v in (*self.saved().values(), *self._inputs))

    def linked(self, like: Tensor) -> Function:
        """A twin of this node whose saved arrays are Tensors joined to the graph again."""
        twin = copy.copy(self)
        for name, value in self.saved().items():
            if isinstance(value, np.generic) or self.backend.is_array(value):
                setattr(twin, name, self._as_tensor(name, value, like))
        twin.backend = operations
        return twin

    def linked_inputs(self, like: Tensor) -> list[Any]:
        """The saved inputs of a fused operation as Tensors joined to the graph."""
        assert self._links is not None
        return [
            _joined(like, a, edge, version) if self.backend.is_array(a) else a
            for a, (edge, *_, version) in zip(self._inputs, self._links, strict=True)
        ]

    def _as_tensor(self, name: str, value: Array, like: Tensor) -> Tensor:
        assert self._links is not None
        sources: tuple[Edge, ...] = (*(edge for edge, *_ in self._links), self)
        for (identity, version), edge in zip(self._marks(), sources, strict=True):
            if id(value) == identity:
                return _joined(like, value, edge, version)
        if value.dtype.kind == "f":
            raise GraphError(
                f"{self.name} saved {name!r}, neither an input nor the result, so its gradient "
                "cannot be differentiated again. Save inputs, or give the operation a `definition`."
            )
        return like.linked(value, None)


def _joined(like: Tensor, value: Array, edge: Edge, version: Version) -> Tensor:
    """A saved array in the graph again, still counting the changes of the memory it came from."""
    tensor = like.linked(value, edge)
    tensor.version = version
    return tensor


# Where a gradient flows next: the operation that made the input, or the input if it is a leaf.
Edge: TypeAlias = "Function | Tensor | None"

# What a node knows of an input: where its gradient goes (None: it needs none) and what shape and
# dtype that must have, and the identity and version of its array.
Link: TypeAlias = tuple[Edge, tuple[int, ...], Any, int, Version]
_NUMBER: Link = (None, (), None, 0, Version())  # a Python number, which nobody changes
