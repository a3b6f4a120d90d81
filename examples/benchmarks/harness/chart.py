"""One picture from a JSON file: how many times as fast, and how time grows with the work."""

from __future__ import annotations

import io
from typing import Any

from .contestants import CONTESTANTS, OURS

ROW_HEIGHT, WIDTH = 0.32, 10  # inches
MARKS = dict(zip(OURS, ("D", "o", "*", "P"), strict=True))
GROWTH = {"batch": "sample", "depth": "layer"}  # a size that grows, and what time is given for


def draw(found: dict[str, Any], kind: str) -> bytes:
    """The picture as a file of this kind, png for example."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    growth = [r for r in found["results"] if r["workload"] == "scaling"]
    rows = [r for r in found["results"] if r["workload"] != "scaling"]
    rows = [r for r in rows if any(_drawn(cells) for cells in r["ratios"].values())]
    # Growth alone needs no panel of ratios; nothing at all still makes a picture.
    heights = [max(3.5, 1 + ROW_HEIGHT * len(rows))] * bool(rows or not growth)
    heights += [3.5] * bool(growth)
    figure = plt.figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    if rows or not growth:
        _ratios(parts[0].subplots(), rows)
    if growth:
        _growth(parts[-1].subplots(1, 2), growth)
    e = found["environment"]
    figure.suptitle(f"{e['processor']['model']}, {e['threads']} threads, {e['date']}", fontsize=9)
    image = io.BytesIO()
    figure.savefig(image, format=kind, dpi=120)
    plt.close(figure)
    return image.getvalue()


def _drawn(cells: dict[str, Any]) -> dict[str, Any]:
    """Those others with whom we may compare: no ratio is drawn where the results disagree."""
    return {name: cell for name, cell in cells.items() if "ratio" in cell and name not in OURS}


def _ratios(axes: Any, rows: list[dict[str, Any]]) -> None:
    """One line for each row, one colour for each of the others, one mark for each of ours."""
    others = [name for name in CONTESTANTS if name not in OURS]
    present = set()
    for place, row in enumerate(rows):
        for mine in _shown(row):
            for name, cell in _drawn(row["ratios"][mine]).items():
                low, high = cell.get("interval", [cell["ratio"]] * 2)
                look = {"color": f"C{others.index(name)}", "alpha": 0.7}
                axes.plot([low, high], [place, place], linewidth=1, **look)
                axes.plot(cell["ratio"], place, MARKS[mine], **look)
                present |= {mine, name}
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    labels = [f"{r['title'].split(',')[0]}, {r['row']}" for r in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    axes.set_xlabel("times as fast as the other library (memory: as little), log scale")
    marks = [(m, {"marker": MARKS[m], "color": "black"}) for m in OURS if m in present]
    marks += [
        (f"beside {name}", {"marker": "s", "color": f"C{k}"})
        for k, name in enumerate(others)
        if name in present
    ]
    named = [axes.plot([], [], label=name, linestyle="none", **look)[0] for name, look in marks]
    axes.legend(handles=named, fontsize=7, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def _shown(row: dict[str, Any]) -> list[str]:
    """Those of ours that a row is about: the NumPy backend only where it is alone."""
    mine = list(row["ratios"])
    return [name for name in mine if name != "minidl numpy"] or mine


def _growth(panels: Any, results: list[dict[str, Any]]) -> None:
    """Seconds for each sample over the batch, and for each layer over the depth."""
    for axes, (size, unit) in zip(panels, GROWTH.items(), strict=True):
        lines: dict[str, list[tuple[int, float]]] = {}
        for result in results:
            n = result["sizes"].get(size)
            for name, found in result["contestants"].items():
                if n and "seconds" in found:
                    lines.setdefault(name, []).append((n, found["seconds"]["median"] / n * 1e6))
        for name, points in lines.items():
            axes.plot(*zip(*sorted(points), strict=True), "o-", label=name, markersize=4)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        for scale in (axes.xaxis, axes.yaxis):
            scale.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.set(xlabel=size, ylabel=f"microseconds per {unit}")
        axes.grid(alpha=0.3, which="both")
        if lines:
            axes.legend(fontsize=7, frameon=False)
