"""Nothing public without a case, and no Function without a forward and a backward that ran."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import minidl
import minidl.ops
from minidl import Function, Tensor
from minidl.verify.gradients import COVERED, cotangent, covers, every_case
from tests import ops as tests_of_ops

MODULES = [
    importlib.import_module(f"minidl.ops.{m.name}")
    for m in pkgutil.iter_modules(minidl.ops.__path__)
]
WITHOUT_GRADIENT = {"ArgMax", "Compare", "Not"}


def test_every_public_operation_has_a_case():
    assert len(every_case()) > 200
    assert set(minidl.ops.__all__) - set(COVERED) == set()


def test_a_case_for_what_does_not_exist_is_refused():
    with pytest.raises(AssertionError, match="no_such_operation"):
        covers("no_such_operation")


def test_every_public_function_is_exported():
    private = {"output_size", "windows"}  # for shapes alone
    for module in MODULES:
        if module.__name__.rsplit(".", 1)[1] == "check":
            continue
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__:
                known = name.startswith("_") or name in private or name in minidl.ops.__all__
                assert known, f"{module.__name__}.{name} is public, but not exported"


def test_every_test_file_mirrors_a_file_of_operations():
    names = {m.__name__.rsplit(".", 1)[1] for m in MODULES}
    tests = {m.name[5:] for m in pkgutil.iter_modules(tests_of_ops.__path__)}
    assert names - tests == set()


def functions() -> set[type[Function]]:
    return {
        value
        for module in MODULES
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, Function)
        and value.__module__ == module.__name__ and not name.startswith("_")
    }  # fmt: skip


def test_every_function_runs_forward_and_backward(backend):
    """In the cases together; on arrays, and on tensors where a second derivative is asked for."""
    ran: dict[str, set[str]] = {"forward": set(), "backward": set(), "again": set()}

    def observer(phase, function, inputs, result):
        again = phase == "backward" and isinstance(inputs[0], Tensor)
        ran["again" if again else phase].add(function.name)

    with minidl.observe(observer):
        for case in every_case():
            xs = case.tensors(backend)
            y = case.function(*xs)
            if case.order:
                wanted = [xs[i] for i in case.wanted]
                for create_graph in (False, True):
                    minidl.grad(
                        y, wanted, cotangent(y), retain_graph=True, create_graph=create_graph,
                        allow_unused=True,
                    )  # fmt: skip
    names = {f.__name__ for f in functions()}
    assert names - ran["forward"] - {"ToBackend"} == set()
    differentiable = names - WITHOUT_GRADIENT - {"ToBackend"}
    assert differentiable - ran["backward"] == set()
    assert differentiable - ran["again"] == set()


def test_each_backend_method_of_the_contract_has_a_door():
    """What backward calls under create_graph exists in minidl.ops under the backend's name."""
    from backends import METHODS

    gradients = {m for m in METHODS if m.endswith("_grad")}
    fused = {
        "linear_grad", "gelu_grad", "silu_grad", "layer_norm_grad", "batch_norm_grad",
        "cross_entropy_grad", "attention_grad", "rnn_grad", "lstm_grad", "gru_grad",
        "fake_quantize_grad", "fake_quantize_scale_grad",  # of minidl.compress, to first order
    }  # fmt: skip
    assert gradients - fused - set(minidl.ops.__all__) == set()
