"""The conformance kit finds planted mistakes, and says how to see each one again."""

from __future__ import annotations

import importlib.util

import pytest

import backends
from backends import BackendUnavailable
from minidl.verify import verify

from . import faults_int8, faults_standin  # noqa: F401  (both add to FAULTS)
from .conftest import STAND_IN, start
from .faults import FAULTS

if importlib.util.find_spec("numba"):
    from . import faults_numba  # noqa: F401


# A race shows when two threads meet, and on a busy machine they may take turns for a while.
ATTEMPTS = 100


def started(fault):
    try:
        return fault()
    except BackendUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_fault_is_found(fault):
    faulty = started(fault)
    report = verify(faulty, "quick", only=fault.methods)
    attempts = 0
    while fault.races and report.passed and attempts < ATTEMPTS:
        report, attempts = verify(faulty, "quick", only=fault.methods), attempts + 1
    assert not report.passed
    programs = [text for text in report.failures if "import" in text]
    assert programs, report.failures
    backends.register(fault.name, lambda: faulty)
    if fault.races:
        assert any(fails(program) for _ in range(ATTEMPTS) for program in programs)
        return
    for program in programs:
        assert fails(program), program


def fails(program: str) -> bool:
    try:
        exec(program, {})
    except Exception:  # whatever the mistake leads to
        return True
    return False


@pytest.mark.parametrize("name", ["numpy", "numba", STAND_IN])
def test_nothing_is_found_without_a_fault(name):
    """The same cases, so that no fault is found for a reason that has nothing to do with it."""
    try:
        backend = start(name)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    methods = dict.fromkeys(method for fault in FAULTS for method in fault.methods)
    report = verify(backend, "quick", only=methods)
    assert report.passed, "\n\n".join(report.failures)
