"""Each planted mistake in recording, planning or lowering is found by the test that is named."""

from __future__ import annotations

import importlib
import importlib.util
import inspect

import pytest

from minidl.errors import MinidlError

from ..faults_compile import FAULTS

if importlib.util.find_spec("numba"):
    from .. import faults_lowering  # noqa: F401  (adds to FAULTS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_fault_is_found(fault, monkeypatch, backend):
    if backend.name != fault.backend:
        pytest.skip(f"is planted in {fault.backend}")
    fault.plant(monkeypatch)
    with pytest.raises(
        (AssertionError, pytest.fail.Exception, MinidlError, LookupError, ValueError)
    ):
        run(fault, backend)


def run(fault, backend):
    file, _, name = fault.test.partition(".")
    test = getattr(importlib.import_module(f"{__package__}.{file}"), name)
    fixtures = [backend] if "numba_backend" in inspect.signature(test).parameters else []
    test(*fixtures, *fault.arguments)
