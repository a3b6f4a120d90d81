"""Recurrent networks: cases."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import ops
from ...engine.tensor import Tensor
from .. import oracle
from ..gradients import Case, case, spread

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
ENDS = np.array([2, 3, 1])


def flat(found: tuple[Tensor, ...]) -> Tensor:
    """All results as one vector, in the order of the rows of `states`."""
    return ops.concatenate([y.reshape(-1) for y in found])


def recurrent(kind: str, label: str, biases: int, lengths: Any, *settings: Any) -> Case:
    """3 steps of 3 samples, 2 features and 2 units, with all biases, the hidden one, or none."""
    wide, count = GATES[kind] * 2, 2 if kind == "lstm" else 1
    states = [spread(3, 2, seed=k) for k in range(count)]
    weights = [spread(wide, 2, low=-1, high=1, seed=7), spread(wide, 2, low=-1, high=1, seed=8)]
    shifts = [spread(wide, seed=9 + k) for k in range(biases)]
    ends = [] if lengths is None else [lengths]
    at = 1 + count + 2

    def function(*args: Any) -> Tensor:
        given = [*([None] * (2 - biases)), *args[at : at + biases]]
        end = args[-1] if ends else None
        return flat(getattr(ops, kind)(*args[:at], *given, end, *settings))

    def formula(*args: Any) -> Any:
        x, weight = args[0], args[at - 1]
        zeros: list[Any] = [np.zeros(wide)] * (2 - biases)
        input_bias, own = zeros + list(args[at : at + biases])
        added = (input_bias, own) if kind == "gru" else (input_bias + own,)
        options = settings or (False,)
        options = (*options, "tanh") if kind == "rnn" and len(options) == 1 else options
        found = getattr(oracle, kind)(
            x @ args[at - 2].T, weight, *added, *args[1 : 1 + count], lengths, *options
        )
        return np.ravel(found[0] if isinstance(found, tuple) else found)

    inputs = (spread(3, 3, 2, seed=5), *states, *weights, *shifts, *ends)
    return case(f"{kind}: {label}", function, formula, *inputs)


CASES = [
    *(recurrent(kind, "forward", 2, None) for kind in GATES),
    *(recurrent(kind, "one bias", 1, None) for kind in GATES),
    *(recurrent(kind, "without bias", 0, None) for kind in GATES),
    *(recurrent(kind, "backward", 2, None, True) for kind in GATES),
    *(recurrent(kind, "lengths", 2, ENDS, False) for kind in GATES),
    *(recurrent(kind, "lengths, backward", 2, ENDS, True) for kind in GATES),
    recurrent("rnn", "relu", 2, None, False, "relu"),
    recurrent("rnn", "relu with lengths", 2, ENDS, True, "relu"),
]
