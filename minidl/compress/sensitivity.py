"""Which layers bear pruning: each by itself, more and more of it, without training in between."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..engine import arguments
from ..nn import Module
from ..ops import check
from ..training import write_bytes
from . import prune
from .measure import accuracy
from .models import clone

AMOUNTS = (0.25, 0.5, 0.75, 0.9, 0.95)


class Sensitivity(dict[str, dict[float, float]]):
    """Path of each layer -> amount -> the metric; `whole` is that of the model as it is."""

    whole: float

    def __str__(self) -> str:
        amounts = list(next(iter(self.values()), {}))
        width = max([5, *map(len, self)])
        lines = [f"{'layer':<{width}}" + "".join(f"{a:>9.0%}" for a in (0.0, *amounts))]
        for path, found in self.items():
            cells = "".join(f"{value:>9.2%}" for value in (self.whole, *found.values()))
            lines.append(f"{path:<{width}}{cells}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """{"whole": metric, "layers": {path: {amount: metric}}}, fit for JSON."""
        layers = {p: {str(a): v for a, v in found.items()} for p, found in self.items()}
        return {"whole": self.whole, "layers": layers}

    def plot(self, file: str | Path) -> None:
        """Draw a curve for each layer. Needs matplotlib; the file's name tells the format."""
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        target = arguments.path("plot", "file", file)
        figure, panel = plt.subplots(figsize=(6, 3.6), constrained_layout=True)
        for path, found in self.items():
            amounts, values = [0.0, *found], [self.whole, *found.values()]
            percent = [100 * v for v in values]
            panel.plot([100 * a for a in amounts], percent, "o-", markersize=3, label=path)
        panel.set(xlabel="pruned of this layer alone (%)", ylabel="accuracy (%)")
        panel.legend(title="layer", frameon=False, fontsize=8)
        panel.spines[["top", "right"]].set_visible(False)
        image = io.BytesIO()
        figure.savefig(image, format=target.suffix[1:] or "png", dpi=120)
        plt.close(figure)
        write_bytes(target, image.getvalue())


def sensitivity(
    model: Module, data: Iterable[Any], amounts: Sequence[float] = AMOUNTS,
    metric: Callable[[Module, Iterable[Any]], float] = accuracy,
    criterion: Callable[..., Module] = prune.magnitude, **options: Any,
) -> Sensitivity:  # fmt: skip
    """Prune one layer at a time by each amount, and measure; the model itself is not changed.

    metric(model, batches) -> a number, by default the accuracy. options go to criterion, such as
    pattern="16x1". Source: Li et al. (2017), arXiv:1608.08710, section 3.2.
    Raises: ArgumentError, as the criterion.

    >>> import minidl
    >>> from minidl import nn
    >>> model, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), minidl.randn(16, 4)
    >>> found = sensitivity(model, [(x, model(x).argmax(1))], amounts=(0.5,))
    >>> found.whole, sorted(found)
    (1.0, ['0', '2'])
    """
    check.instance("sensitivity", "data", data, Iterable)
    check.function("sensitivity", "metric", metric, "model", "data")
    check.function("sensitivity", "criterion", criterion, "model", "amount")
    amounts = [check.number("sensitivity", "an amount", a, 0, 1, below=True) for a in amounts]
    batches, found = list(data), Sensitivity()
    found.whole = metric(model, batches)
    for path in dict.fromkeys(target.path for target in prune.targets(model)):
        found[path] = {
            amount: metric(criterion(clone(model), amount, modules=[path], **options), batches)
            for amount in amounts
        }
    return found
