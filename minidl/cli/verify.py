"""`minidl verify`: hold a backend to the whole contract, and print how it did."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from ..errors import ArgumentError
from ..training.atomic import write_bytes
from .options import new_file, working_backend


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    about = "run the conformance kit on a backend; exit code 1 if it fails"
    parser = commands.add_parser("verify", help=about, description=about)
    parser.add_argument("--backend", type=working_backend, required=True, help="its name")
    parser.add_argument(
        "--level", choices=("quick", "default", "full"), default="quick",
        help="8, 25 or 300 examples of each property (default: quick)",
    )  # fmt: skip
    parser.add_argument("--only", nargs="+", default=[], metavar="METHOD", help="only these rows")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="save all figures")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table and a program for each row that fails; 0 if none does."""
    try:
        from ..verify import verify  # here, because Hypothesis is an extra

        report = verify(options.backend, options.level, options.only, progress=sys.stderr.isatty())
    except (ImportError, ArgumentError) as error:
        print(f"minidl verify: {error}", file=sys.stderr)
        return 2
    print(report)
    for row in report.rows:
        if row.failures:
            more = f" ({len(row.failures)} in all)" if len(row.failures) > 1 else ""
            print(f"\n--- {row.subject} fails{more}:\n\n{row.failures[0]}")
    if options.json:
        write_bytes(options.json, json.dumps(report.to_dict(), indent=1).encode())
        print(f"figures: {options.json}")
    return 0 if report.passed else 1
