"""Time operations and training steps on every backend that works here, fairly.

    python examples/compare_backends.py --threads 2 --json speed.json --plot speed.png

Each backend runs in a process of its own, because the idle threads of one library slow the other.
The processes take turns, round after round (A B A B ...), so that a change of the machine's speed
hits all alike; each turn begins with a tenth of a second that is not counted. What a row computes
is compared first: where the backends disagree, no ratio is printed. The first call, which compiles,
is reported apart. Figures are medians, with the quartiles behind them.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import backends
import minidl
from minidl import nn, ops, optim
from minidl.cli.options import new_file, picture, positive, working_backend
from minidl.training import write_bytes

Work = Callable[[], Any]  # does the work once; returns an array to compare, or a loss
ROWS: dict[str, Callable[[], Work]] = {}
SAMPLE_SECONDS = 0.02  # one sample repeats the work for at least this long
PAUSE = 0.15  # seconds until the BLAS threads of the one before stop spinning and go to sleep
WARM_UP = 0.1  # seconds at the start of a turn, until threads that slept are spread over the cores
AGREEMENT = 1e-3  # how far, relatively, the compared sums may differ in float32


def row(name: str) -> Callable[[Callable[[], Work]], Callable[[], Work]]:
    def add(make: Callable[[], Work]) -> Callable[[], Work]:
        ROWS[name] = make
        return make

    return add


def draw(*shape: int) -> minidl.Tensor:
    return minidl.randn(*shape, generator=minidl.Generator(sum(shape)))


def both_ways(function: Callable[..., minidl.Tensor], *inputs: minidl.Tensor) -> Work:
    """Forward and backward of an operation."""
    leaves = [x.requires_grad_() if x.dtype.kind == "f" else x for x in inputs]
    # Not a constant and not like the input: gradients of softmax or layer norm would cancel to 0.
    seed = minidl.randn(*function(*leaves).shape, generator=minidl.Generator(1))

    def work() -> Any:
        wanted = [x for x in leaves if x.requires_grad]
        return minidl.grad(function(*leaves), wanted, seed)[0].data

    return work


@row("add 1000x1000")
def _add() -> Work:
    a, b = draw(1000, 1000).data, draw(1000, 1000).data
    return lambda: minidl.get_backend().add(a, b)


@row("exp 1000x1000")
def _exp() -> Work:
    x = draw(1000, 1000).data
    return lambda: minidl.get_backend().exp(x)


@row("sum of rows 1000x1000")
def _sum() -> Work:
    x = draw(1000, 1000).data
    return lambda: minidl.get_backend().sum(x, 1)


@row("matmul 64x784x256")
def _matmul_small() -> Work:
    a, b = draw(64, 784).data, draw(784, 256).data
    return lambda: minidl.get_backend().matmul(a, b)


@row("matmul 1024x1024x1024")
def _matmul_large() -> Work:
    a, b = draw(1024, 1024).data, draw(1024, 1024).data
    return lambda: minidl.get_backend().matmul(a, b)


@row("int8 matmul 64x1024x1024")
def _int8() -> Work:
    a, b = ((ops.clip(draw(n, 1024), -3, 3) * 40).astype("int8").data for n in (64, 1024))
    return lambda: minidl.get_backend().int8_matmul(a, b)


@row("tanh 64x1024, both ways")
def _tanh() -> Work:
    return both_ways(ops.tanh, draw(64, 1024))


@row("gelu 64x1024, both ways")
def _gelu() -> Work:
    return both_ways(ops.gelu, draw(64, 1024))


@row("softmax 256x1000, both ways")
def _softmax() -> Work:
    return both_ways(lambda x: ops.softmax(x, 1), draw(256, 1000))


@row("cross entropy 256x1000, both ways")
def _cross_entropy() -> Work:
    labels = minidl.arange(256)
    return both_ways(lambda x: ops.cross_entropy(x, labels, reduction="none"), draw(256, 1000))


@row("layer norm 256x512, both ways")
def _layer_norm() -> Work:
    return both_ways(lambda x: ops.layer_norm(x, 512), draw(256, 512))


@row("batch norm 32x32x28x28, both ways")
def _batch_norm() -> Work:
    return both_ways(lambda x: ops.batch_norm(x, None, None, training=True), draw(32, 32, 28, 28))


@row("conv 3x3 32->64 28x28, batch 8, both ways")
def _conv() -> Work:
    return both_ways(
        lambda x, w: ops.conv2d(x, w, padding=1), draw(8, 32, 28, 28), draw(64, 32, 3, 3)
    )


@row("max pool 2x2 32x32x28x28, both ways")
def _max_pool() -> Work:
    return both_ways(lambda x: ops.max_pool2d(x, 2), draw(32, 32, 28, 28))


@row("embedding 5000x64, 64x128 words, both ways")
def _embedding() -> Work:
    words = minidl.tensor(minidl.Generator(1).integers(0, 5000, 64 * 128)).reshape(64, 128)
    return both_ways(lambda table: ops.embedding(table, words), draw(5000, 64))


@row("dropout 1000x1000")
def _dropout() -> Work:
    x = draw(1000, 1000).data
    return lambda: minidl.get_backend().dropout(x, 0.5, 1, 0)[0]


@row("Adam, 235k parameters")
def _adam() -> Work:
    weight = nn.Parameter(draw(235146))
    optimizer = optim.Adam([weight], lr=1e-6)
    weight.grad = draw(235146)

    def work() -> Any:
        optimizer.step()
        return weight.data

    return work


def training(model: nn.Module, *shape: int) -> Work:
    """One step: forward, cross entropy, backward, Adam. Returns the loss."""
    x = draw(*shape)
    labels = minidl.tensor(np.arange(shape[0]) % 10)
    optimizer = optim.Adam(model.parameters(), lr=1e-6)  # hardly moves, so that rounds stay alike

    def work() -> Any:
        loss = ops.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.data

    return work


@row("training step, MLP 784-256-128-10, batch 64")
def _mlp() -> Work:
    sizes = (784, 256, 128, 10)
    layers = [nn.Linear(sizes[0], sizes[1]), nn.ReLU(), nn.Linear(sizes[1], sizes[2]), nn.ReLU()]
    return training(nn.Sequential(*layers, nn.Linear(sizes[2], sizes[3])), 64, 784)


@row("training step, LeNet 28x28, batch 64")
def _lenet() -> Work:
    features = [nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    features += [nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    head = [nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    return training(nn.Sequential(*features, *head), 64, 1, 28, 28)


# -- one process for each backend ------------------------------------------------------------------


def worker(name: str) -> None:
    """Answer "prepare ROW" and "sample ROW" on standard input with one JSON line each."""
    minidl.use_backend(name)
    backend = minidl.get_backend()
    prepared: dict[str, tuple[Work, int]] = {}
    print(json.dumps(backend.describe()), flush=True)
    for line in sys.stdin:
        command, _, which = line.strip().partition(" ")
        if command == "prepare":
            minidl.manual_seed(0)
            started = time.perf_counter()
            work = ROWS[which]()
            result = np.asarray(backend.to_numpy(work()), "float64")
            first = time.perf_counter() - started
            elapsed = 0.0
            for _ in range(3):  # warm up: caches, thread pools, the allocator
                elapsed = timed(work, 1, backend)
            prepared[which] = work, max(1, round(SAMPLE_SECONDS / max(elapsed, 1e-7)))
            answer: Any = {"first": first, "sum": float(np.abs(result).sum())}
        else:
            work, repeats = prepared[which]
            awake = time.perf_counter() + WARM_UP
            while time.perf_counter() < awake:
                timed(work, repeats, backend)
            answer = timed(work, repeats, backend) / repeats
        print(json.dumps(answer), flush=True)


def timed(work: Work, repeats: int, backend: backends.Backend) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    backend.synchronize()
    return time.perf_counter() - started


class Contestant:
    """A backend in its own process."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
        environment = os.environ | dict.fromkeys(limits, str(threads))
        command = [sys.executable, __file__, "--worker", name]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.details = self.answer()

    def ask(self, command: str) -> Any:
        assert self.process.stdin is not None
        print(command, file=self.process.stdin, flush=True)
        return self.answer()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the process of backend {self.name} ended early; its error is above")
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(contestants: list[Contestant], name: str, rounds: int) -> dict[str, Any]:
    """One row of the table: seconds of each backend, or why they cannot be compared."""
    ready = {c.name: c.ask(f"prepare {name}") for c in contestants}
    sums = {n: r["sum"] for n, r in ready.items()}
    reference = next(iter(sums.values()))
    wrong = [n for n, s in sums.items() if not abs(s - reference) <= AGREEMENT * abs(reference)]
    result: dict[str, Any] = {"row": name, "sums": sums, "disagree": wrong, "backends": {}}
    samples: dict[str, list[float]] = {c.name: [] for c in contestants}
    for _ in range(rounds):
        for c in contestants:
            time.sleep(PAUSE)
            samples[c.name].append(c.ask(f"sample {name}"))
    for n, values in samples.items():
        low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
        result["backends"][n] = {
            "median_s": median, "quartiles_s": [low, high], "first_call_s": ready[n]["first"],
        }  # fmt: skip
    return result


# -- what a person sees ----------------------------------------------------------------------------


def duration(seconds: float) -> str:
    for unit, scale in (("s ", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:7.3g} {unit}"
    return f"{seconds * 1e9:7.3g} ns"


def print_row(result: dict[str, Any], names: list[str]) -> None:
    cells = []
    base = result["backends"][names[0]]["median_s"]
    for n in names:
        found = result["backends"][n]
        low, high = found["quartiles_s"]
        spread = (high - low) / 2 / found["median_s"]
        ratio = "disagree" if result["disagree"] else f"{base / found['median_s']:5.2f}x"
        cells.append(f"{duration(found['median_s'])} +-{spread:4.0%} {ratio:>8}")
    print(f"{result['row']:<44}" + "  |".join(cells), flush=True)
    if result["disagree"]:
        print(f"    {result['disagree']} computed something else: {result['sums']}")


def draw_chart(results: list[dict[str, Any]], names: list[str], file: Path, machine: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.36 * len(results)), constrained_layout=True)
    height = 0.8 / len(names)
    for k, n in enumerate(names):
        ratios = [
            r["backends"][names[0]]["median_s"] / r["backends"][n]["median_s"] for r in results
        ]
        places = [i + (k - (len(names) - 1) / 2) * height for i in range(len(results))]
        bars = axes.barh(places, ratios, height, label=n)
        axes.bar_label(bars, [f"{r:.2f}" for r in ratios], padding=3, fontsize=7)
    axes.set_yticks(range(len(results)), [r["row"] for r in results], fontsize=8)
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.12)
    axes.set(xlabel=f"times as fast as {names[0]} (log scale)", title=machine)
    axes.title.set_fontsize(9)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.07), ncols=len(names), frameon=False)
    image = io.BytesIO()
    figure.savefig(image, format=file.suffix[1:], dpi=120)
    write_bytes(file, image.getvalue())
    print(f"picture: {file}")


def names_of(text: str) -> list[str]:
    return [working_backend(name) for name in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--backends", type=names_of, help="comma separated; default: every one that works"
    )
    parser.add_argument("--rows", default="", help="only rows whose name contains this text")
    parser.add_argument("--rounds", type=positive, default=15)
    parser.add_argument("--threads", type=positive, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=new_file, metavar="FILE", help="save all figures")
    parser.add_argument(
        "--plot", type=picture, metavar="FILE", help="save a bar chart (needs matplotlib)"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker)
        return
    names = options.backends or backends.available()
    rows = [r for r in ROWS if options.rows in r]
    if not rows:
        raise SystemExit(f"no row contains {options.rows!r}; there are: {', '.join(ROWS)}")
    contestants = [Contestant(name, options.threads) for name in names]
    machine = f"{platform.processor() or platform.machine()}, {options.threads} thread(s)"
    for c in contestants:
        print(f"{c.name}: " + "; ".join(f"{k} {v}" for k, v in c.details.items()))
        machine = f"{c.details.get('device', machine)}, {options.threads} thread(s)"
    print(
        f"\n{'median +- half the interquartile range, and':<44}"
        + "  |".join(f"{n:^28}" for n in names)
    )
    print(f"times as fast as {names[0]}")
    results = []
    for name in rows:
        results.append(compare(contestants, name, options.rounds))
        print_row(results[-1], names)
    for c in contestants:
        first = sum(r["backends"][c.name]["first_call_s"] for r in results)
        print(f"first calls on {c.name}, compiling included: {first:.1f} s in all")
        c.close()
    if options.json:
        about = {"machine": machine, "python": platform.python_version(), "rounds": options.rounds}
        about |= {"details": {c.name: c.details for c in contestants}, "rows": results}
        write_bytes(options.json, json.dumps(about, indent=1).encode())
        print(f"figures: {options.json}")
    if options.plot:
        draw_chart(results, names, options.plot, machine)


if __name__ == "__main__":
    main()
