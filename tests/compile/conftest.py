"""Every test here runs on each backend as the default one, from the same seed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import minidl
from backends import Backend


@pytest.fixture(autouse=True)
def _default_backend(backend: Backend) -> Iterator[None]:
    with minidl.use_backend(backend):
        minidl.manual_seed(0)
        yield
