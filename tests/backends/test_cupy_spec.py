"""The stand-in's names and arguments are those of the real CuPy, wherever one is installed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import backends
from backends.cupy_backend import kernels
from tests.cupy_standin import spec
from tests.cupy_standin.dump_spec import SPEC, describe

FOLDER = Path(backends.__file__).parent
WRITTEN = json.loads(SPEC.read_text(encoding="utf-8"))


def used_names() -> set[str]:
    """What the reference and the CuPy backend ask of their array library: xp.NAME."""
    files = [*FOLDER.glob("numpy_backend/*.py"), *FOLDER.glob("cupy_backend/*.py")]
    texts = [file.read_text(encoding="utf-8") for file in files]
    return set(re.findall(r"\bxp\.([a-zA-Z]\w*)", "\n".join(texts)))


@pytest.fixture(scope="module")
def installed():
    """The real CuPy; names and signatures need no GPU."""
    return pytest.importorskip("cupy", reason="CuPy is not installed: spec.json is taken as it is")


def test_everything_that_the_backend_uses_is_in_the_specification():
    assert len(used_names()) > 40
    assert not [name for name in used_names() if not spec.exists(name)]


def test_the_specification_is_what_this_cupy_says_of_itself(installed):
    if installed.__version__ != spec.VERSION:
        pytest.skip(f"spec.json is of CuPy {spec.VERSION}, installed is {installed.__version__}")
    assert describe(installed) == WRITTEN


def test_whichever_cupy_is_installed_has_what_the_backend_uses(installed):
    """Another version may know more, but no less."""
    actual = describe(installed)
    for name in used_names():
        assert hasattr(installed, name), name
        for kind in ("functions", "ufuncs"):
            needed = WRITTEN[kind].get(name, "").split()
            missing = set(needed) - set(actual[kind].get(name, "").split())
            assert not missing, f"cupy.{name} takes no {missing}"


def test_modules_are_made_of_the_same_arguments(installed):
    for file, (real, *_) in kernels.FILES.items():
        module = installed.RawModule(code=kernels.source(file), options=kernels.options(real))
        assert callable(module.get_function)


def test_erf_takes_the_types_that_the_stand_in_takes(installed):
    special = pytest.importorskip(
        "cupyx.scipy.special", reason="this CuPy has no special functions"
    )
    assert [loop[0] for loop in special.erf.types] == ["e", "f", "d"]
