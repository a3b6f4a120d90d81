"""The command line: `minidl doctor`, `minidl verify`."""

from __future__ import annotations

import argparse
import sys

from .. import __version__
from . import doctor, verify


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    >>> main(["--version"])
    minidl ...
    0
    """
    parser = argparse.ArgumentParser("minidl", description="A deep-learning engine to read.")
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    commands = parser.add_subparsers()
    for command in (doctor, verify):
        command.add_parser(commands)
    chosen = parser.parse_args(arguments)
    if chosen.version:
        print(f"minidl {__version__}")
        return 0
    if not hasattr(chosen, "run"):
        parser.print_help(sys.stderr)
        return 2
    code: int = chosen.run(chosen)
    return code
