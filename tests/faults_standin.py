"""Mistakes that only a backend can make whose arrays are not NumPy's. See `faults.py`."""

from __future__ import annotations

import numpy as np

from backends import BackendUnavailable
from backends.cupy_backend import CupyBackend
from backends.cupy_backend.libraries import Libraries

from .cuda_on_cpu import unavailable
from .cupy_standin import Cublas, cupy, erf
from .faults import found_by


class OnTheStandIn(CupyBackend):
    """What backend() in `cupy_standin` returns, as a class to take a mistake from."""

    def __init__(self):
        if reason := unavailable():
            raise BackendUnavailable(reason)
        super().__init__(Libraries(cupy, erf, Cublas()))


@found_by("copy")
class CopyOfADeviceArrayIsTheArray(OnTheStandIn):
    def copy(self, x):
        return x


@found_by("astype")
class AstypeOfADeviceArrayIsFree(OnTheStandIn):
    def astype(self, x, dtype):
        return x.astype(dtype, copy=False)


@found_by("is_array")
class HostArraysAreArrays(OnTheStandIn):
    def is_array(self, x):
        return super().is_array(x) or isinstance(x, np.ndarray)
