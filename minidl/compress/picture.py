"""The picture of a report: what accuracy costs in milliseconds."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..engine import arguments
from ..training import write_bytes


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """The points (cost, worth) that no other beats: at most the cost and at least the worth.

    In the order of their costs.

    >>> frontier([(3.0, 0.9), (1.0, 0.5), (2.0, 0.4)])
    [1, 0]
    """
    found: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not found or points[i][1] > points[found[-1]][1]:
            found.append(i)
    return found


def draw_frontier(stages: Sequence[Any], file: str | Path) -> None:
    """Accuracy with its interval against the time of a sample in large batches, of all stages.

    The area of a point is the size of its file; stages on the line are beaten by no other.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    target = arguments.path("plot", "file", file)
    figure, panel = plt.subplots(figsize=(8, 4.2), constrained_layout=True)
    points = [(1e6 / stage.throughput, 100 * stage.accuracy) for stage in stages]
    line = frontier(points)
    panel.plot(*zip(*(points[i] for i in line), strict=True), "-", color="#55a868", linewidth=1,
               zorder=1, label="beaten by none")  # fmt: skip
    largest = max(stage.bytes for stage in stages)
    for i, (stage, (x, y)) in enumerate(zip(stages, points, strict=True)):
        low, high = (100 * end for end in stage.interval)
        colour = "#c44e52" if i == 0 else "#4c72b0"
        panel.errorbar(x, y, yerr=[[max(y - low, 0)], [max(high - y, 0)]], color=colour,
                       elinewidth=0.8, capsize=2, alpha=0.6, zorder=2)  # fmt: skip
        panel.scatter(x, y, s=20 + 380 * stage.bytes / largest, color=colour, alpha=0.6, zorder=3)
        angle = 2 * math.pi * i / len(points) + math.pi / 2  # stages may lie on one another
        panel.annotate(str(i + 1), (x, y), textcoords="offset points", fontsize=9, color=colour,
                       xytext=(18 * math.cos(angle), 18 * math.sin(angle)), ha="center",
                       va="center", zorder=4)  # fmt: skip
        panel.plot([], [], "o", color=colour, alpha=0.6,
                   label=f"{i + 1}  {stage.name}, {stage.bytes / 1000:.0f} kB")  # fmt: skip
    panel.set(xlabel=f"time of a sample in batches of {stages[0].large} (µs, median)",
              ylabel="accuracy (%), 95 % interval")  # fmt: skip
    panel.margins(x=0.12, y=0.2)
    panel.set_ylim(top=min(panel.get_ylim()[1], 101))
    panel.set_title("areas are file sizes", fontsize=9)
    panel.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    panel.spines[["top", "right"]].set_visible(False)
    image = io.BytesIO()
    figure.savefig(image, format=target.suffix[1:] or "png", dpi=120)
    plt.close(figure)
    write_bytes(target, image.getvalue())
