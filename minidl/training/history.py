"""What `fit` returns: one row of numbers per epoch."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]

_HIDDEN = ("seconds",)  # in the rows and the log, but not in the table


class History(list[Row]):
    """A list of dicts, one per finished epoch, that prints as a table.

    `interrupted` tells whether Ctrl-C ended the run.

    >>> history = History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    >>> history.column("loss")
    [0.5, 0.25]
    >>> print(history)
    epoch    loss
        1  0.5000
        2  0.2500
    """

    interrupted: bool = False

    def column(self, name: str) -> list[Any]:
        """One value per epoch; None where an epoch has none of that name."""
        return [row.get(name) for row in self]

    def __str__(self) -> str:
        names = [n for n in dict.fromkeys(n for row in self for n in row) if n not in _HIDDEN]
        table = [names, *([shown(row.get(n)) for n in names] for row in self)]
        widths = [max(len(line[i]) for line in table) for i in range(len(names))]
        return "\n".join(
            "  ".join(text.rjust(w) for text, w in zip(line, widths, strict=True)) for line in table
        )


def shown(value: Any) -> str:
    """A number in few characters.

    >>> shown(0.123456), shown(1e-5), shown(3), shown(12345.6)
    ('0.1235', '1e-05', '3', '12346')
    """
    if not isinstance(value, float):
        return "" if value is None else str(value)
    if value and abs(value) < 1e-3:
        return f"{value:.3g}"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.0f}"
