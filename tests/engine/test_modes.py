"""The switches: recording, the default backend; both nest, and recording belongs to a thread."""

from __future__ import annotations

import threading

import pytest

import minidl
from backends import UnknownBackend
from backends.numpy_backend import NumpyBackend


def recorded(backend) -> bool:
    x = minidl.ones(1, requires_grad=True, backend=backend)
    flag = (x * 2).requires_grad
    assert flag == minidl.is_grad_enabled()
    return flag


def test_recording_nests(backend):
    assert recorded(backend)
    with minidl.no_grad():
        assert not recorded(backend)
        with minidl.enable_grad():
            assert recorded(backend)
            with minidl.no_grad():
                assert not recorded(backend)
            assert recorded(backend)
        assert not recorded(backend)
    assert recorded(backend)


def test_recording_comes_back_after_an_error(backend):
    with pytest.raises(ZeroDivisionError), minidl.no_grad():
        raise ZeroDivisionError
    assert recorded(backend)
    x = minidl.ones(1, requires_grad=True, backend=backend)
    x.register_hook(lambda grad: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        (x * 2).sum().backward()
    assert recorded(backend)


def test_as_decorators(backend):
    @minidl.no_grad()
    def inside(depth: int) -> bool:
        return inside(depth - 1) if depth else recorded(backend)

    @minidl.enable_grad()
    def outside() -> bool:
        return recorded(backend)

    assert not inside(3)
    assert recorded(backend)
    with minidl.no_grad():
        assert outside()
        assert not recorded(backend)


def test_one_instance_may_be_entered_twice(backend):
    switch = minidl.no_grad()
    with switch, minidl.enable_grad():
        with switch:
            assert not recorded(backend)
        assert recorded(backend)
    assert recorded(backend)


def test_each_thread_decides_for_itself(backend):
    seen = []
    with minidl.no_grad():
        worker = threading.Thread(target=lambda: seen.append(recorded(backend)))
        worker.start()
        worker.join()
        assert not recorded(backend)
    assert seen == [True]


def test_a_decorated_function_in_two_threads_disturbs_neither(backend):
    """Both are inside the same decorator at once, and leave it in the order they came."""
    first_in, second_in, first_out = (threading.Event() for _ in range(3))
    after = {}

    @minidl.no_grad()
    def evaluate(entered: threading.Event, leave: threading.Event) -> None:
        entered.set()
        assert leave.wait(10)

    def first() -> None:
        evaluate(first_in, second_in)
        after["first"] = recorded(backend)
        first_out.set()

    def second() -> None:
        with minidl.no_grad():
            assert first_in.wait(10)
            evaluate(second_in, first_out)
            after["second"] = recorded(backend)

    workers = [threading.Thread(target=f) for f in (first, second)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert after == {"first": True, "second": False}


def test_grad_mode_within_backward(backend):
    seen = []
    x = minidl.ones(1, requires_grad=True, backend=backend)
    x.register_hook(lambda grad: seen.append(minidl.is_grad_enabled()))
    (x * x).sum().backward()
    (x * x).sum().backward(create_graph=True)
    assert seen == [False, True]


def test_use_backend_nests(backend):
    before = minidl.get_backend()
    with minidl.use_backend(backend) as chosen:
        assert chosen is backend
        assert minidl.ones(2).backend is backend
        inner = NumpyBackend()
        with minidl.use_backend(inner):
            assert minidl.zeros(1).backend is inner
        assert minidl.tensor(1.0).backend is backend
        with pytest.raises(UnknownBackend, match="no_such_backend"):
            minidl.use_backend("no_such_backend")
        assert minidl.get_backend() is backend
    assert minidl.get_backend() is before


def test_use_backend_for_good(backend):
    before = minidl.get_backend()
    try:
        minidl.use_backend(backend)
        assert minidl.arange(3).backend is backend
    finally:
        minidl.use_backend(before)


def test_operations_follow_their_inputs_not_the_default(backend, other):
    x = minidl.ones(2, backend=backend)
    with minidl.use_backend(other):
        assert (x * 2).sum().backend is backend
        assert minidl.zeros_like(x).backend is backend
        assert minidl.ops.adaptive_avg_pool2d(x.reshape(1, 1, 1, 2), 1).backend is backend


def test_the_default_from_outside_is_read_when_it_is_needed(monkeypatch):
    """So that `minidl doctor` can say what is wrong with it."""
    for name, error in (("abacus", UnknownBackend), ("", None), ("numpy", None)):
        monkeypatch.setattr("minidl.engine.modes._Default.backend", None)
        monkeypatch.setenv("MINIDL_BACKEND", name)
        assert minidl.get_backend("numpy").name == "numpy"
        if error is None:
            assert minidl.get_backend().name == "numpy"
        else:
            with pytest.raises(error, match="MINIDL_BACKEND: no backend is called 'abacus'"):
                minidl.zeros(1)
