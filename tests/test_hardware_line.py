"""The line at the end of a test run says what ran on a GPU, and never more than did."""

from __future__ import annotations

import types

import pytest

from backends import BackendUnavailable
from tests import conftest


def unavailable(name):
    raise BackendUnavailable("nothing to run it on")


def a_gpu(name):
    return types.SimpleNamespace(describe=lambda: {"device": "a GPU"})


@pytest.mark.parametrize(
    ("parameters", "marked"),
    [
        ({"backend": "cupy"}, True),
        ({"device": "cupy", "dtype": "float32"}, True),
        ({"backend": conftest.STAND_IN}, False),
        ({"name": "cupy"}, False),
        (None, False),
    ],
)
def test_tests_of_the_real_cupy_are_marked(monkeypatch, parameters, marked):
    monkeypatch.setattr(conftest, "start", a_gpu)
    item = types.SimpleNamespace(user_properties=[])
    if parameters is not None:
        item.callspec = types.SimpleNamespace(params=parameters)
    conftest.pytest_runtest_call(item)
    assert item.user_properties == ([("hardware", "a GPU")] if marked else [])


@pytest.mark.parametrize(
    ("driver", "start", "reason"),
    [
        (False, unavailable, "there is no GPU here"),
        (True, unavailable, "nothing to run it on"),
        (True, a_gpu, "there is a GPU, but none of its tests ran"),
    ],
)
def test_what_did_not_run_is_said_to_be_so(monkeypatch, driver, start, reason):
    monkeypatch.setattr(conftest, "_has_gpu", lambda: driver)
    monkeypatch.setattr(conftest, "start", start)
    assert conftest.hardware_line([]) == f"CuPy backend: not run on hardware: {reason}"


def test_what_ran_is_counted_with_the_name_of_the_device():
    assert conftest.hardware_line(["a GPU"] * 3) == "CuPy backend: 3 tests run on a GPU"


def test_a_required_backend_that_is_missing_fails_instead_of_skipping(monkeypatch):
    monkeypatch.setattr(conftest, "start", unavailable)
    monkeypatch.setenv("MINIDL_REQUIRE_BACKENDS", "")
    with pytest.raises(pytest.skip.Exception, match="not run on hardware"):
        conftest.start_or_skip("cupy")
    monkeypatch.setenv("MINIDL_REQUIRE_BACKENDS", "cupy")
    with pytest.raises(pytest.fail.Exception, match="required here and does not start"):
        conftest.start_or_skip("cupy")
