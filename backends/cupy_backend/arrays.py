"""Transfers between host and GPU, and what the host may ask about the device."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..interface import Array, DType
from .common import Common


class Arrays(Common):
    """Only `to_numpy`, `bounds`, `all_finite` and `synchronize` make the host wait for the GPU."""

    def asarray(self, x: Any, dtype: DType | None = None) -> Array:
        """Host values are checked and converted by NumPy before they travel."""
        if self.is_array(x):
            return x if dtype is None or x.dtype == dtype else x.astype(dtype)
        return self.xp.asarray(super().asarray(x, dtype))

    def to_numpy(self, x: Array) -> np.ndarray:
        """A copy in host memory. Synchronises."""
        host: np.ndarray = self.xp.asnumpy(x)
        return host

    def is_array(self, x: object) -> bool:
        return isinstance(x, self.xp.ndarray)

    def synchronize(self) -> None:
        self.xp.cuda.Device().synchronize()

    def set_num_threads(self, count: int) -> None:
        """The GPU has its own."""

    def get_num_threads(self) -> int:
        return 1

    def bounds(self, x: Array) -> tuple[float, float]:
        """Both ends in one transfer. Synchronises."""
        low, high = self.to_numpy(self.xp.stack([x.min(), x.max()]))
        return float(low), float(high)

    def describe(self) -> dict[str, str]:
        """Name, compute capability and versions of the current device.

        Source of the number format (1000 * major + 10 * minor): CUDA runtime API,
        cudaRuntimeGetVersion.
        """
        runtime, device = self.xp.cuda.runtime, self.xp.cuda.Device()
        capability = device.compute_capability
        return {
            "device": runtime.getDeviceProperties(device.id)["name"].decode(),
            "compute capability": f"{capability[:-1]}.{capability[-1]}",
            "cuda runtime": _version(runtime.runtimeGetVersion()),
            "cuda driver": _version(runtime.driverGetVersion()),
            "cupy": self.xp.__version__,
            "int8 products": "cuBLAS gemmEx" if self._libraries.cublas else "own dp4a kernel",
        }

    def erf(self, x: Array) -> Array:
        return self._libraries.erf(x)


def _version(number: int) -> str:
    """CUDA's version number in words.

    >>> _version(12090)
    '12.9'
    """
    return f"{number // 1000}.{number % 1000 // 10}"
