"""What a person sees of a running epoch: a bar on a terminal, and one line when it is done."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from .history import Row, shown

Mode = bool | str


class Progress:
    """One epoch's bar on standard error, and its line on standard output.

    mode True: the bar only where standard error is a terminal, so that a log stays readable;
    "bar": the bar in any case; False: nothing at all.
    """

    def __init__(self, mode: Mode, title: str, samples: int, done: int = 0) -> None:
        self._title = title
        self._bar: Any = None
        terminal = sys.stderr is not None and sys.stderr.isatty()
        self._line = mode is not False
        if mode == "bar" or (mode is True and terminal):
            from tqdm import tqdm

            self._bar = tqdm(
                desc=self._title,
                total=samples,
                initial=done,
                unit=" samples",
                unit_scale=True,
                leave=False,  # the line of `finish` takes its place
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, samples: int) -> None:
        """So many samples more."""
        if self._bar is not None:
            self._bar.update(samples)

    def show(self, numbers: Row) -> None:
        """The numbers so far, from the next time that the bar is drawn."""
        if self._bar is not None:
            self._bar.set_postfix_str(_text(numbers), refresh=False)

    def finish(self, row: Row) -> None:
        """The numbers of the whole epoch, on a line that stays."""
        numbers = {k: v for k, v in row.items() if k not in ("epoch", "seconds", "samples_per_s")}
        if self._bar is not None:
            self._bar.close()
        if self._line:
            rate = f"{shown(row['seconds'])} s, {shown(row['samples_per_s'])} samples/s"
            print(f"{self._title}: {_text(numbers)} ({rate})", flush=True)


def _text(numbers: Row) -> str:
    return ", ".join(f"{name} {shown(value)}" for name, value in numbers.items())
