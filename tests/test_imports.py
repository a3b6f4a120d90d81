"""Imports point one way, and nothing heavy is imported before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A room may import from itself and from the rooms before it.
ROOMS = (
    "minidl.errors",
    "minidl.engine",
    "minidl.ops",
    "minidl.nn",
    "minidl.optim",
    "minidl.compile",
    "minidl.data",
    "minidl.training",
    "minidl.compress",
    "minidl.verify",
)
# What puts the rooms together, and so may import any of them: the package itself, its commands.
FACADES = ("minidl", "minidl.cli")
# Libraries that only the backend made for them may name.
BACKEND_ONLY = {"numba": "backends.numba_backend", "cupy": "backends.cupy_backend"}
BACKEND_ONLY |= {"cupyx": "backends.cupy_backend", "cupy_backends": "backends.cupy_backend"}
# Inside `backends`: an implementation builds on the contract and the reference, on no sibling.
SHARED = (
    "backends.interface",
    "backends.program",
    "backends.errors",
    "backends.quiet",
    "backends.registry",
    "backends.numpy_backend",
)


def modules() -> dict[str, Path]:
    """Every module of the two packages, by name."""
    found = {}
    for package in ("backends", "minidl"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(name: str, path: Path) -> Iterator[str]:
    """Absolute names of everything that a module imports, anywhere in it, also for types only."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, base] if base else parts)
            for alias in node.names:  # `from . import x` names a module only if there is one
                whole = f"{base}.{alias.name}"
                yield whole if whole in MODULES else base


def inside(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def room_of(name: str) -> int | None:
    return next((i for i, room in enumerate(ROOMS) if inside(name, room)), None)


def test_every_module_of_minidl_is_in_a_room():
    homeless = [
        name
        for name in MODULES
        if inside(name, "minidl")
        and room_of(name) is None
        and not any(name == f or (f != "minidl" and inside(name, f)) for f in FACADES)
    ]
    assert not homeless, "say in ROOMS which room this is and what it may import"


@pytest.mark.parametrize("name", [n for n in MODULES if room_of(n) is not None])
def test_rooms_import_only_from_rooms_before_them(name):
    own = room_of(name)
    for target in imported(name, MODULES[name]):
        if not inside(target, "minidl"):
            continue
        other = room_of(target)
        assert other is not None, f"{name} imports {target}, which puts the rooms together"
        assert other <= own, f"{name} imports {target}, which is further down"


@pytest.mark.parametrize("name", [n for n in MODULES if inside(n, "backends")])
def test_backends_are_strangers_to_minidl_and_to_each_other(name):
    for target in imported(name, MODULES[name]):
        assert not inside(target, "minidl"), f"{name} imports {target}"
        if inside(target, "backends") and name.count("."):
            own = ".".join(name.split(".")[:2])
            allowed = (own, *SHARED)
            assert target == "backends" or any(inside(target, room) for room in allowed), (
                f"{name} imports {target}, which belongs to another backend"
            )


@pytest.mark.parametrize("name", MODULES)
def test_each_array_library_stays_in_its_backend(name):
    for target in imported(name, MODULES[name]):
        home = BACKEND_ONLY.get(target.partition(".")[0])
        assert home is None or inside(name, home), f"{name} imports {target}"


def test_the_reader_of_imports_sees_them_all(tmp_path):
    """Relative, absolute, inside a function, for types only."""
    path = tmp_path / "module.py"
    path.write_text(
        "from . import graph\n"
        "from ..errors import MinidlError\n"
        "def f():\n    import scipy.special\n"
        "if TYPE_CHECKING:\n    from minidl.nn import Module\n"
    )
    found = set(imported("minidl.engine.example", path))
    assert found == {"minidl.engine.graph", "minidl.errors", "scipy.special", "minidl.nn"}


HEAVY = ("numba", "cupy", "scipy", "matplotlib", "tqdm", "sklearn", "llvmlite", "threadpoolctl")


def loaded_after(statement: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after the statement."""
    code = f"{statement}\nimport sys\nprint(*{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_importing_backends_loads_no_backend_and_not_minidl():
    assert not loaded_after("import backends") & {*HEAVY, "minidl"}


def test_importing_minidl_loads_nothing_heavy():
    assert not loaded_after("import minidl") & set(HEAVY)


def test_the_reference_backend_needs_numpy_alone():
    loaded = loaded_after("import minidl\n(minidl.ones((2, 2)) * 2).sum()")
    assert not loaded & set(HEAVY)
