"""Compare minidl with other libraries, fairly, on the workloads beside this file.

    python examples/benchmarks/run.py --only mlp,lenet --json speed.json --plot speed.png

Libraries that are not installed are named; `pip install "minidl[peers]"` brings them.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from harness import machine, report
from harness.contestants import CONTESTANTS
from harness.duel import Duel
from harness.workload import load, those_for

from minidl.cli.options import new_file, picture, positive
from minidl.training import write_bytes

HERE = Path(__file__).parent
WORKLOADS = (
    "mlp", "mlp_tiny", "lenet", "conv", "resnet8", "transformer_block", "lstm", "int8_linear",
    "sparse", "one_op", "numpy_peers", "memory", "scaling", "operations",
)  # fmt: skip


def names_from(known: Any) -> Any:
    """A type for argparse: names from a list, separated by semicolons or commas."""

    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(";" if ";" in text else ",")]
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown} unknown; there are: {'; '.join(known)}")
        return names

    return parse


def chosen_rows(options: argparse.Namespace) -> list[tuple[Any, Any]]:
    modules = [load(HERE / f"{name}.py") for name in options.only]
    return [(m, row) for m in modules for row in m.ROWS if options.rows in row.name]


def measure(options: argparse.Namespace, rows: list[tuple[Any, Any]]) -> list[dict[str, Any]]:
    results = []
    for module, row in rows:
        contestants = [c for c in those_for(module, row) if c.name in options.contestants]
        duel = Duel(
            module, row, contestants,
            rounds=options.rounds, threads=options.threads, cold=options.cold,
        )  # fmt: skip
        results.append(duel.fight())
        print(report.table(results[-1]), flush=True)
    return results


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--only", type=names_from(WORKLOADS), default=list(WORKLOADS), help="workloads, by commas")
    add("--rows", default="", help="only rows whose name contains this text")
    add(
        "--contestants", type=names_from(CONTESTANTS), default=list(CONTESTANTS),
        help="by semicolons, since some names have a comma",
    )  # fmt: skip
    add("--rounds", type=positive, default=15)
    add("--threads", type=positive, default=os.cpu_count() or 1)
    add("--cold", action="store_true", help="empty caches: first steps compile what they need")
    add("--load", type=Path, nargs="+", metavar="FILE", help="measure nothing; show saved figures")
    add("--markdown", action="store_true", help="print one table over all rows")
    add("--json", type=new_file, metavar="FILE", help="save all figures")
    add("--plot", type=picture, metavar="FILE", help="save a chart (needs matplotlib)")
    options = parser.parse_args()
    options.chosen = [] if options.load else chosen_rows(options)
    if not options.load and not options.chosen:
        parser.error(f"no row contains {options.rows!r}")
    return options


def loaded(files: list[Path]) -> dict[str, Any]:
    """What earlier runs saved, as if one had measured it all."""
    saved = [json.loads(file.read_text()) for file in files]
    results = [result for one in saved for result in one["results"]]
    print("\n".join(map(report.table, results)))
    return {"environment": saved[0]["environment"], "results": results}


def main() -> None:
    options = arguments()
    if options.load:
        found = loaded(options.load)
    else:
        environment = machine.environment(options.threads)
        print(report.about(environment))
        found = {"environment": environment, "results": measure(options, options.chosen)}
    if options.markdown:
        print("\n" + report.markdown(found["results"]))
    if options.json:
        write_bytes(options.json, json.dumps(found, indent=1).encode())
        print(f"figures: {options.json}")
    if options.plot:
        from harness import chart

        write_bytes(options.plot, chart.draw(found, options.plot.suffix[1:]))
        print(f"picture: {options.plot}")


if __name__ == "__main__":
    main()
