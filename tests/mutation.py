"""Mutation testing: break the code in one small way, and see whether a test of that room fails.

    python -m pip install -e ".[numba,examples,test,mutation]"
    python -m tests.mutation --count 300 --seed 0

cosmic-ray says which small ways there are: another operator, number or comparison, a condition
turned round, a decorator left out. A random sample of the places that it finds is drawn, and at
each one of its mutants. Left out are type annotations and the text of error messages. Each mutant
runs in a copy of the tree in a temporary folder, on the NumPy backend, the tests with the name of
its file first. Survivors explained in mutation_survivors.md do not count. Results go to a file
after every mutant: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import json
import math
import os
import queue
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import NormalDist

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

from minidl.training.atomic import write_bytes

ROOT = Path(__file__).resolve().parent.parent
EXPLAINED = Path(__file__).with_name("mutation_survivors.md")
REFERENCE = ("conformance", "numpy_specific", "completeness", "registry")
ROOMS = {  # name -> the code, its tests
    "ops": ("minidl/ops", ["tests/ops", "tests/nn"]),
    "compress": ("minidl/compress", ["tests/compress"]),
    "numpy": ("backends/numpy_backend", [f"tests/backends/test_{n}.py" for n in REFERENCE]),
}
SETTINGS = {
    "MINIDL_TEST_LEVEL": "quick", "MINIDL_TEST_BACKENDS_ONLY": "numpy",
    "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
}  # fmt: skip
PYTEST = ["-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider"]
MEMORY = 8 * 2**30  # bytes: a mutant may ask for an array as large as the machine
NO_TESTS = 5  # pytest's exit code if it found none to run


@dataclass(frozen=True)
class Mutant:
    """One change to one file; `digest` is of the file before it."""

    room: str
    path: str
    line: int
    operator: str
    occurrence: int
    digest: str

    def code(self) -> str:
        """The whole file with the change."""
        source = (ROOT / self.path).read_text("utf-8")
        return mutate_code(source, get_operator(self.operator)(), self.occurrence)

    def diff(self) -> list[str]:
        """The lines that differ, without indentation, after "-" and "+"."""
        before = (ROOT / self.path).read_text("utf-8").splitlines()
        lines = list(difflib.unified_diff(before, self.code().splitlines(), n=0, lineterm=""))[2:]
        return [f"{t[0]} {t[1:].strip()}" for t in lines if t[0] in "-+"]


def left_out(source: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where the annotations are, and the texts of what is raised."""
    parts: list[ast.AST | None] = []
    for node in ast.walk(ast.parse(source)):
        parts += [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.Raise):
            parts += [n for n in ast.walk(node) if isinstance(n, (ast.JoinedStr, ast.Constant))]
    for part in filter(None, parts):
        yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


def places(room: str) -> dict[tuple, list[Mutant]]:
    """The mutants of a room by the place that they change (operators with arguments: unused)."""
    found: dict[tuple, list[Mutant]] = {}
    for path in sorted((ROOT / ROOMS[room][0]).rglob("*.py")):
        source = path.read_text("utf-8")
        digest = hashlib.sha256(source.encode()).hexdigest()[:16]
        nodes, skip = list(ast_nodes(get_ast(source))), list(left_out(source))
        for name in operator_names():
            if get_operator(name).arguments():
                continue
            operator = get_operator(name)()
            where = (place for node in nodes for place in operator.mutation_positions(node))
            for occurrence, (start, end) in enumerate(where):
                if not any(low <= start and end <= high for low, high in skip):
                    relative = path.relative_to(ROOT).as_posix()
                    mutant = Mutant(room, relative, start[0], name, occurrence, digest)
                    found.setdefault((relative, start, end), []).append(mutant)
    return found


def sample(room: str, count: int, seed: int) -> list[Mutant]:
    """One mutant at each of `count` random places of a room; what is no Python is drawn again.

    The line's text decides, so that an edit elsewhere in the file does not change the sample.
    """
    ranks = []
    for (path, start, _), mutants in places(room).items():
        line = (ROOT / path).read_text("utf-8").splitlines()[start[0] - 1]
        rng = random.Random(f"{seed} {path} {start[1]} {line}")
        ranks.append((rng.random(), rng.choice(mutants)))
    drawn: list[Mutant] = []
    for _, mutant in sorted(ranks, key=lambda pair: pair[0]):
        try:
            ast.parse(mutant.code())
        except SyntaxError:  # say a lone * between parameters, taken for a product
            continue
        drawn.append(mutant)
        if len(drawn) == count:
            break
    return drawn


def passes(tree: Path, room: str, options: list[str], seconds: float) -> bool | None:
    """Whether the tests of the room pass in a copy of the tree; None if they take too long."""
    limit = partial(resource.setrlimit, resource.RLIMIT_AS, (MEMORY, MEMORY))
    process = subprocess.Popen(
        [sys.executable, *PYTEST, *options, *ROOMS[room][1]], cwd=tree, start_new_session=True,
        env={**os.environ, **SETTINGS, "PYTHONPATH": str(tree)}, preexec_fn=limit,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        return process.wait(seconds) in (0, NO_TESTS)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def put(path: Path, text: str) -> None:
    """Write a module; its bytecode is dated to the second, which is not enough here."""
    path.write_text(text, "utf-8")
    for cached in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        cached.unlink()


def outcome(mutant: Mutant, tree: Path, seconds: float) -> str:
    """killed, timeout or survived."""
    path, stem = tree / mutant.path, Path(mutant.path).stem
    original = path.read_text("utf-8")
    put(path, mutant.code())
    try:
        for options in (["-k", stem], [mutant.path]):  # the second also runs its doctests
            passed = passes(tree, mutant.room, options, seconds)
            if not passed:
                return "timeout" if passed is None else "killed"
        return "survived"
    finally:
        put(path, original)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927, J. Am. Stat. Assoc. 22).

    >>> [round(x, 3) for x in wilson(95, 100)]
    [0.888, 0.978]
    """
    if not count:
        return 0.0, 1.0
    z, share = NormalDist().inv_cdf(0.975), hits / count
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return (middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count)


def explained() -> list[tuple[str, str, str]]:
    """File or folder, text before and text after, of what the checked-in list explains."""
    found, path, text = [], "", EXPLAINED.read_text("utf-8")
    for heading, before, after in re.findall(r"^## (.*)$|^    - (.*)\n    \+ ?(.*)$", text, re.M):
        path = path if before else heading.replace("everywhere", "")
        if before:
            found.append((path, before, after))
    return found


def is_explained(row: dict, known: list[tuple[str, str, str]]) -> bool:
    """Whether an entry turns the lines before the mutation into those after it."""
    old, new = ("\n".join(t[2:] for t in row["diff"] if t[0] == s).strip() for s in "-+")
    return any(
        row["path"].startswith(path)
        and any(
            old[: m.start()] + after + old[m.end() :] == new
            for m in re.finditer(re.escape(before), old)
        )
        for path, before, after in known
    )


def outcomes(
    todo: list[Mutant], workers: int, seconds: float, minutes: float
) -> Iterator[tuple[Mutant, str]]:
    """Each mutant with its outcome, as they come in; ends early when the minutes are over."""
    trees: queue.SimpleQueue[Path] = queue.SimpleQueue()
    deadline = time.monotonic() + 60 * minutes

    def test(mutant: Mutant) -> str | None:
        if time.monotonic() > deadline:
            return None
        tree = trees.get()
        try:
            return outcome(mutant, tree, seconds)
        finally:
            trees.put(tree)

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(workers) as pool:
        skip = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "runs")
        copies = [Path(folder) / str(i) for i in range(workers)]
        for copy in copies:
            trees.put(shutil.copytree(ROOT, copy, ignore=skip))
        for room in {m.room for m in todo}:
            if not passes(copies[0], room, [], seconds):
                sys.exit(f"the tests of {room} fail, or take too long, without any mutant")
        futures = {pool.submit(test, m): m for m in todo}
        try:
            for done in as_completed(futures):
                if done.result() is not None:
                    yield futures[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def score(results: list[dict], room: str) -> dict:
    """The share of mutants that were killed, without those that are explained; printed as well."""
    mine, known = [r for r in results if room in (r["room"], "all")], explained()
    killed = sum(r["outcome"] != "survived" for r in mine)
    left = [r for r in mine if r["outcome"] == "survived" and not is_explained(r, known)]
    count = killed + len(left)
    low, high = wilson(killed, count)
    for r in left if room != "all" else ():
        print(f"{r['path']}:{r['line']}", *r["diff"], sep="\n    ")
    print(
        f"{room}: {killed} of {count} killed, {killed / max(count, 1):.1%} (95 % interval "
        f"{low:.1%} to {high:.1%}); {len(mine) - count} of {len(mine)} explained"
    )
    return {
        "mutants": len(mine), "killed": killed, "explained": len(mine) - count,
        "score": killed / max(count, 1), "interval": [low, high],
        "survivors": [f"{r['path']}:{r['line']} {' '.join(r['diff'])}" for r in left],
    }  # fmt: skip


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=300, help="mutants, shared among the rooms")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rooms", nargs="+", choices=ROOMS, default=list(ROOMS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=120, help="seconds; longer is killed")
    parser.add_argument("--minutes", type=float, default=1e6, help="then stop, to go on later")
    parser.add_argument("--again", action="store_true", help="test recorded survivors once more")
    parser.add_argument("--record", type=Path, default=ROOT / "runs" / "mutation.json")
    return parser.parse_args()


def main() -> None:
    """Draw, test, record, report."""
    chosen = options()
    share = -(-chosen.count // len(chosen.rooms))
    drawn = [m for room in chosen.rooms for m in sample(room, share, chosen.seed)]
    old: dict[Mutant, dict] = {}
    if chosen.record.exists():
        for row in json.loads(chosen.record.read_text("utf-8"))["mutants"]:
            old[Mutant(**{name: row[name] for name in Mutant.__dataclass_fields__})] = row
    rows = {m: old[m] for m in drawn if m in old}
    again = {m for m in rows if chosen.again and rows[m]["outcome"] == "survived"}
    todo = [m for m in drawn if m not in rows or m in again]
    random.Random(chosen.seed).shuffle(todo)  # so that part of a run says something of every room

    def save(**more: dict) -> None:
        record = {"seed": chosen.seed, **more, "mutants": list(rows.values())}
        write_bytes(chosen.record, json.dumps(record, indent=1).encode())

    chosen.record.parent.mkdir(parents=True, exist_ok=True)
    for mutant, result in outcomes(todo, chosen.workers, chosen.timeout, chosen.minutes):
        rows[mutant] = {**asdict(mutant), "diff": mutant.diff(), "outcome": result}
        print(f"{len(rows)} of {len(drawn)}: {mutant.path}:{mutant.line} {result}", flush=True)
        save()
    save(scores={room: score(list(rows.values()), room) for room in [*chosen.rooms, "all"]})


if __name__ == "__main__":
    main()
