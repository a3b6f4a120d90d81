"""One row: every contestant prepares, proves its result, and takes its turns."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from . import figures, machine
from .contestants import OURS, Contestant
from .mkl import NotHere
from .process import Lost, Process
from .workload import LOSSES, Row

Found = dict[str, dict[str, Any]]  # by contestant


class Duel:
    """What happens to one row of a workload, in order."""

    def __init__(
        self, module: ModuleType, row: Row, contestants: Iterable[Contestant], *, rounds: int,
        threads: int, cold: bool = False,
    ) -> None:  # fmt: skip
        self.module, self.row, self.contestants = module, row, list(contestants)
        self.rounds, self.threads, self.cold = rounds, threads, cold
        self.found: Found = {c.name: {"status": "not installed"} for c in self.contestants}
        self.results: dict[str, list[np.ndarray]] = {}
        self.running: dict[str, Process] = {}
        self.busy_turns = 0

    def fight(self) -> dict[str, Any]:
        """Everything that is to be said about the row, ready for JSON."""
        figure = getattr(self.module, "FIGURE", "time")
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            folder = Path(name)
            np.savez(folder / "given.npz", **(self.row.of or self.module).given(**self.row.sizes))
            try:
                self._start_all(folder)
                if figure == "time":
                    self._take_turns()
            finally:
                for process in self.running.values():
                    process.close()
        return {
            "workload": self.module.__name__, "title": self.module.TITLE, "row": self.row.name,
            "sizes": self.row.sizes, "samples": self.row.samples, "figure": figure,
            "rounds": self.rounds, "busy_turns": self.busy_turns, "contestants": self.found,
            "ratios": self._ratios(figure),
        }  # fmt: skip

    def _start_all(self, folder: Path) -> None:
        """One after the other, so that nobody's first step is slowed by another's."""
        file = Path(str(self.module.__file__))
        for contestant in self.contestants:
            if not contestant.installed:
                continue
            machine.wait_until_quiet()
            try:
                process = Process(contestant, file, self.row.name, folder, self.threads, self.cold)
            except NotHere as reason:
                self.found[contestant.name] = {"status": str(reason)}
                continue
            self.running[contestant.name] = process
            with self._losing(contestant.name):
                first = process.prepare()
                memory, self.results[contestant.name] = process.check()
                self.found[contestant.name] = {"status": "ok", **first, **memory}

    def _take_turns(self) -> None:
        """A B C A B C ..., each turn after a pause; whoever is lost on the way is out."""
        times: dict[str, list[float]] = {name: [] for name in self.running}
        for _ in range(self.rounds):
            for name in list(self.running):
                self.busy_turns += not machine.wait_until_quiet()
                with self._losing(name):
                    times[name].append(self.running[name].run())
        for name in self.running:
            self.found[name]["seconds"] = figures.spread(times[name])

    @contextmanager
    def _losing(self, name: str) -> Iterator[None]:
        """Whoever fails in the block is out, with the reason."""
        try:
            yield
        except Lost as reason:
            self.found[name] = {"status": f"failed: {reason}"}
            self.running.pop(name).close()

    def _ratios(self, figure: str) -> dict[str, dict[str, Any]]:
        """For each contestant of ours, against each other one."""
        alive = [name for name in self.results if self.found[name]["status"] == "ok"]
        ours = [name for name in alive if name in OURS]
        return {a: {b: self._ratio(a, b, figure) for b in alive if b != a} for a in ours}

    def _ratio(self, ours: str, theirs: str, figure: str) -> dict[str, Any]:
        """How much better ours is; refused where they did not compute the same."""
        tolerance = getattr(self.module, "TOLERANCE", LOSSES)
        apart = figures.difference(self.results[ours], self.results[theirs], tolerance)
        if apart:
            return {"refused": f"results disagree: {apart}"}
        a, b = self.found[ours], self.found[theirs]
        if figure == "memory":
            return figures.memory_ratio(b, a)
        return figures.ratio(b["seconds"]["all"], a["seconds"]["all"])
