"""The Tensor: an array, its backend, and where it came from."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from backends import Array, Backend

from ..errors import ArgumentError, DTypeError, GraphError, ShapeError
from . import graph
from .arguments import holds, number
from .dtypes import as_dtype
from .function import Edge, Function, Version
from .modes import get_backend, recording
from .operations import operations as ops

TensorLike: TypeAlias = "Tensor | float"  # what an operation takes: a tensor or a Python number
Axis: TypeAlias = int | tuple[int, ...] | None


class Tensor:
    """An n-dimensional array that remembers how it was computed, so that it can be differentiated.

    Make one with `minidl.tensor` or a factory such as `minidl.zeros`. `data` is the backend's own
    array; `grad` is None until `backward()` fills it; `node` is the operation that made the tensor
    (None for a leaf).

    >>> import minidl
    >>> x = minidl.tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    Tensor([2., 4.])
    """

    __slots__ = (
        "__weakref__", "backend", "data", "grad", "grad_buffer", "hooks", "node", "requires_grad",
        "version",
    )  # fmt: skip
    __array_priority__ = 100  # NumPy's operators leave `array * tensor` to us

    data: Array
    backend: Backend
    requires_grad: bool
    grad: Tensor | None
    node: Function | None
    version: Version
    hooks: dict[object, Callable[[Edge, Any], Any]] | None
    grad_buffer: Array | None  # where an optimizer wants the gradient written, or None

    def __init__(self, data: Array, backend: Backend, requires_grad: bool = False) -> None:
        self.data = data
        self.backend = backend
        self.requires_grad = requires_grad
        self.grad = self.node = self.hooks = self.grad_buffer = None
        self.version = Version()
        if requires_grad and data.dtype.kind != "f":
            raise DTypeError(
                f"requires_grad: only floating tensors have gradients, got {data.dtype}. "
                "Convert first: x.astype('float32')."
            )

    # -- what it is -----------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return self.data.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.data.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.data.size  # type: ignore[no-any-return]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self.data.dtype  # type: ignore[no-any-return]

    @property
    def nbytes(self) -> int:
        """Size of the elements in bytes."""
        return self.data.nbytes  # type: ignore[no-any-return]

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made it."""
        return self.node is None

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError("len: a 0-d tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), precision=4, separator=", ", prefix="Tensor(")
        notes = [] if self.dtype in (np.float32, np.int64, np.bool_) else [f"dtype={self.dtype}"]
        notes += [] if self.backend.name == "numpy" else [f"backend={self.backend.name}"]
        if self.node is not None:
            notes.append(f"node={self.node.name}")
        elif self.requires_grad:
            notes.append("requires_grad=True")
        return f"Tensor({', '.join([values, *notes])})"

    def __format__(self, spec: str) -> str:
        return format(self.item() if spec else str(self), spec)

    # -- leaving the engine ---------------------------------------------------------------------
    def numpy(self) -> np.ndarray:
        """The values as a NumPy array; shares memory where the tensor lives on the CPU.

        It works on tensors that require grad, too. The graph does not notice what is written to it.
        """
        return self.backend.to_numpy(self.data)

    def item(self) -> Any:
        """The only element as a Python number. Raises: ShapeError if there is not exactly one."""
        if self.size != 1:
            raise ShapeError(f"item: needs exactly one element, got shape {self.shape}")
        return self.numpy().item()

    def tolist(self) -> Any:
        """The values as nested Python lists."""
        return self.numpy().tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.node is not None:
            raise GraphError("copy, pickle: a result would take its graph along; use x.detach()")
        return super().__reduce_ex__(protocol)

    def __dlpack__(self, **options: Any) -> Any:
        return self.data.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.data.__dlpack_device__()  # type: ignore[no-any-return]

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise DTypeError(f"an index must be an integer, got a tensor of {self.dtype}")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(
                f"bool: the truth of {self.size} elements (shape {self.shape}) is ambiguous; "
                "use .all() or .any()"
            )
        return bool(self.item())

    # -- differentiation ------------------------------------------------------------------------
    def backward(
        self, grad: Tensor | None = None, retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:  # fmt: skip
        """Add the gradient of this tensor with respect to every leaf that requires it to the leaf's
        `.grad`.

        Shapes: grad, the gradient to start from, has this tensor's shape; a scalar needs none (1).
        Raises: GraphError if nothing was recorded, if the graph was already freed, or if a saved
        value was modified in place; ShapeError if a gradient to start from is missing or misshapen.

        >>> import minidl
        >>> x = minidl.tensor([1.0, -2.0], requires_grad=True)
        >>> x.abs().sum().backward()
        >>> x.grad.tolist()
        [1.0, -1.0]
        """
        graph.backward(self, grad, retain_graph, create_graph)

    def accumulate(self, value: Any, fresh: bool = False) -> None:
        """Add an array (a Tensor under create_graph) to `.grad`; the leaf owns what it stores: a
        copy, unless the array is fresh, which is to say that nobody else has it.
        """
        if isinstance(value, Tensor):
            self.grad = ops.clone(value) if self.grad is None else self.grad + value
        elif self.grad is None:
            home = self.grad_buffer
            if home is None:
                value = value if fresh else self.backend.copy(value)
            elif value is not home:  # else it was computed there
                self.backend.copyto(home, value)
                value = home
            self.grad = Tensor(value, self.backend)
        elif self.grad.requires_grad:
            self.grad = Tensor(self.backend.add(self.grad.data, value), self.backend)
        else:
            self.backend.copyto(self.grad.data, self.backend.add(self.grad.data, value))
            self.grad.version.change()

    def linked(self, data: Array, edge: Edge) -> Tensor:
        """A Tensor of this backend around data, placed in the graph at edge (None: a constant)."""
        if isinstance(edge, Tensor):
            return edge
        tensor = Tensor(data, self.backend)
        if edge is not None:
            tensor.node, tensor.requires_grad = edge, True
        return tensor

    def detach(self) -> Tensor:
        """The same values (shared memory) without their history.

        >>> import minidl
        >>> minidl.tensor([1.0], requires_grad=True).detach().requires_grad
        False
        """
        tensor = self.linked(self.backend.getitem(self.data, ...), None)
        tensor.version = self.version
        return tensor

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Start or stop recording what happens to this leaf. Raises: GraphError if it is not a
        leaf.
        """
        if self.node is not None:
            raise GraphError("requires_grad_: only a leaf can be switched; use detach() to get one")
        self.requires_grad = Tensor(self.data, self.backend, requires_grad).requires_grad
        return self

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Call `hook(grad)` whenever this tensor's gradient is known; what it returns, if anything,
        replaces it. The hook must not change grad in place: other tensors may share it.

        Returns a function that removes the hook again.
        Raises: GraphError if the tensor does not require grad; ShapeError, during backward, if what
        the hook returned has another shape.

        >>> import minidl
        >>> x = minidl.tensor([1.0], requires_grad=True)
        >>> remove = x.register_hook(lambda grad: grad * 10)
        >>> (x * 2).sum().backward()
        >>> x.grad.tolist()
        [20.0]
        """
        return self._hooked("register_hook", object(), hook)

    def _hooked(
        self, operation: str, key: object, hook: Callable[[Tensor], Tensor | None]
    ) -> Callable[[], None]:
        if not self.requires_grad:
            raise GraphError(f"{operation}: a tensor that does not require grad never gets one")
        backend, owner = self.backend, self.node
        hooks = (owner._hooks if owner is not None else self.hooks) or {}
        if owner is not None:
            owner._hooks = hooks
        else:
            self.hooks = hooks

        def on_either(edge: Edge, value: Any) -> Any:
            """The gradient is an array in ordinary training, a Tensor under create_graph."""
            raw = not isinstance(value, Tensor)
            home = edge.backend if isinstance(edge, Tensor) else backend  # a leaf may have moved
            replaced = hook(Tensor(value, home) if raw else value)
            if replaced is None:
                return value
            if replaced.shape != value.shape:
                raise ShapeError(
                    f"a hook made of a gradient of {value.shape} one of {replaced.shape}"
                )
            own = ops.clone(replaced)  # the hook may keep what it returned
            return own.data if raw else own

        hooks[key] = on_either
        if "retain_grad" in hooks:  # it sees what the others made of the gradient
            hooks["retain_grad"] = hooks.pop("retain_grad")
        return lambda: hooks.pop(key, None) and None

    def retain_grad(self) -> Tensor:
        """Also fill `.grad` of this non-leaf tensor on `backward()`, and on `grad()`.

        Raises: GraphError if the tensor does not require grad.
        """
        reference = weakref.ref(self)  # the node keeps its hooks: they must not keep the tensor

        def keep(grad: Tensor) -> None:
            tensor = reference()
            if tensor is not None:
                tensor.grad = ops.clone(grad) if tensor.grad is None else tensor.grad + grad

        if self.node is not None or not self.requires_grad:
            self._hooked("retain_grad", "retain_grad", keep)  # one key: a second call adds nothing
        return self

    # -- changing in place: allowed where nothing is recorded -----------------------------------
    def check_mutable(self, operation: str) -> None:
        """Raise GraphError or ArgumentError where the values must not be changed in place."""
        if recording.enabled and self.requires_grad:
            raise GraphError(
                f"{operation}: in-place changes are not recorded, and this tensor requires grad. "
                "Do it inside `with minidl.no_grad():`, or make a new tensor (ops.where, ...)."
            )
        flags = getattr(self.data, "flags", None)
        moves = zip(getattr(self.data, "strides", ()), self.shape, strict=False)
        if not getattr(flags, "writeable", True) or any(s == 0 and n > 1 for s, n in moves):
            raise ArgumentError(
                f"{operation}: the elements share memory or are read-only; copy them: x.clone()"
            )

    def copy_(self, other: TensorLike) -> Tensor:
        """Overwrite the values with those of other, broadcast and converted to this dtype."""
        return self._overwrite("copy_", other)

    def _overwrite(self, operation: str, other: TensorLike) -> Tensor:
        self.check_mutable(operation)
        value = self._value_of(other, operation)
        shape = getattr(value, "shape", ())
        if shape != self.shape:
            if shape and not graph.repeats(shape, self.shape):
                raise ShapeError(f"{operation}: shape {shape} cannot be repeated to {self.shape}")
            value = self.backend.broadcast_to(self.backend.asarray(value), self.shape)
        self.backend.copyto(self.data, value)
        self.version.change()
        return self

    def _update(self, operation: str, value: Tensor) -> Tensor:
        if not np.can_cast(value.dtype, self.dtype, "same_kind"):  # NumPy's rule for += and so on
            raise DTypeError(
                f"{operation}: the result is {value.dtype} and does not fit {self.dtype}; "
                f"make a new tensor, or convert this one first: x.astype('{value.dtype}')"
            )
        return self._overwrite(operation, value)

    def fill_(self, value: float) -> Tensor:
        """Set every element to value."""
        return self._overwrite("fill_", value)

    def zero_(self) -> Tensor:
        """Set every element to 0."""
        return self._overwrite("zero_", 0)

    def add_(self, other: TensorLike, alpha: float = 1) -> Tensor:
        """Add alpha * other in place.

        Raises, as do the next four: DTypeError if the result is of another kind, such as a float.
        """
        return self._update("add_", self.detach() + (other if alpha == 1 else other * alpha))

    def sub_(self, other: TensorLike, alpha: float = 1) -> Tensor:
        """Subtract alpha * other in place."""
        return self._update("sub_", self.detach() - (other if alpha == 1 else other * alpha))

    def mul_(self, other: TensorLike) -> Tensor:
        """Multiply by other in place."""
        return self._update("mul_", self.detach() * other)

    def div_(self, other: TensorLike) -> Tensor:
        """Divide by other in place."""
        return self._update("div_", self.detach() / other)

    def clamp_(self, min: float | None = None, max: float | None = None) -> Tensor:
        """Limit to [min, max] in place."""
        return self._update("clamp_", ops.clip(self.detach(), min, max))

    def __setitem__(self, index: Any, value: TensorLike) -> None:
        self.check_mutable("setitem")
        source, where = self._value_of(value, "setitem"), ops.native_index(self, index)
        try:
            self.backend.setitem(self.data, where, source)
        except ValueError as error:
            target = self.backend.getitem(self.data, where).shape
            raise ShapeError(
                f"setitem: a value of shape {np.shape(source)} cannot be repeated to {target}, "
                f"the shape of x[index] (x has shape {self.shape})"
            ) from error
        self.version.change()

    def _value_of(self, other: Any, operation: str) -> Any:
        """The array or number behind other, which must not want a gradient."""
        if not isinstance(other, Tensor):
            if isinstance(other, (int, float)):
                holds(operation, self.dtype, number(operation, "the value", other))
                return other
            try:
                return self.backend.asarray(other)
            except (TypeError, ValueError) as error:
                raise DTypeError(
                    f"{operation}: needs a tensor, a number, or numbers in rows of equal length, "
                    f"got {other!r:.60}"
                ) from error
        if other.backend is not self.backend:
            raise graph.mismatch(operation, self.backend.name, other.backend.name)
        if recording.enabled and other.requires_grad:
            raise GraphError(
                f"{operation}: in-place changes are not recorded, and the value requires grad. "
                "Use value.detach(), or make a new tensor (ops.where, ops.concatenate, ...)."
            )
        return other.data

    # -- operators ------------------------------------------------------------------------------
    def __add__(self, other: TensorLike) -> Tensor:
        return ops.add(self, other)

    def __radd__(self, other: TensorLike) -> Tensor:
        return ops.add(other, self)

    def __sub__(self, other: TensorLike) -> Tensor:
        return ops.subtract(self, other)

    def __rsub__(self, other: TensorLike) -> Tensor:
        return ops.subtract(other, self)

    def __mul__(self, other: TensorLike) -> Tensor:
        return ops.multiply(self, other)

    def __rmul__(self, other: TensorLike) -> Tensor:
        return ops.multiply(other, self)

    def __truediv__(self, other: TensorLike) -> Tensor:
        return ops.divide(self, other)

    def __rtruediv__(self, other: TensorLike) -> Tensor:
        return ops.divide(other, self)

    def __pow__(self, other: TensorLike) -> Tensor:
        return ops.pow(self, other)

    def __rpow__(self, other: TensorLike) -> Tensor:
        return ops.pow(other, self)

    def __matmul__(self, other: Tensor) -> Tensor:
        return ops.matmul(self, other)

    def __rmatmul__(self, other: Tensor) -> Tensor:
        return ops.matmul(other, self)

    def __neg__(self) -> Tensor:
        return ops.negative(self)

    def __abs__(self) -> Tensor:
        return ops.abs(self)

    def __getitem__(self, index: Any) -> Tensor:
        return ops.getitem(self, index)

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return ops.equal(self, other)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return ops.not_equal(self, other)

    def __lt__(self, other: TensorLike) -> Tensor:
        return ops.less(self, other)

    def __le__(self, other: TensorLike) -> Tensor:
        return ops.less_equal(self, other)

    def __gt__(self, other: TensorLike) -> Tensor:
        return ops.greater(self, other)

    def __ge__(self, other: TensorLike) -> Tensor:
        return ops.greater_equal(self, other)

    def __and__(self, other: TensorLike) -> Tensor:
        return ops.logical_and(self, other)

    def __or__(self, other: TensorLike) -> Tensor:
        return ops.logical_or(self, other)

    __rand__, __ror__ = __and__, __or__

    def __invert__(self) -> Tensor:
        return ops.logical_not(self)

    __hash__ = object.__hash__  # identity: == compares elements

    # -- methods: shorthands for minidl.ops -----------------------------------------------------
    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """See `ops.sum`."""
        return ops.sum(self, axis, keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """See `ops.mean`."""
        return ops.mean(self, axis, keepdims)

    def var(self, axis: Axis = None, correction: float = 1, keepdims: bool = False) -> Tensor:
        """See `ops.var`."""
        return ops.var(self, axis, correction, keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """See `ops.max`."""
        return ops.max(self, axis, keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """See `ops.min`."""
        return ops.min(self, axis, keepdims)

    def argmax(self, axis: int | None = None) -> Tensor:
        """See `ops.argmax`."""
        return ops.argmax(self, axis)

    def all(self) -> bool:
        """Whether every element is true (or not 0)."""
        return bool(self.numpy().all())

    def any(self) -> bool:
        """Whether some element is true (or not 0)."""
        return bool(self.numpy().any())

    def exp(self) -> Tensor:
        """See `ops.exp`."""
        return ops.exp(self)

    def log(self) -> Tensor:
        """See `ops.log`."""
        return ops.log(self)

    def sqrt(self) -> Tensor:
        """See `ops.sqrt`."""
        return ops.sqrt(self)

    def abs(self) -> Tensor:
        """See `ops.abs`."""
        return ops.abs(self)

    def tanh(self) -> Tensor:
        """See `ops.tanh`."""
        return ops.tanh(self)

    def sigmoid(self) -> Tensor:
        """See `ops.sigmoid`."""
        return ops.sigmoid(self)

    def relu(self) -> Tensor:
        """See `ops.relu`."""
        return ops.relu(self)

    def reshape(self, *shape: Any) -> Tensor:
        """See `ops.reshape`; the shape as one tuple or as several arguments."""
        return ops.reshape(self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Tensor:
        """Axes in another order, as in NumPy (reversed without arguments); see `ops.transpose`.

        PyTorch's x.transpose(a, b) is `ops.swapaxes(x, a, b)`.
        """
        return ops.transpose(self, axes[0] if len(axes) == 1 else axes or None)

    permute = transpose

    def flatten(self, start: int = 0) -> Tensor:
        """Merge all axes from start on into one."""
        return ops.flatten(self, start)

    def squeeze(self, axis: Axis = None) -> Tensor:
        """See `ops.squeeze`."""
        return ops.squeeze(self, axis)

    def unsqueeze(self, axis: int) -> Tensor:
        """See `ops.unsqueeze`."""
        return ops.unsqueeze(self, axis)

    def expand(self, *shape: Any) -> Tensor:
        """See `ops.broadcast_to`; the shape as one tuple or as several arguments."""
        return ops.broadcast_to(self, shape[0] if len(shape) == 1 else shape)

    @property
    def T(self) -> Tensor:  # noqa: N802  (NumPy's name)
        """Axes in reversed order."""
        return ops.transpose(self, None)

    @property
    def mT(self) -> Tensor:  # noqa: N802  (NumPy's name)
        """The last two axes exchanged."""
        return ops.swapaxes(self, -1, -2)

    def clone(self) -> Tensor:
        """A copy of the values, with history."""
        return ops.clone(self)

    def astype(self, dtype: Any) -> Tensor:
        """The values as another dtype, with history between floating dtypes; see `ops.astype`."""
        return ops.astype(self, as_dtype(dtype))

    def to(self, backend: str | Backend) -> Tensor:
        """The values on another backend, with history (itself if it is there already)."""
        target = get_backend(backend)
        return self if target is self.backend else ops.to_backend(self, target)
