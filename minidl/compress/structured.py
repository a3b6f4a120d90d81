"""Structured pruning: whole channels, neurons and heads go, and every layer concerned gets smaller.

Which channels must go together is found in the traced graph (see `channels`), so residual sums,
concatenations, normalisation, grouped convolutions, flattening and attention need no care. A model
that was shrunk computes what it would with the same channels set to zero, to rounding.

After pruning, make a new optimizer: the old one holds moments of the old shapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..engine.modes import no_grad
from ..engine.tensor import Tensor
from ..errors import ArgumentError, DTypeError, GraphError
from ..nn import Module, MultiheadAttention
from ..ops import check
from .channel_rules import PINNED
from .channels import Channels
from .graph import Graph, Value, trace
from .importance import CRITERIA, Group, Importance, Place
from .models import clone
from .resize import adapt, narrow, transplant


def channel_groups(
    model: Module, example: Any, *, batch_axis: int = 0, through_layer_norm: bool = False
) -> list[Group]:
    """The groups of channels that can go, in the order of the model; printing one names the axes of
    the parameters and buffers that get shorter.

    Arguments and errors as for `prune_channels`.

    >>> import minidl
    >>> from minidl import nn
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> channel_groups(model, minidl.zeros((1, 4)))
    [8 channels: 0.weight axis 0, 0.bias axis 0, 2.weight axis 1]
    """
    return _groups(Channels(_traced(model, example, batch_axis), through_layer_norm))


def prune_channels(
    model: Module, example: Any, amount: float, criterion: str = "l1", scope: str = "layer",
    round_to: int | None = None, ignore: Iterable[str] = (), inplace: bool = False, *,
    batch_axis: int = 0, through_layer_norm: bool = False,
) -> Module:  # fmt: skip
    """A copy of the model without a fraction `amount` of its channels, smaller in every layer.

    example: one batch of inputs, a Tensor or a tuple of them; batch_axis as in `trace`. Channels
    that must go together count as one and are ranked together, by all their weights, as inputs and
    as outputs: the sum of magnitudes ("l1": Li et al. 2017, arXiv:1608.08710, section 3.1), the
    root of the sum of squares ("l2"), the square of the sum of weight * gradient ("taylor",
    Molchanov et al. 2019, arXiv:1906.10771, equation 8; call backward() first), or the mean |scale|
    of their batch norms ("bn", Liu et al. 2017, arXiv:1708.06519; channels without one stay).
    scope: "layer" removes round(amount * n) of the n channels of each group; "global" ranks all
    together, relative to the mean of their group. One channel of each group always stays, and so do
    the model's inputs and outputs. round_to: keep a multiple of so many. ignore: paths of modules
    whose tensors stay as they are. Layer norm divides by what all of its features say, so those
    stay, unless through_layer_norm; the result is then no longer that of a masked model. inplace:
    change the model itself.
    Raises: ArgumentError; GraphError if the model cannot be traced, or its own code has numbers of
    channels in it that no layer's settings adapt; the model is unchanged then.

    >>> import minidl
    >>> from minidl import nn
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> prune_channels(model, minidl.zeros((1, 4)), 0.5)
    Sequential(
      (0): Linear(in_features=4, out_features=4)
      (1): ReLU()
      (2): Linear(in_features=4, out_features=2)
    )
    """
    name = "prune_channels"
    plan = _Plan(name, model, example, batch_axis, through_layer_norm, ignore)
    plan.choose(name, plan.groups, amount, criterion, scope, round_to)
    return plan.shrink(inplace)


def prune_heads(
    model: Module, example: Any, amount: float, criterion: str = "l1", scope: str = "layer",
    ignore: Iterable[str] = (), inplace: bool = False, *, batch_axis: int = 0,
) -> Module:  # fmt: skip
    """A copy of the model without a fraction `amount` of its attention heads, and nothing else
    smaller; arguments and errors as for `prune_channels`. ArgumentError if there are no heads.

    >>> import minidl
    >>> from minidl import nn
    >>> model = nn.TransformerEncoderLayer(8, 4, 16)
    >>> prune_heads(model, minidl.zeros((5, 2, 8)), 0.5, batch_axis=1).self_attn.num_heads
    2
    """
    plan = _Plan("prune_heads", model, example, batch_axis, False, ignore)
    heads = [group for group in plan.groups if _of_heads(plan.graph.model, group)]
    plan.choose("prune_heads", heads, amount, criterion, scope, None)
    return plan.shrink(inplace)


def mask_channels(
    model: Module, example: Any, amount: float, criterion: str = "l1", scope: str = "layer",
    round_to: int | None = None, ignore: Iterable[str] = (), inplace: bool = False, *,
    batch_axis: int = 0,
) -> Module:  # fmt: skip
    """A copy of the model with zeros in the channels that `prune_channels` would remove: of the
    same size, and with the same result, to rounding. Arguments and errors as there.

    >>> import minidl
    >>> from minidl import nn
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> masked = mask_channels(model, minidl.zeros((1, 4)), 0.5)
    >>> int(masked[0].weight.numpy().any(axis=1).sum())
    4
    """
    plan = _Plan("mask_channels", model, example, batch_axis, False, ignore)
    plan.choose("mask_channels", plan.groups, amount, criterion, scope, round_to)
    return plan.mask(inplace)


def _traced(model: Module, example: Any, batch_axis: int) -> Graph:
    given = example if isinstance(example, (tuple, list)) else (example,)
    return trace(model, *given, batch_axis=batch_axis)


def _groups(channels: Channels) -> list[Group]:
    """Channels that touch the same axes of the same tensors are of one kind."""
    rows: dict[Place, np.ndarray] = {
        (value, axis): channels.roots(labels)
        for value, axes in channels.of.items()
        if value.kind in ("parameter", "buffer")
        for axis, labels in enumerate(axes)
    }
    touched: dict[int, list[Place]] = {}
    for place, labels in rows.items():
        for label in np.unique(labels[labels != PINNED]).tolist():
            touched.setdefault(label, []).append(place)
    kinds: dict[tuple[Place, ...], list[int]] = {}
    for label, places in touched.items():
        if any(value.kind == "parameter" for value, _ in places):
            kinds.setdefault(tuple(places), []).append(label)
    return [
        Group(np.array(sorted(labels)), {place: rows[place] for place in places})
        for places, labels in kinds.items()
    ]


def _of_heads(model: Module, group: Group) -> bool:
    modules = dict(model.named_modules())
    owners = (value.path.rpartition(".") for value, _ in group.places)
    return any(
        isinstance(modules[path], MultiheadAttention) and axis == 0 and name == "in_proj_weight"
        for (path, _, name), (_, axis) in zip(owners, group.places, strict=True)
    )


class _Plan:
    """A copy of the model, its graph, and which labels are to go."""

    def __init__(
        self, name: str, model: Module, example: Any, batch_axis: int, through: bool,
        ignore: Iterable[str],
    ) -> None:  # fmt: skip
        check.instance(name, "model", model, Module)
        if isinstance(ignore, str):
            raise DTypeError(
                f"{name}: ignore must be a list, got {ignore!r}; wrap it: [{ignore!r}]"
            )
        ignore, modules = list(ignore), dict(model.named_modules())
        unknown = [path for path in ignore if path not in modules]
        if unknown:
            raise ArgumentError(f"{name}: no module {unknown[0]!r}; there are {sorted(modules)}")
        self.model, self.example, self.batch_axis = model, example, batch_axis
        self.graph = _traced(clone(model), example, batch_axis)
        self.channels = Channels(self.graph, through)
        copies = dict(self.graph.model.named_modules())
        kept = {id(x) for path in ignore for x in _tensors(copies[path])}
        self.groups = [
            group
            for group in _groups(self.channels)
            if not any(id(value.tensor) in kept for value, _ in group.places)
        ]
        self.removed = np.zeros(0, int)

    def choose(
        self, name: str, groups: list[Group], amount: float, criterion: str, scope: str,
        round_to: int | None,
    ) -> None:  # fmt: skip
        """Decide which channels go."""
        amount = check.number(name, "amount", amount, 0, 1, below=True)
        check.choice(name, "criterion", criterion, CRITERIA)
        check.choice(name, "scope", scope, ("layer", "global"))
        step = 1 if round_to is None else check.integer(name, "round_to", round_to, 1)
        ranking = Importance(name, self.model, criterion)
        groups = [group for group in groups if ranking.applies(group)]
        if not groups:
            raise ArgumentError(
                f"{name}: there is nothing to prune: all channels belong to inputs, outputs or "
                "ignored modules, or meet operations that need all of them; see channel_groups()"
            )
        scores = [ranking.scores(group) for group in groups]
        counts = [round(amount * len(group)) for group in groups]
        if scope == "global":
            counts = _shared_out(scores, amount)
        gone = []
        for group, score, count in zip(groups, scores, counts, strict=True):
            kept = -(-max(len(group) - count, 1) // step) * step
            order = np.argsort(score, kind="stable")
            gone.append(group.labels[order[: max(len(group) - kept, 0)]])
        self.removed = np.concatenate(gone)

    # -- doing it -------------------------------------------------------------------------------
    def gone(self, value: Value) -> list[np.ndarray]:
        """For each axis of a value, which of it go."""
        return [np.isin(self.channels.roots(x), self.removed) for x in self.channels.of[value]]

    def mask(self, inplace: bool) -> Module:
        """The model with zeros."""
        result = self.model if inplace else self.graph.model
        parameters = dict(result.named_parameters())
        with no_grad():
            for value in self.graph.values:
                if value.kind == "parameter":
                    array = parameters[value.path].numpy().copy()
                    for axis, gone in enumerate(self.gone(value)):
                        array[(slice(None),) * axis + (gone,)] = 0
                    tensor = parameters[value.path]
                    tensor.copy_(Tensor(tensor.backend.asarray(array), tensor.backend))
        return result

    def shrink(self, inplace: bool) -> Module:
        """The model without."""
        if not self.removed.size:
            return self.model if inplace else self.graph.model
        expected = {v: tuple(int((~g).sum()) for g in self.gone(v)) for v in self.channels.of}
        small = self.graph.model
        for value in self.graph.values:
            if value.kind in ("parameter", "buffer"):
                narrow(small, value.path, [np.flatnonzero(~gone) for gone in self.gone(value)])
        adapt(small)
        self._prove(small, expected)
        if inplace:
            transplant(self.model, small)
        return self.model if inplace else small

    def _prove(self, small: Module, expected: dict[Value, tuple[int, ...]]) -> None:
        """The small model must run the same operations, with channels missing where they should."""
        try:
            nodes = _traced(small, self.example, self.batch_axis).nodes
        except Exception as error:  # whatever the model's own code says to smaller tensors
            raise _written_out(f"fails: {error}") from error
        if [n.op for n in nodes] != [n.op for n in self.graph.nodes]:
            raise _written_out("runs other operations")
        for old, new in zip(self.graph.nodes, nodes, strict=True):
            if old in self.channels.live and new.output.shape != expected[old.output]:
                raise _written_out(
                    f"gets {new.output.shape} from {new.op} in module {new.module!r} where it "
                    f"should get {expected[old.output]}"
                )


def _written_out(what: str) -> GraphError:
    return GraphError(
        f"structured pruning: the smaller model {what}. There is a number of channels in the "
        "model's code: take it from a shape (x.shape[1], -1), or name the layers in ignore=[...]"
    )


def _tensors(module: Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _shared_out(scores: Sequence[np.ndarray], amount: float) -> list[int]:
    """How many of each group go if all are ranked together, each relative to its group's mean."""
    relative = [score / (score.mean() or 1.0) for score in scores]
    group = np.repeat(np.arange(len(scores)), [score.size for score in scores])
    left, counts = round(amount * group.size), [0] * len(scores)
    for at in group[np.argsort(np.concatenate(relative), kind="stable")].tolist():
        if left and counts[at] < scores[at].size - 1:
            counts[at] += 1
            left -= 1
    return counts
