"""Finding CuPy, or saying what is missing. Nothing here runs before the backend is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import BackendUnavailable

INSTALL = 'pip install "minidl[cuda12]" (or "minidl[cuda13]" for a driver that supports CUDA 13)'


@dataclass(frozen=True)
class Libraries:
    """What the backend calls; a test may hand over something else with the same names."""

    cupy: Any
    erf: Any
    cublas: Any | None  # cupy_backends.cuda.libs.cublas; None where it cannot be loaded


def load() -> Libraries:
    """Import CuPy and make sure that it has a GPU to work on.

    Raises: BackendUnavailable if CuPy is not installed or does not start, or finds no usable GPU.
    """
    try:
        import cupy
        from cupyx.scipy.special import erf
    except ImportError as error:
        raise BackendUnavailable(
            f"the cupy backend needs CuPy, which cannot be imported ({error}); {INSTALL}"
        ) from error
    if not cupy.cuda.is_available():
        raise BackendUnavailable(
            f"CuPy {cupy.__version__} is installed, but finds no usable GPU: {_reason(cupy)}. "
            "Check that `nvidia-smi` lists a GPU and that the driver is new enough for this CuPy"
        )
    return Libraries(cupy, erf, _cublas())


def _reason(cupy: Any) -> str:
    """What the CUDA runtime says about the missing GPU."""
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # the runtime's error class is CuPy's own
        return str(error)
    return f"the driver reports {count} devices"


def _cublas() -> Any | None:
    """cuBLAS with the call for int8 products, if this CuPy has it."""
    try:
        from cupy_backends.cuda.libs import cublas
    except ImportError:
        return None
    return cublas if hasattr(cublas, "gemmEx") else None
