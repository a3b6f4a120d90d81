"""Single-threaded matrix products inside parallel kernels.

Numba reaches BLAS through SciPy. Kernels split the work over Numba's threads themselves, so that
library is held to one thread; NumPy's own BLAS, another copy, is left as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import llvmlite.binding
import numba.extending
import numpy as np
import scipy
import scipy.linalg.cython_blas  # the library that Numba will call
from llvmlite import ir
from numba import types
from numba.core import cgutils as cgutils_untyped
from threadpoolctl import ThreadpoolController

from ..errors import BackendUnavailable
from ..interface import Array
from .jit import helper

cgutils: Any = cgutils_untyped
intrinsic: Any = numba.extending.intrinsic

_SYMBOL = "numba_xxgemm"  # Numba's own door to BLAS: np.dot goes through it
_CHAR, _SIZE = ir.IntType(8), ir.IntType(64)
_POINTER = _CHAR.as_pointer()


def require_gemm() -> None:
    """Raise BackendUnavailable if this version of Numba has no door to BLAS that we know."""
    if llvmlite.binding.address_of_symbol(_SYMBOL) is None:
        import numba

        raise BackendUnavailable(
            f"Numba {numba.__version__} does not offer {_SYMBOL}, through which the Numba backend "
            'calls BLAS; a version that does: pip install "numba>=0.61,<0.69"'
        )


@cast("Callable[[Any], Any]", intrinsic)
def _xxgemm(typing: Any, a: Any, trans_a: Any, b: Any, trans_b: Any, c: Any, shape: Any,
            strides: Any, scale: Any) -> Any:  # fmt: skip
    """Column-major c = alpha op(a) op(b) + beta c on addresses; scale holds (alpha, beta)."""
    kind = ord("s" if scale.dtype == types.float32 else "d")
    signature = types.int32(a, trans_a, b, trans_b, c, shape, strides, scale)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, trans_a, b, trans_b, c, shape, strides, scale = arguments
        sizes, leads = (cgutils.unpack_tuple(builder, t) for t in (shape, strides))
        data = context.make_array(signature.args[7])(context, builder, scale).data
        alpha = builder.bitcast(data, _POINTER)
        beta = builder.bitcast(builder.gep(data, [ir.Constant(_SIZE, 1)]), _POINTER)
        matrix = [_POINTER, _SIZE]
        declared = ir.FunctionType(
            ir.IntType(32),
            [_CHAR] * 3 + [_SIZE] * 3 + [_POINTER, *matrix, *matrix, _POINTER, *matrix],
        )
        gemm = cgutils.get_or_insert_function(builder.module, declared, _SYMBOL)
        yes, no = ir.Constant(_CHAR, ord("t")), ir.Constant(_CHAR, ord("n"))

        def flag(transposed: Any) -> Any:
            return builder.select(transposed, yes, no)

        def pointer(address: Any) -> Any:
            return builder.inttoptr(address, _POINTER)

        return builder.call(gemm, [
            ir.Constant(_CHAR, kind), flag(trans_a), flag(trans_b), *sizes,
            alpha, pointer(a), leads[0], pointer(b), leads[1], beta, pointer(c), leads[2],
        ])  # fmt: skip

    return signature, generate


@helper
def gemm(a: Array, trans_a: bool, b: Array, trans_b: bool, c: Array, scale: Array) -> None:
    """c = scale[0] * op(a) @ op(b) + scale[1] * c, op transposing where its flag is set.

    All three are matrices whose rows are contiguous; rows may lie apart (slices of larger ones).
    """
    rows, columns = c.shape
    depth = a.shape[0] if trans_a else a.shape[1]
    size = c.itemsize
    # BLAS stores by columns: what it sees of a row-major matrix is the transpose, and c' = b' a'.
    # A matrix of one row has no meaningful row stride, so the row length bounds it from below.
    leads = (
        max(b.strides[0] // size, b.shape[1]),
        max(a.strides[0] // size, a.shape[1]),
        max(c.strides[0] // size, columns),
    )
    _xxgemm(b.ctypes.data, trans_b, a.ctypes.data, trans_a, c.ctypes.data,
            (columns, rows, depth), leads, scale)  # fmt: skip


class Libraries:
    """The BLAS copies loaded in this process, and the hold on the one that kernels use."""

    def __init__(self) -> None:
        found = ThreadpoolController().select(user_api="blas").lib_controllers
        numpy_home, scipy_home = _homes(np.__file__), _homes(scipy.__file__)
        self.all = found
        self.own = [c for c in found if _inside(c.filepath, scipy_home)]
        numpys = [c for c in found if _inside(c.filepath, numpy_home)]
        # Pip wheels bundle one BLAS each. Elsewhere (conda, distributions) both use the same one;
        # held for good, it would take NumPy's threads away: it is held during launches only.
        self.shared = not (self.own and numpys)
        if not self.shared:
            _limit(self.own, 1)
        self._lock, self._depth, self._before = threading.Lock(), 0, [0]

    def __enter__(self) -> None:
        """From here to the end of the `with` block, the BLAS under Numba uses one thread."""
        if not self.shared:
            return
        with self._lock:
            if self._depth == 0:
                self._before = [c.num_threads for c in self.all]
                _limit(self.all, 1)
            self._depth += 1

    def __exit__(self, *error: object) -> None:
        if not self.shared:
            return
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                for controller, count in zip(self.all, self._before, strict=True):
                    controller.set_num_threads(count)

    def describe(self) -> str:
        """Each library with its version and threads, the kernels' one first."""
        parts = []
        for c in sorted(self.all, key=lambda c: c not in self.own):
            whose = "kernels" if c in self.own else "kernels and NumPy" if self.shared else "NumPy"
            held = 1 if c in self.own and not self.shared else c.num_threads
            parts.append(f"{c.internal_api} {c.version} ({whose}, {held} threads)")
        return "; ".join(parts) or "unknown"


def _homes(module_file: str) -> tuple[Path, Path]:
    """Where a wheel keeps its libraries: the package itself, or `<package>.libs` beside it."""
    package = Path(module_file).resolve().parent
    return package, package.with_name(package.name + ".libs")


def _inside(filepath: str, homes: tuple[Path, Path]) -> bool:
    path = Path(filepath).resolve()
    return any(path.is_relative_to(home) for home in homes)


def _limit(controllers: list[Any], count: int) -> None:
    for controller in controllers:
        controller.set_num_threads(count)


BLAS = Libraries()  # `with BLAS:` goes around every launch of a kernel that calls gemm
