"""Runs the kit's cases of the operations in the test file of their family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from backends import Backend
from minidl.verify.gradients import (
    Case,
    check_float32_gradient,
    check_gradients,
    check_values,
)


class OperationCases:
    """Inherit it and give `cases`; `conftest.py` runs each check for every one of them."""

    cases: ClassVar[Sequence[Case]]

    def test_values(self, backend: Backend, case: Case) -> None:
        check_values(backend, case)

    def test_gradients(self, backend: Backend, case: Case) -> None:
        check_gradients(backend, case)

    def test_float32_gradient(self, backend: Backend, case: Case) -> None:
        check_float32_gradient(backend, case)
