"""What is the Numba backend's own: threads, thresholds, forks, read-only arrays, the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import backends
from backends import BackendUnavailable

ROOT = Path(__file__).parents[2]
F32 = np.dtype(np.float32)
ONE, NONE = (1, 1), (0, 0)


@pytest.fixture(scope="module")
def numba_backend():
    try:
        return backends.get("numba")
    except BackendUnavailable as error:
        pytest.skip(str(error))


def values(*shape, seed=0):
    """float32 of every size, so that the order of a sum shows in its last bits."""
    return np.random.default_rng(seed).standard_normal(shape).astype(F32)


def whole(*shape, seed=0):
    """Small whole numbers: every sum of them is exact, in any order."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(F32)


def adam(backend):
    state = [values(1 << 15, seed=s) for s in range(3)] + [np.abs(values(1 << 15, seed=3))]
    backend.adam_step(*state, 3, 1e-3, 0.9, 0.999, 1e-8, 0.01, True)
    return state[0]


X, W, G = values(20, 4, 12, 12), values(6, 4, 3, 3, seed=1), values(20, 6, 12, 12, seed=2)
CALLS = {
    "conv2d": lambda b: b.conv2d(X, W, values(6), ONE, ONE, ONE, 1),
    "conv2d_input_grad": lambda b: b.conv2d_input_grad(G, W, X.shape, ONE, ONE, ONE, 1),
    "conv2d_weight_grad": lambda b: b.conv2d_weight_grad(G, X, W.shape, ONE, ONE, ONE, 1),
    "matmul": lambda b: b.matmul(values(150, 140), values(140, 130)),
    "linear": lambda b: b.linear(values(64, 400), values(120, 400), values(120)),
    "linear_grad": lambda b: np.concatenate(
        [
            g.reshape(-1)
            for g in b.linear_grad(
                values(64, 120), values(64, 400), values(120, 400), values(64, 120, seed=1), True
            )
        ]
    ),
    "max_pool2d": lambda b: b.max_pool2d(G, (2, 2), (2, 2), NONE)[1],
    "layer_norm": lambda b: b.layer_norm(values(200, 90), values(90), values(90), 1e-5)[0],
    "layer_norm_grad": lambda b: b.layer_norm_grad(
        values(200, 90), values(200, 90, seed=1), values(90), values(200, 1), values(200, 1)
    )[1],
    "batch_norm": lambda b: b.batch_norm(values(20, 9, 77), values(9), values(9), 1e-5)[1],
    "batch_norm of short channels": lambda b: b.batch_norm(
        values(50, 99, 3), values(99), values(99), 1e-5
    )[1],
    "sum": lambda b: b.sum(values(300, 301)),
    "sum of channels": lambda b: b.sum(values(40, 6, 400), (0, 2)),
    "softmax": lambda b: b.softmax(values(500, 20), 1),
    "logsumexp": lambda b: b.logsumexp(values(50, 300), 1),
    "gelu_grad": lambda b: b.gelu_grad(values(1 << 15), values(1 << 15, seed=1), "none"),
    "cross_entropy": lambda b: b.cross_entropy(values(500, 10), np.arange(500) % 10, None, -1, 0.1)[
        0
    ],
    "normal": lambda b: b.normal(5, 2**64 - 100, (9001,), F32),
    "dropout": lambda b: b.dropout(values(9001), 0.3, 5, 7)[0],
    "embedding_grad": lambda b: b.embedding_grad(values(900, 48), np.arange(900) % 7, 7),
    "relu": lambda b: b.relu(values(1 << 17)),
    "adam_step": adam,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_results_do_not_depend_on_the_number_of_threads(numba_backend, call):
    most = int(os.environ["NUMBA_NUM_THREADS"])
    try:
        numba_backend.set_num_threads(1)
        alone = call(numba_backend)
    finally:
        numba_backend.set_num_threads(most)
    assert alone.tobytes() == call(numba_backend).tobytes()


def test_two_python_threads_may_compute_at_once(numba_backend):
    expected = {name: call(numba_backend).tobytes() for name, call in CALLS.items()}

    def repeat(_):
        return all(
            call(numba_backend).tobytes() == expected[name]
            for _ in range(5)
            for name, call in CALLS.items()
        )

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(repeat, range(2)))


def test_both_sides_of_a_threshold_agree_with_numpy(numba_backend, reference):
    from backends.numba_backend import elementwise, linear, pool, reduce

    for size in range(elementwise.PARALLEL_FROM - 1, elementwise.PARALLEL_FROM + 2):
        a, b = values(size), values(size, seed=1)
        for name in ("add", "subtract", "multiply", "divide", "relu_grad"):
            same(numba_backend, reference, name, a, b)
        same(numba_backend, reference, "relu", a)
    for size in range(elementwise.SERIAL_FROM - 1, elementwise.SERIAL_FROM + 2):
        same(numba_backend, reference, "relu", values(size))
    for size in range(reduce.SUM_FROM - 1, reduce.SUM_FROM + 2):
        same(numba_backend, reference, "sum", whole(size))
    side = round(linear.LARGE ** (1 / 3))
    for n in range(side - 1, side + 2):
        same(numba_backend, reference, "matmul", whole(n, n), whole(n, n, seed=1))
    side = round((pool.PARALLEL_FROM / 4) ** 0.5)
    for n in range(side - 1, side + 2):
        x = whole(2, 2, n, n)
        same(numba_backend, reference, "avg_pool2d", x, (2, 2), (2, 2), NONE, True)
        index = reference.max_pool2d(x, (3, 3), (2, 2), ONE)[1]
        assert (numba_backend.max_pool2d(x, (3, 3), (2, 2), ONE)[1] == index).all()


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((5, 70, 60), (60, 65)),
        ((5, 70, 60), (5, 60, 65)),
        ((2, 3, 70, 60), (3, 60, 65)),
        ((2, 1, 70, 60), (3, 60, 65)),
        ((1, 80, 100), (3, 100, 80)),
        ((80, 100), (3, 100, 80)),
    ],
)
def test_large_stacks_of_matrices_agree_with_numpy(numba_backend, reference, a, b):
    from backends.numba_backend import linear

    x, y = whole(*a), whole(*b, seed=1)
    assert x.size * y.shape[-1] >= linear.LARGE
    same(numba_backend, reference, "matmul", x, y)
    x, y = (np.ascontiguousarray(m.swapaxes(-1, -2)).swapaxes(-1, -2) for m in (x, y))
    same(numba_backend, reference, "matmul", x, y)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_wide_images_are_averaged_as_numpy_does(numba_backend, reference, stride):
    """Line by line, not window by window, with rows of the window in the padding."""
    for padded in (False, True):
        options = (3, 3), (1, stride), ONE, padded
        same(numba_backend, reference, "avg_pool2d", whole(2, 3, 9, 150), *options)


@pytest.mark.parametrize("p", [1 - 2**-32, 1 - 2**-33, 1.0])
def test_dropout_of_all_but_everything(numba_backend, reference, p):
    """1 / (1 - p) grows without bound; from where no word is kept, it is not needed."""
    x = np.ones((3, 5))
    for backend in (numba_backend, reference):
        y, mask = backend.dropout(x, p, 5, 7)
        assert (y.shape, mask.dtype) == (x.shape, bool)
        assert not y.any()
        assert not mask.any()


def test_other_dtypes_are_left_to_numpy(numba_backend, reference):
    for dtype in (np.float16, np.int32):
        x = whole(4, 5).astype(dtype)
        same(numba_backend, reference, "relu_grad", x, x)
        same(numba_backend, reference, "add", x, x)


def same(numba_backend, reference, name, *arguments):
    got, expected = (getattr(b, name)(*arguments) for b in (numba_backend, reference))
    assert got.dtype == expected.dtype
    assert np.array_equal(got, expected), name


@pytest.mark.parametrize("size", [3, 1 << 17])
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
def test_either_operand_may_be_a_number(numba_backend, reference, name, size):
    x = values(size)
    for operands in ((2.0, x), (x, 2.0), (3, x)):
        same(numba_backend, reference, name, *operands)


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="nothing is compiled")
def test_odd_layouts_give_the_same_and_compile_nothing(numba_backend):
    from backends.numba_backend import conv

    def convolve(x):
        return numba_backend.conv2d(x, W, None, ONE, ONE, ONE, 1)

    expected = convolve(X)
    compiled = len(conv.convolve._parallel.signatures)
    read_only, fortran, strided = X.copy(), np.asfortranarray(X), np.repeat(X, 2, axis=3)[..., ::2]
    read_only.flags.writeable = False
    backwards = X[:, :, ::-1].copy()[:, :, ::-1]
    for x in (read_only, fortran, strided, backwards):
        before = x.copy()
        assert np.array_equal(convolve(x), expected)
        assert np.array_equal(x, before)
    repeated = np.broadcast_to(X[:1], X.shape)
    assert np.array_equal(convolve(repeated), convolve(repeated.copy()))
    assert len(conv.convolve._parallel.signatures) == compiled


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own, with this checkout to import from."""
    return subprocess.run(
        [sys.executable, "-c", "import numpy as np, backends\n" + script],
        cwd=ROOT, env={**os.environ, "NUMBA_DISABLE_JIT": "0", **environment}, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_computes_on_one_thread_and_says_so(numba_backend):
    result = run(
        """
import os, warnings
numba = backends.get("numba")
x = np.arange(200000, dtype=np.float32)
expected = numba.relu(x)
child = os.fork()
if child == 0:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        equal = (numba.relu(x) == expected).all()
    told = [w for w in caught if "spawn" in str(w.message)]
    os._exit(0 if equal and told else 3)
status = os.waitpid(child, 0)[1]
raise SystemExit(os.waitstatus_to_exitcode(status))
""",
        NUMBA_THREADING_LAYER="omp",
    )
    if "No threading layer could be loaded" in result.stderr:
        pytest.skip("this Numba has no OpenMP threading layer")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("outside", "inside"),
    [
        ({}, "10000"),
        ({"GOMP_SPINCOUNT": "77"}, "77"),
        ({"OMP_WAIT_POLICY": "active"}, "None"),
    ],
)
def test_idle_threads_spin_briefly_unless_told_otherwise(
    numba_backend, monkeypatch, outside, inside
):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)  # started here, the backend has set it
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    result = run(
        """
import os
backends.get("numba")
print(os.environ.get("GOMP_SPINCOUNT"))
""",
        **outside,
    )
    assert result.stdout.strip() == inside, result.stderr


def test_the_plainest_threading_layer_is_not_entered_twice(numba_backend):
    result = run(
        """
from concurrent.futures import ThreadPoolExecutor
numba = backends.get("numba")
x = np.arange(300000, dtype=np.float32)
with ThreadPoolExecutor(4) as pool:
    results = list(pool.map(lambda _: numba.relu(x).sum(), range(400)))
assert len(set(results)) == 1
assert "workqueue" in numba.describe()["threads"]
""",
        NUMBA_THREADING_LAYER="workqueue",
    )
    assert result.returncode == 0, result.stderr


def test_kernels_run_without_a_cache_directory(numba_backend, tmp_path):
    result = run(
        """
import os, shutil
from pathlib import Path
numba = backends.get("numba")
cache = Path(os.environ["NUMBA_CACHE_DIR"])
shutil.rmtree(cache)
cache.write_text("no longer a directory")
assert (numba.relu(np.full(5000, -1, np.float32)) == 0).all()
""",
        NUMBA_CACHE_DIR=str(tmp_path / "cache"),
    )
    assert result.returncode == 0, result.stderr


def test_a_missing_package_is_named_with_the_line_that_installs_it():
    result = run(
        """
import sys
sys.modules["numba"] = None
try:
    backends.get("numba")
except backends.BackendUnavailable as error:
    assert "needs numba" in str(error) and 'pip install "minidl[numba]"' in str(error), error
else:
    raise SystemExit("it started")
"""
    )
    assert result.returncode == 0, result.stderr
