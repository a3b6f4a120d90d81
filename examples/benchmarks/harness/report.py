"""What was found, as tables: one for each row on the screen, one over all rows in Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .contestants import CONTESTANTS, OURS

Result = dict[str, Any]


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, scale in (("s ", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def table(result: Result) -> str:
    """One row of a workload: a line for each contestant, a column of ratios for each of ours."""
    ours = list(result["ratios"])
    lines = [f"\n{result['title']}, {result['row']}"]
    head = (
        f"{'':24}{'median':>9}  {'quartiles':^21}{'samples/s':>11}{'first step':>12}{'memory':>9}"
    )
    lines.append(head + "".join(f"  {name.removeprefix('minidl ') + ' is':>22}" for name in ours))
    notes = []
    for name, found in result["contestants"].items():
        if found["status"] != "ok":
            lines.append(f"{name:24}{found['status']}")
            continue
        cells = []
        for mine in ours:
            cell = result["ratios"][mine].get(name)
            if cell and "refused" in cell:
                notes.append(f"no ratio of {mine} to {name}: {cell['refused']}")
            cells.append(f"  {ratio(cell):>22}")
        lines.append(_figures(name, found, result["samples"]) + "".join(cells))
    if result["busy_turns"]:
        notes.append(f"the machine was busy with something else in {result['busy_turns']} turns")
    return "\n".join(lines + [f"  {note}" for note in notes])


def _figures(name: str, found: Result, samples: int) -> str:
    timing = " " * 41
    if "seconds" in found:
        seconds = found["seconds"]
        low, high = map(duration, seconds["quartiles"])
        timing = f"{duration(seconds['median']):>9}  {low:>9} .. {high:<9}"
        timing += f"{samples / seconds['median']:>10,.0f}"
    peak = found["memory_peak"]
    first = duration(found["first_step_s"])
    return f"{name:24}{timing}{first:>12}{f'{peak / 2**20:,.0f} MB' if peak else '?':>9}"


def ratio(cell: Result | None) -> str:
    """2.1x (2.0 to 2.2); empty for a contestant beside itself."""
    if cell is None:
        return ""
    if "refused" in cell:
        return "disagree"
    if "whole" in cell:
        return f"{cell['ratio']:.2f}x, {cell['whole']:.2f}x"
    low, high = cell["interval"]
    return f"{cell['ratio']:.2f}x ({low:.2f} to {high:.2f})"


def markdown(results: list[Result]) -> str:
    """All rows: how many times as fast as each of the others (the columns) each of ours is."""
    others = [
        n for n in CONTESTANTS if n not in OURS and any(n in r["contestants"] for r in results)
    ]
    head = ["workload", "minidl", "median", "samples/s", *others]
    lines = [" | ".join(head), "|".join(["---"] * len(head))]
    for result in results:
        if result["figure"] == "time":
            lines += (" | ".join(row) for row in _markdown_rows(result, others))
    return "\n".join(f"| {line} |" for line in lines)


def _markdown_rows(result: Result, others: list[str]) -> Iterator[list[str]]:
    for mine, ratios in result["ratios"].items():
        median = result["contestants"][mine]["seconds"]["median"]
        cells = []
        for name in others:
            status = result["contestants"].get(name, {}).get("status", "")
            cells.append(
                ratio(ratios[name]) if name in ratios else "" if status == "ok" else status
            )
        rate = f"{result['samples'] / median:,.0f}"
        what = f"{result['title']}, {result['row']}"
        yield [what, mine.removeprefix("minidl "), duration(median).strip(), rate, *cells]


def about(environment: dict[str, Any]) -> str:
    """The machine in two lines."""
    e, cpu = environment, environment["processor"]
    versions = ", ".join(f"{name} {version}" for name, version in e["versions"].items())
    return (
        f"{cpu['model']} ({', '.join(cpu['instructions'])}), {e['threads']} of {cpu['cores']} "
        f"processors, commit {e['commit']}\nPython {e['python']}, {versions}"
    )
