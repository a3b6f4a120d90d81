"""The element types: float32 by default, float64 to check with, integers for data."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DTypeError

float32 = np.dtype("float32")
float64 = np.dtype("float64")
int8 = np.dtype("int8")
uint8 = np.dtype("uint8")
int32 = np.dtype("int32")
int64 = np.dtype("int64")
bool_ = np.dtype("bool")

SUPPORTED = (float32, float64, int8, uint8, int32, int64, bool_)


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """The supported dtype that a name, a type or a dtype stands for. Raises: DTypeError.

    >>> as_dtype("float32") is float32, as_dtype(int)
    (True, dtype('int64'))
    """
    if dtype is int:  # 32 bits wide on some platforms in some NumPys
        return int64
    try:
        found: np.dtype[Any] = np.dtype(object if dtype is None else dtype)  # None: float64
    except TypeError:
        found = np.dtype(object)
    if found not in SUPPORTED:
        names = ", ".join(d.name for d in SUPPORTED)
        raise DTypeError(f"dtype {dtype!r} is not supported; use one of {names}")
    return found
