"""The one decorator: what every kernel of this backend is compiled with, and how it is launched.

A kernel is written once and compiled in two forms, on first use of each: `kernel(...)` runs its
`prange` loops on Numba's threads, `kernel.serial(...)` on the calling thread.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar, cast
from zlib import crc32

import numba as numba_typed

# Numba's type information varies from version to version and does not know all of these names.
numba: Any = numba_typed
config: Any = numba.config

F = TypeVar("F", bound=Callable[..., Any])

# What a sum may do: change its order and fuse multiply with add. NaN, infinity and signed zero of
# single results survive; `fastmath=True` would break isnan.
REASSOCIATE = {"contract", "reassoc", "nsz", "arcp"}

# GNU OpenMP launches in 1 us, TBB in 2 us, workqueue in 80 us; a choice made outside is respected.
if "NUMBA_THREADING_LAYER" not in os.environ and "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
    config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]

# GNU OpenMP reads this when its library is loaded, at the first launch. Its idle threads spin for
# tens of milliseconds by default: beside any other busy thread (NumPy's BLAS, another process) a
# launch then waits for the scheduler, 8 to 16 ms. After 10000 turns, about 0.2 ms, they sleep: a
# launch still takes 5 us when it follows soon, and 25 us where it took 16 ms.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# Numba recompiles a cached kernel when the file that holds it changes, but not when a helper in
# another file does. So these files' contents are part of the name a kernel is cached under.
_SHARED = (
    "jit.py",
    "conv_micro.py",
    "dots.py",
    "finish.py",
    "frames.py",
    "int8_planes.py",
    "ir_words.py",
    "lines.py",
    "microkernel.py",
    "outline.py",
    "random.py",
    "recurrent_loops.py",
    "softmax.py",
    "sparse_micro.py",
    "vector_math.py",
)
VERSION = crc32(
    b"".join((Path(__file__).parent / name).read_bytes() for name in _SHARED)
    + os.environ.get("MINIDL_ISA", "").encode()  # see microkernel.isa
)


class _Local(threading.local):
    count = 0  # Numba keeps the number of its threads for each Python thread


class _Threads:
    """What this process may do with Numba's threads."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.exclusive = True  # one launch at a time, until the layer is known to allow more
        self.launched = False
        self.count = 0  # how many to use; 0 for all
        self.local = _Local()
        self.lost = False  # forked after a launch: the threads stayed in the parent

    def adopt(self) -> None:
        """Bring the calling thread to the number that holds for all."""
        numba.set_num_threads(self.count)
        self.local.count = self.count

    @contextlib.contextmanager
    def one_at_a_time(self) -> Iterator[None]:
        """Around a launch, until the layer is known to allow several."""
        with self.lock:
            yield
            self.launched = True
            self.exclusive = numba.threading_layer() == "workqueue"

    def after_fork(self) -> None:
        self.lock = threading.RLock()
        if self.launched and numba.threading_layer() != "workqueue":  # which restarts its threads
            self.lost = self.exclusive = True


THREADS = _Threads()
RUNNING = threading.local()  # .kernel: the one that runs, or is compiled, on this thread
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=THREADS.after_fork)


def _compile(function: Callable[..., Any], cache: bool = True, **options: Any) -> Any:
    """njit with a disk cache; without one where no directory can be written."""
    options = {"error_model": "numpy", "nogil": True, **options}
    try:
        return numba.njit(cache=cache, **options)(function)
    except RuntimeError:  # "cannot cache function": not even a user-wide cache directory
        return numba.njit(**options)(function)


def compile_c(function: Callable[..., Any], signature: Any, fastmath: Any = False) -> Any:
    """A function with an address, of a signature in C, with a disk cache where possible."""
    options = {"error_model": "numpy", "fastmath": fastmath}
    try:
        return numba.cfunc(signature, cache=True, **options)(function)
    except RuntimeError:  # as in `_compile`
        return numba.cfunc(signature, **options)(function)


def _renamed(function: Callable[..., Any], form: str) -> Callable[..., Any]:
    """The same code under another qualified name, which is what Numba's disk cache goes by."""
    assert isinstance(function, FunctionType)
    twin = FunctionType(function.__code__, function.__globals__, function.__name__)
    twin.__module__ = function.__module__
    twin.__qualname__ = f"{function.__qualname__}.{form}.{VERSION:08x}"
    return twin


class Kernel:
    """A compiled loop nest; called, it runs in parallel (see `kernel`)."""

    def __init__(self, function: Callable[..., Any], fastmath: Any, calls: Sequence[Any]) -> None:
        self.__doc__ = function.__doc__
        self.calls, self.outlined = calls, bool(calls)
        self.ready: set[Any] = set()  # the arguments' dtypes with which it has run
        self.file, self.name = function.__module__.rpartition(".")[2], function.__name__
        self._options = {
            "_serial": {"fastmath": fastmath},
            "_parallel": {"fastmath": fastmath, "parallel": True},
        }
        self._serial, self._parallel = (
            _compile(_renamed(function, form.lstrip("_")), **options)
            for form, options in self._options.items()
        )

    def __call__(self, *arguments: Any) -> Any:
        """Run on Numba's threads."""
        if THREADS.lost:
            warn_of_fork()
            return self.serial(*arguments)
        if THREADS.exclusive or THREADS.local.count != THREADS.count:
            return launch(self._run, "_parallel", arguments)
        return self._run("_parallel", arguments)

    def serial(self, *arguments: Any) -> Any:
        """Run on the calling thread."""
        return self._run("_serial", arguments)

    def sized(self, work: int, parallel_from: int) -> Callable[..., Any]:
        """The form that pays: parallel if there is enough work to make up for the launch."""
        return self if work >= parallel_from else self.serial

    def _run(self, form: str, arguments: tuple[Any, ...]) -> Any:
        """Call a form; a cache that cannot be read or written costs time, not the result."""
        if self.outlined:
            self.prepare(arguments)
        compiled = getattr(self, form)
        try:
            return compiled(*arguments)
        except OSError:  # kernels raise none: it comes from the cache, before anything has run
            compiled = _compile(compiled.py_func, cache=False, **self._options[form])
            setattr(self, form, compiled)
            return compiled(*arguments)

    def prepare(self, arguments: tuple[Any, ...]) -> None:
        """Compile the pieces that it calls, the first time; `arguments[0]` tells the dtype."""
        RUNNING.kernel = self
        dtype = arguments[0].dtype
        if dtype in self.ready or config.DISABLE_JIT:
            return
        from .outline import prepare  # which needs this module

        prepare(self.calls, arguments)
        self.ready.add(dtype)


def launch(call: Callable[..., Any], *arguments: Any) -> Any:
    """Let a call start Numba's threads: one at a time where the threading layer cannot do more."""
    if THREADS.local.count != THREADS.count:
        THREADS.adopt()
    if not THREADS.exclusive:
        return call(*arguments)
    with THREADS.one_at_a_time():
        return call(*arguments)


def warn_of_fork() -> None:
    warnings.warn(
        "this process was forked after the Numba backend had started its threads, which do not"
        " survive a fork: its kernels run on one thread here. Start processes with 'spawn'"
        " (multiprocessing.set_start_method('spawn')) to have them run on all.",
        RuntimeWarning,
        stacklevel=4,
    )


def kernel(
    *, exact: bool = False, calls: Sequence[Any] = ()
) -> Callable[[Callable[..., Any]], Kernel]:
    """Compile a function over plain arrays, on first use per dtype, with a cache on disk.

    exact: every operation as written, so that bits agree with NumPy's; otherwise sums may be
    reordered (vectorised) and multiply-add fused. calls: the pieces that it calls, see `outline`;
    the first argument must then be an array.

    >>> from numba import prange
    >>> import numpy as np
    >>> @kernel(exact=True)
    ... def double(x):
    ...     for i in prange(x.size):
    ...         x[i] *= 2
    >>> x = np.arange(3.0)
    >>> double(x)
    >>> x
    array([0., 2., 4.])
    """
    return lambda function: Kernel(function, False if exact else REASSOCIATE, calls)


def helper(function: F) -> F:
    """Compile a function that kernels call; LLVM builds it into them."""
    return cast("F", numba.njit(error_model="numpy", nogil=True)(function))


def lane(function: F) -> F:
    """A helper that LLVM builds into a loop however long it is, so that the loop can vectorise."""
    return cast("F", numba.njit(error_model="numpy", nogil=True, forceinline=True)(function))


def inlined(function: F) -> F:
    """A helper whose text is put in place of the call before compiling, constants and all.

    LLVM vectorises an ordinary helper before it knows the arguments, and a loop with an unknown
    stride not at all. Compiling takes longer, so this is for a few lines.
    """
    return cast("F", numba.njit(inline="always")(function))


def set_num_threads(count: int) -> None:
    """Let kernels use `count` threads from now on, or all that Numba started if they are fewer."""
    THREADS.count = min(count, config.NUMBA_NUM_THREADS)


def get_num_threads() -> int:
    """How many threads kernels use."""
    return THREADS.count or int(numba.get_num_threads())


def layer() -> str:
    """The threading layer in use, or how it will be chosen."""
    with contextlib.suppress(ValueError):  # Numba's way of saying that nothing was launched yet
        return str(numba.threading_layer())
    chosen = config.THREADING_LAYER
    return str(chosen if chosen != "default" else "first of " + ", ".join(priority()))


def priority() -> list[str]:
    """Threading layers in the order in which they are tried."""
    return list(config.THREADING_LAYER_PRIORITY)
