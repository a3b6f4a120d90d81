"""A contestant in a process of its own, seen from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from . import mkl
from .contestants import Contestant

WORKER = Path(__file__).parent.parent / "worker.py"
ANSWER_SECONDS = 300  # after which a process that says nothing is ended; compilers take their time
# How many threads: one variable for each library's pool (the last two are JAX's).
THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC",
    "PJRT_NPROC",
)  # fmt: skip
# Set on some machines to protect old builds of OpenBLAS; they would slow a current NumPy.
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
CACHES = ("NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")


class Lost(Exception):
    """A contestant that cannot go on; the message says why."""


class Process:
    """Prepares, checks and runs one row for one contestant. Every method may raise `Lost`."""

    def __init__(
        self, contestant: Contestant, file: Path, row: str, folder: Path, threads: int, cold: bool
    ) -> None:
        self.contestant = contestant
        self._result = Path(tempfile.mkdtemp(dir=folder)) / "result.npz"
        task = {
            "file": str(file), "row": row, "contestant": contestant.name,
            "given": str(folder / "given.npz"), "result": str(self._result),
        }  # fmt: skip
        environment = self._environment(folder, threads, cold)
        self._started = time.perf_counter()
        self._log = self._result.with_name("errors").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(task)], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
        )  # fmt: skip

    def _environment(self, folder: Path, threads: int, cold: bool) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key not in UNSET}
        made = dict.fromkeys(THREADS, str(threads))
        if cold:
            made |= dict.fromkeys(CACHES, str(self._result.parent))
        if self.contestant.fast_mkl:
            made["LD_PRELOAD"] = str(mkl.answer_yes(folder))
        return kept | made

    def prepare(self) -> dict[str, Any]:
        """Seconds until the first step was done: of the import, of the rest, and of everything."""
        answer = self._ask("prepare")
        return answer | {"start_to_first_step_s": time.perf_counter() - self._started}

    def check(self) -> tuple[dict[str, Any], list[np.ndarray]]:
        """Memory in bytes, and what the first steps computed."""
        answer = self._ask("check")
        with np.load(self._result) as file:
            return answer, list(file.values())

    def run(self) -> float:
        """Seconds per step in one turn."""
        return float(self._ask("run")["seconds"])

    def _ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            print(command, file=self._process.stdin, flush=True)
        with ended_after(ANSWER_SECONDS, self._process):
            line = self._process.stdout.readline()
        if not line:
            raise Lost(f"its process ended with code {self._process.wait()}. {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Lost(answer["error"])
        return answer

    def _last_words(self) -> str:
        self._log.seek(0)
        return (self._log.read().strip().splitlines() or ["It said nothing."])[-1][:300]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        with ended_after(10, self._process):
            self._process.wait()
        self._process.stdout.close()
        self._log.close()


@contextmanager
def ended_after(seconds: float, process: subprocess.Popen[str]) -> Iterator[None]:
    """End the process if the block takes longer; whoever waits for it hears that it is gone."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
