"""The micro-kernel on every instruction set that this processor has."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minidl.verify.strategies import fill
from minidl.verify.tolerances import assert_close, assert_same, sum_bound

pytest.importorskip("numba", reason="the Numba backend needs numba")
from backends.numba_backend import microkernel
from backends.numba_backend.jit import kernel

ROOT = Path(__file__).parents[2]
PROGRAM = """
from backends.numba_backend.microkernel import isa
from minidl.verify import verify
only = ["matmul", "linear", "linear_grad", "conv2d", "conv2d_input_grad", "conv2d_weight_grad"]
only += ["quantize", "int8_matmul", "sparse_linear", "int8_linear", "int8_conv2d"]
report = verify("numba", "quick", only)
print(isa().name, report.passed)
"""


def run(isa: str, program: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"MINIDL_ISA": isa, "NUMBA_DISABLE_JIT": "0"}
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env=environment
    )


@kernel(exact=True, calls=[microkernel.micro, microkernel.transpose_block])
def multiply(a, a_row, a_step, b, b_step, b_column, y, depth, add):
    rows, columns = y.shape
    microkernel.product(
        a, 0, a_row, a_step, b, 0, b_step, b_column, y.reshape(-1), 0, columns, rows, columns,
        depth, add,
    )  # fmt: skip


SIZES = [
    (m, k, n) for m in (1, 13, 14, 15, 29) for k in (1, 17, 385) for n in (1, 15, 32, 33, 47, 64)
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True)])
def test_products_of_any_size_and_layout(dtype, transposed):
    """Whole numbers, so that any order of the sum gives the same bits; added to what was there."""
    for (m, k, n), add in itertools.product(SIZES, (False, True)):
        a, b = fill((m, k), dtype, "integers", 1), fill((k, n), dtype, "integers", 2)
        first = np.ascontiguousarray(a.T if transposed[0] else a)
        second = np.ascontiguousarray(b.T if transposed[1] else b)
        y = np.full((m, n), 3 if add else np.nan, dtype)
        multiply.serial(
            first.reshape(-1), *((1, m) if transposed[0] else (k, 1)),
            second.reshape(-1), *((1, k) if transposed[1] else (n, 1)), y, k, add,
        )  # fmt: skip
        assert_same(y, a @ b + (3 if add else 0), signed_zero=False)


def test_the_sum_of_many_products_keeps_its_bound():
    a, b = fill((30, 5000), np.float32, "normal", 1), fill((5000, 40), np.float32, "normal", 2)
    y = np.empty((30, 40), np.float32)
    multiply.serial(a.reshape(-1), 5000, 1, b.reshape(-1), 40, 1, y, 5000, False)
    wide = a.astype(np.float64) @ b.astype(np.float64)
    bound = sum_bound(np.abs(a.astype(np.float64)) @ np.abs(b), 5000, np.float32)
    assert_close(y, wide, bound, np.float32)


def test_every_instruction_set_that_is_here_passes_the_kit():
    """In processes of their own: the choice is compiled in."""
    known = (value for value in vars(microkernel).values() if isinstance(value, microkernel.Isa))
    for isa in known:
        done = run(isa.name, PROGRAM)
        if "this processor has" in done.stderr:  # it has not
            continue
        assert done.stdout.split() == [isa.name, "True"], done.stdout + done.stderr


def test_an_instruction_set_that_is_not_here_is_refused_with_those_that_are():
    done = run("abacus", "import backends; backends.get('numba')")
    assert "MINIDL_ISA=abacus: this processor has portable" in done.stderr
    assert "BackendUnavailable" in done.stderr


def test_a_processor_is_taken_at_its_features():
    """The best is last; what a processor lacks ends the process, so nothing is guessed."""
    every = dict.fromkeys(("avx2", "fma", "avxvnni", "avx512f", "avx512bw", "avx512vnni"), True)
    for missing, best in (
        ((), "avx512-vnni"),
        (("avx512vnni",), "avx512"),
        (("avx512bw",), "avx2-vnni"),
        (("avx512f", "avxvnni"), "avx2"),
        (("fma",), "portable"),
    ):
        features = every | dict.fromkeys(missing, False)
        assert microkernel.present(features, "x86_64")[-1].name == best
    assert microkernel.present({"dotprod": True}, "aarch64")[-1].name == "neon-dot"
    assert microkernel.present({}, "arm64")[-1].name == "neon"
