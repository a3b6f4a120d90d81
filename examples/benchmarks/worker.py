"""One contestant in a process of its own: prepares a row, proves its result, runs steps when told.

Started by `harness/process.py`, never by hand. It answers each line on standard input with a line
of JSON. Apart from NumPy it imports the contestant's library only, and measures what that takes.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from harness import memory
from harness.contestants import CONTESTANTS, Contestant
from harness.workload import load, row_of

SAMPLE_SECONDS = 0.04  # one turn times the step for at least this long
# Threads that slept wake up on one core and are spread slowly, more so if another program is about.
# A turn counts once a tenth of a second has passed and the steps are as fast as they have been,
# up to a tenth, but begins after a second at the latest.
WARM_UP, LATEST, NEAR = 0.1, 1.0, 1.1
MEASURED_STEPS = 3  # whose peak memory is taken
Step = Callable[[], Any]


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to the errors
    task = json.loads(sys.argv[1])
    turns = Worker(**task)
    for line in sys.stdin:
        try:
            answer = getattr(turns, line.strip())()
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), file=answers, flush=True)


class Worker:
    """Answers "prepare", "check" and "run", in this order."""

    def __init__(self, file: str, row: str, contestant: str, given: str, result: str) -> None:
        self.listing = load(Path(file))
        self.module, _ = row_of(self.listing, row)
        self.contestant = CONTESTANTS[contestant]
        self.given, self.result = given, result

    def prepare(self) -> dict[str, Any]:
        """Import the library, build the model, do the first step, which may compile."""
        started = time.perf_counter()
        compiled, self.finish = library(self.contestant)
        imported = time.perf_counter()
        self.memory_at_first = memory.now()
        with np.load(self.given) as file:
            given = dict(file)
        build = getattr(self.module, f"in_{self.contestant.dialect}")
        self.step: Step = build(given, compiled)
        self.first = arrays(self.finish(self.step()))
        done = time.perf_counter()
        return {"import_s": imported - started, "first_step_s": done - imported}

    def check(self) -> dict[str, Any]:
        """Leave what the first steps compute in a file; measure memory, and how long a step is."""
        steps = getattr(self.listing, "STEPS", 5)
        results = [self.first, *(arrays(self.finish(self.step())) for _ in range(steps - 1))]
        np.savez(self.result, *(np.stack(same) for same in zip(*results, strict=True)))
        memory.forget_peak()
        self.finish([self.step() for _ in range(MEASURED_STEPS)][-1])
        peak = memory.peak()
        self.fastest = min(self.timed(1) for _ in range(3))
        self.repeats = max(1, round(SAMPLE_SECONDS / max(self.fastest, 1e-7)))
        return {"memory_imported": self.memory_at_first, "memory_peak": peak}

    def run(self) -> dict[str, Any]:
        """One turn: seconds per step."""
        started, part = time.perf_counter(), max(1, self.repeats // 4)
        while (passed := time.perf_counter() - started) < LATEST:
            now = self.timed(part) / part
            self.fastest = min(now, self.fastest)
            if passed > WARM_UP and now < NEAR * self.fastest:
                break
        return {"seconds": self.timed(self.repeats) / self.repeats}

    def timed(self, repeats: int) -> float:
        started = time.perf_counter()
        for _ in range(repeats):
            result = self.step()
        self.finish(result)
        return time.perf_counter() - started


def library(contestant: Contestant) -> tuple[Callable[[Step], Step], Callable[[Any], Any]]:
    """The library's compiler (or what leaves a function alone), and how to wait for a result."""
    compiler = finish = unchanged
    if contestant.backend:
        import minidl

        minidl.use_backend(contestant.backend)
        compiler = minidl.compile(fullgraph=True) if contestant.compiled else unchanged
        if contestant.package == "cupy":
            finish = waited_for(minidl.get_backend())
    elif contestant.package == "torch":
        import torch

        compiler = torch.compile if contestant.compiled else unchanged
    elif contestant.package == "jax":
        import jax

        compiler, finish = jax.jit, jax.block_until_ready
    elif contestant.package == "dezero":
        vars(np)["int"] = int  # DeZero 0.0.13 uses the name, which NumPy dropped
    import_module(contestant.package)
    return compiler, finish


def waited_for(backend: Any) -> Callable[[Any], Any]:
    """On a GPU a step has only been asked for when it returns."""

    def finish(result: Any) -> Any:
        backend.synchronize()
        return result

    return finish


def unchanged(x: Any) -> Any:
    return x


def arrays(result: Any) -> list[np.ndarray]:
    """A step's result in NumPy: copies, since the next step may write into the same memory."""
    items = result if isinstance(result, (tuple, list)) else [result]
    return [np.array(plain(x)) for x in items]


def plain(x: Any) -> Any:
    if hasattr(x, "detach"):  # minidl, PyTorch
        return x.detach().numpy()
    if hasattr(x, "get"):  # CuPy
        return x.get()
    return x.data if hasattr(x, "creator") else x  # MyGrad, DeZero; the others are arrays


if __name__ == "__main__":
    main()
