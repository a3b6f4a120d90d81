"""The machine: what explains a timing, and whether anyone else is using it."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "numpy", "numba", "scipy", "cupy", "torch", "jax", "mygrad", "dezero", "onnxruntime",
)  # fmt: skip
INSTRUCTIONS = (
    "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimd",
    "asimddp", "sve",
)  # fmt: skip
PAUSE = 0.15  # seconds until the threads of the one before stop spinning and go to sleep
GLANCE = 0.08  # seconds over which the load is looked at
QUIET = 0.85  # the part of the processors' time that must be idle
PATIENCE = 2.0  # seconds to wait for that, before the turn is taken all the same


def environment(threads: int) -> dict[str, Any]:
    """Everything that a reader of the figures has to know, for the JSON file."""
    return {
        "processor": processor() | {"cores": os.cpu_count()},
        "instructions_asked_for": os.environ.get("MINIDL_ISA", "all"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "threads": threads,
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache
def processor() -> dict[str, Any]:
    """Maker, model and the vector instructions that matter here."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    told = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    flags = told.get("flags", told.get("Features", "")).split()
    return {
        "maker": told.get("vendor_id", ""),
        "model": told.get("model name") or platform.processor() or platform.machine(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
    }


def wait_until_quiet() -> bool:
    """Pause until spinning threads sleep and the machine is idle; whether it was, in the end."""
    give_up = time.monotonic() + PATIENCE
    time.sleep(PAUSE - GLANCE)
    while _idle(GLANCE) < QUIET:
        if time.monotonic() > give_up:
            return False
    return True


def _idle(seconds: float) -> float:
    """The part of all processors' time in which nothing ran, or only what makes way (niced)."""
    before = _ticks()
    time.sleep(seconds)
    passed = [b - a for a, b in zip(before, _ticks(), strict=True)]
    _, nice, _, idle, waiting, *_ = passed or [0] * 8
    return (nice + idle + waiting) / sum(passed) if sum(passed) else 1.0


def _ticks() -> list[int]:
    """user, nice, system, idle, iowait, irq, softirq, steal; empty where nobody counts."""
    file = Path("/proc/stat")
    return [int(n) for n in file.read_text().split(maxsplit=9)[1:9]] if file.exists() else []


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    """What is checked out here, with a + if it was changed since."""
    here = Path(__file__).parent
    try:
        command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        done = subprocess.run(command, cwd=here, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"
