"""A second backend beside the one under test, for everything about mixing and moving."""

from __future__ import annotations

import pytest

import backends
from backends import Backend
from backends.numpy_backend import NumpyBackend


class _Second(NumpyBackend):
    name = "second"


@pytest.fixture(scope="session")
def other(backend: Backend) -> Backend:
    """NumPy; where NumPy itself is under test, an instance under another name."""
    return _Second() if backend.name == "numpy" else backends.get("numpy")
