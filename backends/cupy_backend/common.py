"""What every part of the CuPy backend shares: the libraries, the kernels, dense arrays."""

from __future__ import annotations

from ..interface import Array, DType
from ..numpy_backend import NumpyBackend
from .kernels import Kernels
from .libraries import Libraries, load


class Common(NumpyBackend):
    """The reference with CuPy's arrays in place of NumPy's.

    Raises: BackendUnavailable if CuPy or a usable GPU is missing.
    """

    def __init__(self, libraries: Libraries | None = None) -> None:
        self._libraries = load() if libraries is None else libraries
        self.xp = self._libraries.cupy
        self._kernels = Kernels(self.xp.RawModule)

    def _dense(self, x: Array, dtype: DType) -> Array:
        """x as kernels read it: C-contiguous and of one dtype; x itself where it is so already."""
        return self.xp.ascontiguousarray(x, dtype=dtype)
