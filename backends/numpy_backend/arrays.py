"""Making, copying and inspecting arrays. A backend for another library overrides most of this."""

from __future__ import annotations

import os
import platform
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..interface import Array, DType, Shape
from ..quiet import quiet
from .common import Common


class Arrays(Common):
    """Creation, conversion and what the host may ask about an array."""

    @quiet
    def asarray(self, x: Any, dtype: DType | None = None) -> Array:
        array = np.asarray(x, dtype)
        if array.dtype.kind not in "biuf":  # bool, signed, unsigned, float
            raise TypeError(f"expected numbers or booleans, got dtype {array.dtype}")
        if not array.dtype.isnative:  # compiled kernels want the machine's byte order
            array = array.astype(array.dtype.newbyteorder("="))
        return array

    def to_numpy(self, x: Array) -> np.ndarray:
        return np.asarray(x)

    def is_array(self, x: object) -> bool:
        return isinstance(x, np.ndarray)

    def synchronize(self) -> None:
        """NumPy returns when it has finished."""

    def describe(self) -> dict[str, str]:
        return {"device": _processor(), "numpy": np.__version__, "blas": _blas()}

    def set_num_threads(self, count: int) -> None:
        """Only the products of BLAS have threads; to limit them takes a helper package."""
        if _blas_libraries(count) is None:
            warnings.warn(
                "NumPy's BLAS keeps its own number of threads: to limit it, "
                "pip install threadpoolctl (or set OPENBLAS_NUM_THREADS before Python starts)",
                RuntimeWarning,
                stacklevel=4,
            )

    def get_num_threads(self) -> int:
        libraries = _blas_libraries()
        if libraries is None:
            return os.cpu_count() or 1
        return max((library["num_threads"] for library in libraries), default=1)

    @quiet
    def full(self, shape: Shape, value: float, dtype: DType) -> Array:
        x = self.xp.empty(shape, dtype)
        x.fill(value)  # a third of the time of xp.full: every backward() starts here
        return x

    def copy(self, x: Array) -> Array:
        return x.copy()

    @quiet
    def astype(self, x: Array, dtype: DType) -> Array:
        return x.astype(dtype)

    @quiet
    def copyto(self, target: Array, x: Array) -> None:
        target[...] = x

    def bounds(self, x: Array) -> tuple[float, float]:
        return float(x.min()), float(x.max())

    def all_finite(self, x: Array) -> bool:
        return bool(self.xp.isfinite(x).all())


@cache
def _processor() -> str:
    """The processor's name as Linux reports it, else whatever Python knows."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _blas_libraries(limit: int | None = None) -> list[dict[str, Any]] | None:
    """The BLAS libraries in this process, limited to so many threads; None if that cannot be known
    without threadpoolctl.
    """
    try:
        from threadpoolctl import threadpool_info, threadpool_limits
    except ImportError:
        return None
    if limit is not None:
        threadpool_limits(limit, "blas")
    return [library for library in threadpool_info() if library["user_api"] == "blas"]


def _blas() -> str:
    """Name, version and threads of the BLAS library that NumPy calls."""
    libraries = _blas_libraries()
    if libraries is None:
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return f"{blas['name']} {blas['version']}"
    return ", ".join(
        f"{library['internal_api']} {library['version']}, {library['num_threads']} threads"
        for library in libraries
    )
