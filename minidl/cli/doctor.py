"""What works on this machine: each backend is started and has to compute something."""

from __future__ import annotations

import argparse
import os
import platform
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

import backends
from backends import Backend, BackendError

from .. import ops
from ..engine.creation import rand
from ..engine.graph import grad
from ..engine.modes import get_backend
from ..engine.random import Generator
from ..engine.tensor import Tensor

PACKAGES = (
    "numpy", "safetensors", "tqdm", "numba", "threadpoolctl", "cupy-cuda12x",
    "cupy-cuda13x", "scikit-learn", "matplotlib",
)  # fmt: skip
# Room for float32 rounding in a convolution of 9 products and its gradient: 64 roundings' worth.
AGREEMENT = 64 * float(np.finfo(np.float32).eps)


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    about = "try a kernel on every backend; say what works, what is missing and how to get it"
    parser = commands.add_parser("doctor", help=about, description=about)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the diagnosis."""
    print(report())
    return 0


@dataclass
class Diagnosis:
    """One backend's state: whether it works, why not, and what it says about itself."""

    name: str
    works: bool
    reason: str = ""
    seconds: float = 0.0
    details: dict[str, str] = field(default_factory=dict)


def diagnose(name: str) -> Diagnosis:
    """Start a backend, run a convolution forward and backward, and compare with NumPy's numbers.

    >>> diagnose("numpy").works
    True
    >>> diagnose("abacus").reason
    "no backend is called 'abacus'; known: ..."
    """
    start = time.perf_counter()
    try:
        backend = backends.get(name)
        worst = max(
            float(np.abs(got - want).max())
            for got, want in zip(_try(backend), _try(get_backend("numpy")), strict=True)
        )
    except BackendError as error:
        return Diagnosis(name, False, str(error))
    except Exception as error:  # a broken driver can fail in any way: that is the finding
        return Diagnosis(name, False, f"its kernels fail: {type(error).__name__}: {error}")
    if not worst <= AGREEMENT:
        return Diagnosis(name, False, f"its numbers are wrong: off by {worst:.2g} from NumPy's")
    return Diagnosis(name, True, "", time.perf_counter() - start, backend.describe())


def _try(backend: Backend) -> list[np.ndarray]:
    draw = Generator(0)
    x, weight = (
        rand(*shape, generator=draw, backend=backend, requires_grad=True)
        for shape in ((1, 1, 8, 8), (2, 1, 3, 3))
    )
    y: Tensor = ops.relu(ops.conv2d(x, weight, padding=1) - 2)
    return [t.numpy() for t in (y, *grad(y.sum() / y.size, (x, weight)))]


def report() -> str:
    """The diagnosis of every known backend and the versions of what they stand on, as text.

    >>> "numpy" in report()
    True
    """
    lines = [
        f"minidl {_installed('minidl')} on Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "",
    ]
    for found in map(diagnose, backends.names()):
        state = f"works ({found.seconds:.1f} s to start and try)" if found.works else found.reason
        lines.append(f"{'+' if found.works else '-'} {found.name:<8} {state}")
        lines += [f"    {key}: {value}" for key, value in found.details.items()]
    versions = [f"{name} {v}" for name in PACKAGES if (v := _installed(name))]
    settings = [f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith("MINIDL_")]
    lines += ["", "installed: " + ", ".join(versions)]
    if settings:
        lines.append("settings: " + ", ".join(settings))
    return "\n".join(lines)


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)" if package == "minidl" else ""
