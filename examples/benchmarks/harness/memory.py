"""Memory of this process, in bytes, as the system counts it: pages that are really there."""

from __future__ import annotations

import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def now() -> int | None:
    """Resident at this moment; None where the system does not say."""
    return _field("VmRSS")


def peak() -> int | None:
    """The most that was resident since the start, or since `forget_peak`; None on Windows."""
    if STATUS.exists():
        return _field("VmHWM")
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> None:
    """Let the peak start from what is resident now. Only Linux can."""
    if STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5")


def _field(name: str) -> int | None:
    if not STATUS.exists():
        return None
    lines = (line.split() for line in STATUS.read_text().splitlines())
    return next((int(line[1]) * 1024 for line in lines if line[0] == f"{name}:"), None)
