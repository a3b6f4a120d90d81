"""Bodies compiled on their own: named after their text, ready before they are called."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

numba = pytest.importorskip("numba", reason="the Numba backend needs numba")
pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="nothing is compiled"
)

KERNEL = """
from backends.numba_backend.outline import tasks


@tasks()
def scale(x, factor, part):
    x[part] = x[part] * factor + {offset}
"""
CALL = """
import numpy as np
import kernels
x = np.arange(4, dtype=np.float32)
{steps}
print(x.tolist())
"""
BOTH = "kernels.scale(4, x, 2); kernels.scale.serial(4, x, 2)"


def run(folder, monkeypatch, steps=BOTH):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder / "cache"))
    monkeypatch.syspath_prepend(str(folder))
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        f"import sys; sys.path.insert(0, {str(folder)!r})\n{CALL.format(steps=steps)}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_cached_body_is_not_used_when_its_file_changed(tmp_path, monkeypatch):
    """The cache lies beside `outline.py`, which did not change."""
    file = tmp_path / "kernels.py"
    file.write_text(KERNEL.format(offset=0))
    assert run(tmp_path, monkeypatch) == "[0.0, 4.0, 8.0, 12.0]"
    assert run(tmp_path, monkeypatch) == "[0.0, 4.0, 8.0, 12.0]"  # from the cache
    file.write_text(KERNEL.format(offset=1))
    assert run(tmp_path, monkeypatch) == "[3.0, 7.0, 11.0, 15.0]"


def test_arguments_of_another_kind_are_refused_where_dtypes_are_said_to_be_alike():
    from backends.numba_backend.outline import tasks

    @tasks()
    def copy(x, y, part):
        y[part] = x[part]

    x = np.arange(3, dtype=np.float32)
    y = np.zeros(3, np.float32)
    copy.serial(3, x, y)
    assert y.tolist() == [0, 1, 2]
    with pytest.raises((AssertionError, numba.core.errors.NumbaError), match="alike"):
        copy.serial(3, x, np.zeros(3, np.float64))


def test_a_piece_must_be_named_by_the_kernel_that_calls_it():
    from backends.numba_backend import microkernel
    from backends.numba_backend.outline import tasks

    transpose = microkernel.transpose_block

    @tasks()
    def careless(x, part):
        transpose(x, part, 16, x, part, 16)

    with pytest.raises((AssertionError, numba.core.errors.NumbaError), match="calls="):
        careless.serial(1, np.zeros(256, np.float32))


def test_bodies_run_as_plain_python_without_the_compiler(tmp_path, monkeypatch):
    """Threads would need what only compiling starts; see `without_jit.py`."""
    (tmp_path / "kernels.py").write_text(KERNEL.format(offset=0))
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert run(tmp_path, monkeypatch, "kernels.scale.serial(4, x, 4)") == "[0.0, 4.0, 8.0, 12.0]"


def test_a_second_form_is_compiled_after_other_kernels_ran(tmp_path, monkeypatch):
    """Serial, then another kernel, then parallel: the pieces are still this kernel's."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    program = """
import numpy as np, backends
lib = backends.get("numba")
for size in (8, 64, 1024):
    weight = np.ones((size, size), np.int8)
    packed = lib.int8_pack(weight, 1)
    assert lib.int8_linear(weight, weight, packed, None)[0, 0] == size
print("done")
"""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"
