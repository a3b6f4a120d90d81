"""Arrays and kernels for minidl: arrays in, arrays out, and a stranger to minidl itself.

`interface` is the contract, `registry.py` finds an implementation by name. Importing this
package loads neither Numba nor CuPy.
"""

from .errors import BackendError, BackendUnavailable, UnknownBackend
from .interface import METHODS, Array, Backend, Finish, Narrow, Requantize, Rescale, SparseWeight
from .registry import available, get, names, register, set_num_threads

PROJECT = "minidl"  # `backends` is a common name: minidl checks that it imported this one

__all__ = [
    "METHODS",
    "Array",
    "Backend",
    "BackendError",
    "BackendUnavailable",
    "Finish",
    "Narrow",
    "Requantize",
    "Rescale",
    "SparseWeight",
    "UnknownBackend",
    "available",
    "get",
    "names",
    "register",
    "set_num_threads",
]
