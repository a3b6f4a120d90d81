"""The backends under test, Hypothesis profiles, and the line that says what hardware was missing.

MINIDL_TEST_LEVEL          quick, default or full: how many examples each property gets
MINIDL_TEST_BACKENDS       further backends to test, comma separated (a third party's, by entry
                           point)
MINIDL_TEST_BACKENDS_ONLY  the backends to test, and no others
MINIDL_REQUIRE_BACKENDS    backends that must start: one that does not is a failure, not a skip
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Sequence
from functools import cache

# Before anything imports Numba: enough threads for a race to show, few enough for two test workers.
os.environ.setdefault("NUMBA_NUM_THREADS", "2")

import pytest
from hypothesis import settings

import backends
from backends import Backend, BackendUnavailable
from backends.numpy_backend import NumpyBackend
from minidl.verify import conformance  # noqa: F401  (registers the levels)

STAND_IN = "cupy-standin"
collect_ignore = ["mutation.py", "without_jit.py"]  # no doctests; they import what few have

if os.environ.get("NUMBA_DISABLE_JIT") == "1":
    from tests import without_jit

    without_jit.install()

settings.load_profile(os.environ.get("MINIDL_TEST_LEVEL", "default"))


def _listed(variable: str) -> list[str]:
    return [name for name in os.environ.get(variable, "").split(",") if name]


@cache
def _has_gpu() -> bool:
    """Whether this machine has an NVIDIA driver: without one there is no reason to import CuPy."""
    for library in ("libcuda.so.1", "nvcuda.dll"):
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return True
    return False


def _has_stand_in() -> bool:
    return importlib.util.find_spec("tests.cupy_standin") is not None


def _required() -> list[str]:
    return _listed("MINIDL_REQUIRE_BACKENDS")


def backend_names() -> list[str]:
    """What the suite is run on; real CuPy only where there is a GPU to run it on."""
    only = _listed("MINIDL_TEST_BACKENDS_ONLY")
    if only:
        return only
    found = ["numpy", "numba", STAND_IN]
    if _has_gpu() or "cupy" in _required():
        found.append("cupy")
    return list(dict.fromkeys([*found, *_listed("MINIDL_TEST_BACKENDS"), *_required()]))


def start(name: str) -> Backend:
    """The backend called name, or BackendUnavailable."""
    if name != STAND_IN:
        return backends.get(name)
    if not _has_stand_in():
        raise BackendUnavailable("the stand-in for CuPy, tests/cupy_standin, is not here")
    from tests import cupy_standin

    return cupy_standin.backend()


def start_or_skip(name: str) -> Backend:
    """The backend called name; one that cannot run here skips the test, or fails it if required."""
    try:
        return start(name)
    except BackendUnavailable as error:
        if name in _required():
            pytest.fail(f"backend {name!r} is required here and does not start: {error}")
        prefix = "not run on hardware: " if name == "cupy" else ""
        pytest.skip(f"{prefix}backend {name!r}: {error}")


@pytest.fixture(scope="session", params=backend_names())
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend that can run here; another is skipped with its reason, or fails if required."""
    return start_or_skip(request.param)


@pytest.fixture(scope="session")
def reference() -> Backend:
    """The NumPy backend, to which exact results are compared bit for bit."""
    return backends.get("numpy")


class _Second(NumpyBackend):
    name = "second"


@pytest.fixture(scope="session")
def other(backend: Backend) -> Backend:
    """A second backend, to mix with: NumPy, or beside NumPy itself a twin under another name."""
    return _Second() if backend.name == "numpy" else backends.get("numpy")


def pytest_runtest_call(item: pytest.Item) -> None:
    """Mark a test that has the real CuPy; the mark comes back from xdist's workers, too."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    if parameters.get("backend", parameters.get("device")) == "cupy":
        item.user_properties.append(("hardware", start("cupy").describe()["device"]))


def hardware_line(devices: Sequence[object]) -> str:
    """What ran on a GPU, given the device of each test that did; or why nothing did."""
    if devices:
        return f"CuPy backend: {len(devices)} tests run on {devices[0]}"
    reason = "there is no GPU here" if _has_stand_in() else "neither a GPU nor a stand-in is here"
    if _has_gpu():
        try:
            start("cupy")
            reason = "there is a GPU, but none of its tests ran"
        except BackendUnavailable as error:
            reason = str(error)
    return f"CuPy backend: not run on hardware: {reason}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A green run on the stand-in, or one that skipped a GPU, must not read as a run on a GPU."""
    ended = [r for key in ("passed", "failed") for r in terminalreporter.stats.get(key, [])]
    marks = [mark for report in ended for mark in report.user_properties]
    terminalreporter.write_line(hardware_line([value for key, value in marks if key == "hardware"]))
