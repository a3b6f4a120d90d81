"""Every kernel of every `.cu` file under AddressSanitizer, on arrays without a byte to spare.

The kernels run in a process of their own (tests/cuda_on_cpu/sanitizer.py), which ends at the first
access outside an array: reads too, of which guard bytes know nothing. By default that is float32 in
two thread orders; `MINIDL_TEST_LEVEL=full python -m pytest tests/backends/test_cupy_sanitizer.py`
adds float64 and the conformance suite.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import backends
from backends.cupy_backend import CupyBackend, kernels
from backends.cupy_backend.libraries import Libraries
from minidl.verify.conformance import every_run, level
from tests import cuda_on_cpu, cupy_standin
from tests.cuda_on_cpu import sanitizer, thread_order

from . import test_cupy_kernels as cases

FULL = os.environ.get("MINIDL_TEST_LEVEL") == "full"
ORDERS = (0, 1)  # warps in step and ascending; warps apart and descending
F32 = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def _sanitizer() -> None:
    if sanitizer.missing() is not None:
        pytest.skip(str(sanitizer.missing()))


# -- what runs in the other process ------------------------------------------------------------


@contextmanager
def printed_launches() -> Iterator[CupyBackend]:
    """A backend without cuBLAS; at the end, as JSON, which kernels it launched, of which file."""
    backend = CupyBackend(Libraries(cupy_standin.cupy, cupy_standin.erf, None))
    launch, ended = backend._kernels.launch, set()

    def spy(file, name, *args):
        launch(file, name, *args)
        ended.add((file, name))

    backend._kernels.launch = spy
    yield backend
    print(json.dumps(sorted(ended)))


def exact_cases(dtype: str) -> None:
    with printed_launches() as backend:
        element = np.dtype(dtype).type
        for order in ORDERS:
            with thread_order(order):
                for case in cases.EXACT:
                    case(backend, element)
                for classes in cases.CLASSES:
                    cases.losses(backend, *cases.loss_arguments(classes, element))


def conformance() -> None:
    with level("quick"), printed_launches() as backend:
        for run in every_run():
            run(backend, backends.get("numpy"))


# -- the run -----------------------------------------------------------------------------------


def launched(call: str) -> set[tuple[str, str]]:
    """The kernels that a function of this module launched in the other process, unharmed."""
    done = sanitizer.run(f"from {__name__} import *\n{call}\n")
    assert done.returncode == 0, done.stderr
    return {(file, name) for file, name in json.loads(done.stdout)}


def every_kernel() -> set[tuple[str, str]]:
    texts = {path.name: path.read_text(encoding="utf-8") for path in kernels.FOLDER.glob("*.cu")}
    return {
        (file, name)
        for file, text in texts.items()
        for name in re.findall(r"__global__\s+void\s+(\w+)", text)
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"] if FULL else ["float32"])
def test_every_kernel_stays_within_its_arrays(dtype):
    expected = every_kernel()
    if dtype == "float64":  # these have no float in them and are launched as float32's
        expected -= {("random.cu", "philox"), ("integers.cu", "int8_matmul")}
    assert len(expected) > 20
    assert not expected - launched(f"exact_cases({dtype!r})"), "these were never launched"


@pytest.mark.skipif(not FULL, reason="40 s under AddressSanitizer: MINIDL_TEST_LEVEL=full runs it")
def test_the_conformance_suite_stays_within_its_arrays():
    assert launched("conformance()") == every_kernel()


# -- the proof that it would see something -----------------------------------------------------

OVERFLOW = 'extern "C" __global__ void successor(const int* x, int* y) { y[0] = x[0] + 1; }'
PLANTED = {  # file, kernel, what is changed, what the report says of it
    "read past an array in the heap": (
        "losses.cu", "cross_entropy", "c < classes; c += blockDim.x)\n        largest", "<=",
        r"heap-buffer-overflow.*READ of size 4.* in cross_entropy \S*losses\.cu:{line}\b",
    ),
    "read past a shared array": (
        "normalize.cu", "layer_norm_param_grad", "slice < SLICES", "<=",
        r"normalize\.cu:\d+:\d+: runtime error: index 8 out of bounds",
    ),
}  # fmt: skip


def planted(case: str, spoilt: bool = True) -> list[np.ndarray]:
    """The results of a kernel after one < of its text has become <=."""
    file, kernel, place, wrong, _ = PLANTED[case]
    text = kernels.source(file)
    assert text.count(place) == 1
    if spoilt:
        text = text.replace(place, place.replace("<", wrong, 1))
    module = cuda_on_cpu.Module(text, kernels.options(F32))
    x, number = np.arange(5, dtype=F32), np.int32
    if kernel == "cross_entropy":
        results = [np.zeros(1, F32), np.zeros(5, F32)]
        rule = [np.array([2]), x, number(0), np.int64(-100), np.float32(0)]
        module.kernel(kernel)((1,), (32,), [x, *rule, *results, number(5)])
    else:
        results, one = [np.zeros(5, F32), np.zeros(5, F32)], np.ones(1, F32)
        arguments = [x, x, one, one, *results, number(1), number(5)]
        module.kernel(kernel)((1,), (32, 8), arguments)
    return results


@pytest.mark.parametrize("case", PLANTED)
def test_a_read_outside_an_array_is_named(case):
    file, _, place, _, expected = PLANTED[case]
    own = (kernels.FOLDER / file).read_text(encoding="utf-8")
    line = own[: own.index(place)].count("\n") + 2
    done = sanitizer.run(f"from {__name__} import *\nplanted({case!r})\n")
    assert done.returncode != 0
    assert re.search(expected.replace("{line}", str(line)), done.stderr, re.S), done.stderr


def test_guard_bytes_do_not_see_such_a_read():
    case = "read past an array in the heap"
    for spoilt, right in zip(planted(case), planted(case, spoilt=False), strict=True):
        np.testing.assert_array_equal(spoilt, right)


def successor() -> None:
    x, y = np.array([2**31 - 1], np.int32), np.zeros(1, np.int32)
    cuda_on_cpu.Module(OVERFLOW).kernel("successor")((1,), (1,), [x, y])


def test_an_integer_that_overflows_is_named():
    successor()
    done = sanitizer.run(f"from {__name__} import *\nsuccessor()\n")
    assert done.returncode != 0
    assert "signed integer overflow: 2147483647 + 1" in done.stderr, done.stderr
