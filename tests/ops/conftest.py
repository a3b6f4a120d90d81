"""Runs the inherited checks for each case of a file."""

from __future__ import annotations

import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.cls is not None and "case" in metafunc.fixturenames:
        metafunc.parametrize("case", metafunc.cls.cases, ids=str)
