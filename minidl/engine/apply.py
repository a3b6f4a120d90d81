"""Run an operation and, where a gradient may be wanted, record it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DTypeError
from . import modes
from .function import Function
from .graph import mismatch
from .modes import recording
from .tensor import Tensor

_CONSTANTS = (float, int, bool, type(None))


def apply(function: Function, *inputs: Any) -> Tensor:
    """The result of function on inputs: Tensors of one backend, Python numbers, or None.

    Raises: BackendMismatch for tensors of two backends; DTypeError for anything that is no tensor
    or number.

    >>> import minidl
    >>> from minidl.ops.elementwise import Add
    >>> apply(Add(), minidl.tensor([1.0]), 2.0)
    Tensor([3.])
    """
    backend = None
    arrays: list[Any] = []
    wanted = False
    for x in inputs:
        if isinstance(x, Tensor):
            if x.backend is not backend:
                if backend is not None:
                    raise mismatch(function.name, backend.name, x.backend.name)
                backend = x.backend
            arrays.append(x.data)
            if x.requires_grad:
                wanted = True
        elif type(x) in _CONSTANTS:
            arrays.append(x)
        else:
            raise _foreign(function, x)
    if backend is None:
        raise _foreign(function, inputs[0])
    function.backend = backend
    data = function.forward(*arrays)
    if isinstance(data, np.generic):  # NumPy turns 0-d results of operators into scalars
        data = np.asarray(data)
    result = Tensor(data, backend)
    if function.view:
        result.version = inputs[0].version
    if wanted and recording.enabled and data.dtype.kind == "f":
        function.record(inputs, arrays, result)
    if modes.observers:
        for observer in modes.observers:
            observer("forward", function, inputs, result)
    return result


def _foreign(function: Function, x: Any) -> DTypeError:
    kind = f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")
    return DTypeError(f"{function.name}: expected a Tensor, got {kind}; wrap it: minidl.tensor(x)")
