"""The NumPy backend with its hot methods replaced by compiled, parallel kernels.

Each family of operations has a file; `jit.py` holds the decorator that they are compiled with. What
a family does not override, or finds too small or of another dtype, the NumPy backend computes.
"""

from __future__ import annotations

from importlib.util import find_spec

from ..errors import BackendUnavailable

if find_spec("numba") is None:
    raise BackendUnavailable(
        'the Numba backend needs numba; to install: pip install "minidl[numba]"'
    )

from .backend import NumbaBackend

__all__ = ["NumbaBackend"]
