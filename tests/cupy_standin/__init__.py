"""A strict stand-in for CuPy, so that the CuPy backend runs in tests without a GPU.

`backend()` is the `CupyBackend` that ships, over a module with the names and arguments of the real
CuPy (spec.json, written by dump_spec.py), whose arrays are opaque to NumPy; the `.cu` texts are
compiled as C++ and run by tests/cuda_on_cpu. What passes here has not run on a GPU: neither timing,
nor CuPy's own kernels, nor CUDA's math library are part of it.
"""

from __future__ import annotations

from functools import cache

from backends import BackendUnavailable
from backends.cupy_backend import CupyBackend
from backends.cupy_backend.libraries import Libraries

from ..cuda_on_cpu import unavailable
from .functions import cupy, erf
from .gpu import Cublas
from .ndarray import counted_syncs

__all__ = ["backend", "counted_syncs", "cupy", "erf"]


@cache
def backend() -> CupyBackend:
    """The CuPy backend on the stand-in; one instance, as in the registry.

    Raises: BackendUnavailable where no C++ compiler can run the kernels.
    """
    reason = unavailable()
    if reason is not None:
        raise BackendUnavailable(reason)
    return CupyBackend(Libraries(cupy, erf, Cublas()))
