"""Recording a step once and replaying it without Python for each operation.

Read `traced.py` and `record.py` (how a step is noted), `plan.py` (what is left of it, and where its
memory lies), `recording.py` (when a program still holds) and `compiled.py` (which one is run); the
backends' `lowering.py` turn a program into something that runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

from ..engine.arguments import integer
from ..errors import DTypeError
from .compiled import Compiled

__all__ = ["Compiled", "compile"]
P = ParamSpec("P")
R = TypeVar("R")


@overload
def compile(step: Callable[P, R]) -> Compiled[P, R]: ...
@overload
def compile(
    step: None = None, *, fullgraph: bool = False, recompile_limit: int = 8
) -> Callable[[Callable[P, R]], Compiled[P, R]]: ...
def compile(step: Any = None, *, fullgraph: bool = False, recompile_limit: int = 8) -> Any:
    """A step (forward, or also backward and the optimizer) that is recorded and then replayed.

    The first call for each signature (shapes, dtypes and backend of its tensors, other arguments,
    whether modules train) runs as it is and is recorded; later ones run the recorded calls, with
    elementwise chains fused and memory laid out beforehand, and give the same numbers. Parameters,
    their gradients and optimizers are the live ones; learning rates and random masks move on.

    What Python does besides is not repeated: printing, appending to a list, counting. So step a
    scheduler outside. A step whose course depends on values, such as one that calls `.item()`, runs
    as it is, with a RuntimeWarning that names the line, and so does one for which more than
    recompile_limit programs would be needed. What it returns has no history.

    Raises: CompileError with fullgraph in place of both warnings, and always for an argument that
    is neither tensors nor plain values; DTypeError for a step that cannot be called.

    >>> import minidl
    >>> from minidl import nn, ops, optim
    >>> model = nn.Linear(3, 2)
    >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
    >>> @minidl.compile
    ... def step(x, label):
    ...     loss = ops.cross_entropy(model(x), label)
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> x, label = minidl.ones((4, 3)), minidl.tensor([0, 1, 1, 1])
    >>> losses = [step(x, label).item() for _ in range(5)]
    >>> losses == sorted(losses, reverse=True)
    True
    >>> print(step.source())
    def run(inputs, numbers):
    ...
    """
    if step is None:
        return lambda step: compile(step, fullgraph=fullgraph, recompile_limit=recompile_limit)
    if not callable(step):
        raise DTypeError(f"compile: needs a function of tensors, got {type(step).__name__}")
    limit = integer("compile", "recompile_limit", recompile_limit, 1)
    return Compiled(step, fullgraph, limit)
