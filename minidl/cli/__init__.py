"""The command line: `minidl doctor`."""

from __future__ import annotations

import argparse
import sys

from .. import __version__
from . import doctor


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    >>> main(["--version"])
    minidl ...
    0
    """
    parser = argparse.ArgumentParser("minidl", description="A deep-learning engine to read.")
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    commands = parser.add_subparsers(dest="command")
    about = "try a kernel on every backend; say what works, what is missing and how to get it"
    commands.add_parser("doctor", help=about, description=about)
    chosen = parser.parse_args(arguments)
    if chosen.version:
        print(f"minidl {__version__}")
        return 0
    if chosen.command == "doctor":
        print(doctor.report())
        return 0
    parser.print_help(sys.stderr)
    return 2
