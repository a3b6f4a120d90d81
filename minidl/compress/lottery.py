"""Lottery tickets: part of a network that, from its own first weights, learns as well as the whole.

Source: Frankle & Carbin (2019), arXiv:1803.03635; rewinding to weights of early training: Frankle
et al. (2020), arXiv:1912.05671 and Renda et al. (2020), arXiv:2003.02389.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..engine.modes import no_grad
from ..engine.tensor import Tensor
from ..errors import ArgumentError
from ..nn import Module
from ..ops import check
from . import prune


class Round(NamedTuple):
    """One training of the search: how sparse the model was, and what `train` returned."""

    sparsity: float
    result: Any


class Ticket(NamedTuple):
    """What `lottery_ticket` found: the trained model, its masks, and the rounds in order."""

    model: Module
    masks: dict[str, np.ndarray]
    history: list[Round]

    def impose(self, model: Module) -> Module:
        """Give another model of the same architecture these masks: a control, which has them but
        not the ticket's first weights. Returns the model, which it changes.
        """
        owners = {f"{t.path}.{t.name}": t for t in prune.targets(model)}
        for name, mask in self.masks.items():
            if name not in owners or owners[name].parameter.shape != mask.shape:
                raise ArgumentError(f"Ticket: the model has no {name!r} of shape {mask.shape}")
            prune.attach(owners[name].module, owners[name].name, mask)
        return model


def lottery_ticket(
    model: Module, train: Callable[[Module], Any], rounds: int, amount: float = 0.2,
    rewind_to: Mapping[str, Tensor] | None = None, **options: Any,
) -> Ticket:  # fmt: skip
    """Search a ticket: train, prune `amount` of what is left, go back to the first weights, again.

    train(model) trains it from where it stands (with an optimizer of its own) and returns what is
    to be kept in the history, such as its accuracy. It is called rounds + 1 times, the last time on
    the ticket. rewind_to: a state_dict to go back to, such as that after a few hundred steps;
    default: the model's weights when it was given. options go to `prune.magnitude`. The model is
    changed. Raises: ArgumentError.

    >>> import minidl
    >>> ticket = lottery_ticket(minidl.nn.Linear(10, 10), lambda model: None, rounds=2, amount=0.5)
    >>> [round.sparsity for round in ticket.history]
    [0.0, 0.5, 0.75]
    """
    check.instance("lottery_ticket", "model", model, Module)
    check.function("lottery_ticket", "train", train, "model")
    rounds = check.integer("lottery_ticket", "rounds", rounds, 1)
    amount = check.number("lottery_ticket", "amount", amount, 0, 1, above=True, below=True)
    if rewind_to is not None:
        check.instance("lottery_ticket", "rewind_to", rewind_to, Mapping)
    first = {k: x.detach().clone() for k, x in (rewind_to or model.state_dict()).items()}
    history = [Round(prune.sparsity(model), train(model))]
    for k in range(1, rounds + 1):
        prune.magnitude(model, 1 - (1 - amount) ** k, **options)
        _rewind(model, first)
        history.append(Round(prune.sparsity(model), train(model)))
    masks = {
        f"{t.path}.{t.name}": t.mask.numpy() for t in prune.masked(model) if t.mask is not None
    }
    return Ticket(model, masks, history)


@no_grad()
def _rewind(model: Module, first: Mapping[str, Tensor]) -> None:
    """All parameters and buffers as they were, but for masks, which stay in force."""
    for name, tensor in model.state_dict().items():
        if name in first:
            tensor.copy_(first[name].to(tensor.backend))
    for target in prune.masked(model):
        held = target.parameter.constraint
        if held is not None:
            held(target.parameter)
