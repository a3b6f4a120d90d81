"""From a name to a backend: unknown, unavailable, registered, installed by somebody else."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import backends
from backends import BackendError, BackendUnavailable, UnknownBackend, registry
from backends.numpy_backend import NumpyBackend


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    """Each test starts from the built-in backends and leaves nothing behind."""
    monkeypatch.setattr(registry, "_instances", {})
    monkeypatch.setattr(registry, "_registered", {})
    registry._third_party.cache_clear()
    yield
    registry._third_party.cache_clear()


def test_the_reference_is_always_there():
    assert backends.get("numpy").name == "numpy"
    assert "numpy" in backends.available()
    assert backends.names()[:3] == ["numpy", "numba", "cupy"]


def test_one_instance_for_each_name():
    assert backends.get("numpy") is backends.get("numpy")


def test_one_instance_for_all_threads():
    """Two would refuse each other's tensors."""
    both = threading.Barrier(2)

    def slow():
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(timeout=0.2)  # passed only if both threads start one
        return NumpyBackend()

    backends.register("slow", slow)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(backends.get, ["slow", "slow"])
    assert first is second


def test_unknown_name_lists_the_known_ones():
    backends.register("mine", NumpyBackend)
    with pytest.raises(UnknownBackend, match=r"'tensorflow'.*numpy, numba, cupy, mine"):
        backends.get("tensorflow")
    assert issubclass(UnknownBackend, (BackendError, LookupError))


def test_a_factory_that_fails_makes_the_backend_unavailable_and_keeps_the_cause():
    def broken():
        raise OSError("no such device")

    backends.register("broken", broken)
    with pytest.raises(BackendUnavailable, match=r"'broken'.*no such device") as caught:
        backends.get("broken")
    assert isinstance(caught.value.__cause__, OSError)
    assert "broken" in backends.names()
    assert "broken" not in backends.available()


def test_what_a_factory_says_is_missing_is_passed_on():
    error = BackendUnavailable("needs a quantum computer: buy one")

    def absent():
        raise error

    backends.register("absent", absent)
    with pytest.raises(BackendUnavailable) as caught:
        backends.get("absent")
    assert caught.value is error


def test_a_failure_is_not_remembered():
    """After the missing thing was installed or plugged in, the next try succeeds."""
    attempts = []

    def second_time_lucky():
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("not yet")
        return NumpyBackend()

    backends.register("late", second_time_lucky)
    with pytest.raises(BackendUnavailable):
        backends.get("late")
    assert isinstance(backends.get("late"), NumpyBackend)


def test_registering_replaces_an_earlier_backend_of_that_name():
    first, second = NumpyBackend(), NumpyBackend()
    backends.register("mine", lambda: first)
    assert backends.get("mine") is first
    backends.register("mine", lambda: second)
    assert backends.get("mine") is second
    backends.register("numpy", lambda: first)
    assert backends.get("numpy") is first


def test_registering_imports_and_starts_nothing():
    def explode():
        raise AssertionError("started before it was asked for")

    backends.register("lazy", explode)
    assert "lazy" in backends.names()


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution on the path that announces two backends, one of which cannot be imported."""
    (tmp_path / "their_arrays.py").write_text(
        "from backends.numpy_backend import NumpyBackend\n"
        "class TheirBackend(NumpyBackend):\n"
        "    name = 'theirs'\n"
    )
    info = tmp_path / "their_arrays-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their_arrays\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{registry.ENTRY_POINT_GROUP}]\n"
        "theirs = their_arrays:TheirBackend\n"
        "lost = not_installed_anywhere:Backend\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("their_arrays", None)


def test_a_third_party_joins_by_its_entry_point(installed):
    assert {"theirs", "lost"} <= set(backends.names())
    assert "their_arrays" not in sys.modules, "a name is enough; importing comes with use"
    theirs = backends.get("theirs")
    assert theirs.name == "theirs"
    assert theirs is backends.get("theirs")


def test_a_third_party_that_cannot_be_imported_is_unavailable(installed):
    with pytest.raises(BackendUnavailable, match=r"'lost'.*not_installed_anywhere"):
        backends.get("lost")
    assert "lost" not in backends.available()


MISSING = """
import sys
sys.modules[{module!r}] = None  # what an import of a package that is not installed meets
import backends
try:
    backends.get({name!r})
except backends.BackendUnavailable as error:
    print(error)
else:
    raise SystemExit("started without what it needs")
"""


@pytest.mark.parametrize(("name", "module"), [("numba", "numba"), ("cupy", "cupy")])
def test_without_its_package_a_backend_says_how_to_install_it(name, module):
    code = MISSING.format(name=name, module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "pip install" in done.stdout
    assert name in done.stdout.lower()
