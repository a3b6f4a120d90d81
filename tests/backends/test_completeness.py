"""Every backend has the whole contract with its signatures, and every method of it has a case."""

from __future__ import annotations

import inspect

import pytest

from backends import METHODS, Backend
from minidl.verify.conformance import CASES, covers, every_run, parameter_sets

RUNS = every_run()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_conformance_case(name):
    cases = CASES.get(name, [])
    assert cases, f"the contract's method {name!r} has no case: write one and mark it @covers"
    for case in cases:
        assert name in case.subjects


@pytest.mark.parametrize("name", METHODS)
def test_every_case_runs_on_a_backend_and_nothing_else(name):
    """So that anything that holds a backend can run it, with the arguments that it announces."""
    for case in CASES[name]:
        needed = (
            set(inspect.signature(case).parameters)
            - {"backend", "reference"}
            - set(getattr(case, "strategies", {}))
        )
        announced = list(parameter_sets(case))
        assert "backend" in inspect.signature(case).parameters
        assert announced
        assert all(set(arguments) == needed for arguments in announced), case.__name__


def test_a_case_of_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="conv3d"):
        covers("conv2d", "conv3d")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_there_with_the_contracts_signature(backend, name):
    """Names, order, defaults and kinds of parameters; annotations may be spelled differently."""
    method = getattr(backend, name)
    assert callable(method)
    assert not getattr(method, "__isabstractmethod__", False), f"{name} is not implemented"
    assert shape_of(method) == shape_of(getattr(Backend, name))[1:], f"{name} differs"


def shape_of(function) -> list[tuple]:
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in parameters]


def test_a_backend_is_a_backend_and_has_a_name(backend):
    assert isinstance(backend, Backend)
    assert backend.name not in ("", "?")
