"""minidl: a deep-learning engine to read in an afternoon, on NumPy, Numba or CuPy.

>>> import minidl
>>> x = minidl.tensor([1.0, 2.0, 3.0], requires_grad=True)
>>> (x ** 2).sum().backward()
>>> x.grad
Tensor([2., 4., 6.])
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

import backends as _backends

if getattr(_backends, "PROJECT", None) != "minidl":
    raise ImportError(
        f"minidl needs its own package 'backends', but {_backends.__file__} was found first. "
        "Rename that file or folder, or run from another directory."
    )

from . import errors, ops
from .engine.apply import apply
from .engine.creation import (
    arange,
    eye,
    from_numpy,
    full,
    ones,
    ones_like,
    rand,
    randn,
    tensor,
    zeros,
    zeros_like,
)
from .engine.dtypes import bool_, float32, float64, int8, int32, int64, uint8
from .engine.function import Function
from .engine.gradcheck import gradcheck
from .engine.graph import grad
from .engine.modes import (
    enable_grad,
    get_backend,
    get_num_threads,
    is_grad_enabled,
    no_grad,
    observe,
    set_num_threads,
    use_backend,
)
from .engine.random import Generator, default_generator, manual_seed
from .engine.tensor import Tensor

from .compile import compile  # isort: skip  (binds the function over the package's name)

if TYPE_CHECKING:
    from . import compress, data, nn, optim, training

__version__ = "0.1.0"
__all__ = [
    "Function", "Generator", "Tensor", "apply", "arange", "bool_", "compile", "compress", "data",
    "default_generator", "enable_grad", "errors", "eye", "float32", "float64", "from_numpy", "full",
    "get_backend", "get_num_threads", "grad", "gradcheck", "int8", "int32", "int64",
    "is_grad_enabled", "manual_seed", "nn", "no_grad", "observe", "ones", "ones_like", "ops",
    "optim", "rand", "randn", "set_num_threads", "tensor", "training", "uint8", "use_backend",
    "zeros", "zeros_like",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """The rooms above the operations, imported when first used: `import minidl` stays quick."""
    if name in ("compress", "data", "nn", "optim", "training"):
        return _import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
