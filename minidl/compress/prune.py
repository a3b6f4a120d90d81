"""Pruning: weights of little worth become zero and stay zero while the model trains on.

A pruned weight keeps its dense shape. Beside it the module holds a mask, the buffer
`<name>_mask` (True where a weight is kept), so that a state_dict carries it; and the parameter has
a constraint that optimizers apply after each step, whatever their momentum or weight decay did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..engine.creation import rand, tensor
from ..engine.random import Generator
from ..engine.tensor import Tensor
from ..errors import ArgumentError, DTypeError
from ..nn import Module, Parameter
from ..ops import check
from . import patterns
from .layers import Coded
from .models import compressible


class KeepZero:
    """The constraint of a pruned parameter: zero wherever the mask of its module says so."""

    def __init__(self, module: Module, mask: str) -> None:
        self.module, self.mask = module, mask

    def __call__(self, parameter: Parameter) -> None:
        """Write the zeros back, in place. Not by a product: -1 * 0 is -0, and infinity * 0 NaN."""
        backend, mask = parameter.backend, getattr(self.module, self.mask).data
        zero = backend.full((), 0, parameter.dtype)
        backend.copyto(parameter.data, backend.where(mask, parameter.data, zero))
        parameter.version.change()


class Target(NamedTuple):
    """A parameter to prune, and where it lives."""

    path: str
    module: Module
    name: str

    @property
    def parameter(self) -> Parameter:
        """The parameter itself."""
        found: Parameter = getattr(self.module, self.name)
        return found

    @property
    def mask(self) -> Tensor | None:
        """The mask registered so far, if any."""
        return getattr(self.module, mask_name(self.name), None)


def mask_name(name: str) -> str:
    """What the mask of the parameter `name` is called.

    >>> mask_name("weight")
    'weight_mask'
    """
    return f"{name}_mask"


def magnitude(
    model: Module,
    amount: float | None = None,
    scope: str = "global",
    modules: Iterable[str] | None = None,
    names: Sequence[str] = ("weight",),
    pattern: str = "unstructured",
) -> Module:
    """Set the smallest weights to zero, for good, until a fraction `amount` of them is zero.

    scope: "global" ranks the weights of all modules together, "layer" prunes each tensor to
    amount. modules: the dotted names of those to prune (default: every Linear and Conv2d); names:
    their parameters. pattern: which weights may go together.

    - "unstructured": of n weights exactly round(amount * n) are masked.
    - "16x1", or other outputs x inputs: of n blocks exactly round(amount * n), those of the
      smallest norm; a convolution's weight counts as a matrix (outputs, the rest).
    - "2:4", or other N:M: of each M neighbours along the input axis the N largest stay (of fewer
      at the end of the axis N, too); amount follows, and may be left out.

    Among equals the earlier ones go, in the order of the model. Weights that are masked already
    count and stay masked, so pruning again only adds. Amount 0 changes nothing. Returns the model,
    which it changes. Source: Han et al. (2015), arXiv:1506.02626, section 3.1; blocks: Narang et
    al. (2017), arXiv:1711.02782; N:M: Mishra et al. (2021), arXiv:2104.08378.
    Raises: ArgumentError for an amount outside [0, 1), an unknown pattern, or if there is nothing
    to prune.

    >>> import minidl
    >>> model = minidl.nn.Linear(4, 5)
    >>> sparsity(magnitude(model, 0.8))
    0.8
    >>> sparsity(magnitude(minidl.nn.Linear(4, 5), pattern="2:4"))
    0.5
    """
    return _prune("magnitude", _magnitude, model, amount, scope, modules, names, pattern)


def random(
    model: Module,
    amount: float | None = None,
    scope: str = "global",
    modules: Iterable[str] | None = None,
    names: Sequence[str] = ("weight",),
    pattern: str = "unstructured",
    seed: int = 0,
) -> Module:
    """Set weights to zero by lot: the control that any other criterion has to beat.

    The lots are those of the library's generator, so a seed prunes the same weights on every
    backend. Other arguments, counts and errors: see `magnitude`.

    >>> import minidl
    >>> sparsity(random(minidl.nn.Linear(4, 5), 0.8, seed=1))
    0.8
    """
    generator = Generator(seed)

    def lots(target: Target) -> np.ndarray:
        shape = target.parameter.shape
        drawn: np.ndarray = rand(*shape, generator=generator, backend="numpy").numpy()
        return drawn.astype(np.float64)

    return _prune("random", lots, model, amount, scope, modules, names, pattern)


def taylor(
    model: Module,
    amount: float | None = None,
    scope: str = "global",
    modules: Iterable[str] | None = None,
    names: Sequence[str] = ("weight",),
    pattern: str = "unstructured",
) -> Module:
    """Set to zero the weights whose loss changes least without them, to first order: |w dL/dw|.

    Call `loss.backward()` before, on as many batches as you like: gradients add up. Other
    arguments, counts and errors: see `magnitude`. Source: Molchanov et al. (2019),
    arXiv:1906.10771, equation 8. Raises also: ArgumentError if a parameter has no gradient.

    >>> import minidl
    >>> model = minidl.nn.Linear(2, 1, bias=False)
    >>> with minidl.no_grad():
    ...     _ = model.weight.copy_(minidl.tensor([[1.0, -3.0]]))
    >>> model(minidl.tensor([[9.0, 1.0]])).sum().backward()
    >>> taylor(model, 0.5).weight.tolist()
    [[1.0, 0.0]]
    """
    return _prune("taylor", _taylor, model, amount, scope, modules, names, pattern)


def _prune(
    operation: str, score: Callable[[Target], np.ndarray], model: Module, amount: float | None,
    scope: str, modules: Iterable[str] | None, names: Sequence[str], pattern: str,
) -> Module:  # fmt: skip
    """A criterion gives every weight a score; the pattern makes masks of scores."""
    chosen = patterns.parse(operation, pattern)
    amount = chosen.checked(operation, amount)
    check.choice(operation, "scope", scope, ("global", "layer"))
    found = targets(model, modules, names)
    scores = [score(target) for target in found]
    if scope == "global":
        impose(found, scores, chosen, amount)
    else:
        for target, own in zip(found, scores, strict=True):
            impose([target], [own], chosen, amount)
    return model


def impose(
    group: Sequence[Target], scores: Sequence[np.ndarray], pattern: patterns.Pattern, amount: float
) -> None:
    """Mask what the pattern takes away of parameters with these scores (see `patterns`)."""
    scores = [
        score if target.mask is None else np.where(target.mask.numpy(), score, -1.0)
        for target, score in zip(group, scores, strict=True)
    ]
    for target, mask in zip(group, pattern.masks(scores, amount), strict=True):
        if not mask.all():
            attach(target.module, target.name, mask)


def _magnitude(target: Target) -> np.ndarray:
    """|w| in float64, on the host, where a stable sort is the same for every backend."""
    return np.abs(target.parameter.numpy().astype(np.float64))


def _taylor(target: Target) -> np.ndarray:
    """|w dL/dw|, likewise."""
    grad = target.parameter.grad
    if grad is None:
        raise ArgumentError(
            f"taylor: {target.path}.{target.name} has no gradient; call loss.backward() first"
        )
    worth: np.ndarray = np.abs(_magnitude(target) * grad.numpy().astype(np.float64))
    return worth


def attach(module: Module, name: str, mask: np.ndarray) -> None:
    """Give a parameter its mask, and apply it now and after every optimizer step."""
    parameter = getattr(module, name)
    module.register_buffer(mask_name(name), tensor(mask, backend=parameter.backend))
    parameter.constraint = KeepZero(module, mask_name(name))
    parameter.constraint(parameter)


def targets(
    model: Module, modules: Iterable[str] | None = None, names: Sequence[str] = ("weight",)
) -> list[Target]:
    """The parameters to prune, in the order of the model; one that is shared, once.

    Raises: ArgumentError if there are none, or a module is not in the model or has no such
    parameter.
    """
    check.instance("prune", "model", model, Module)
    named = {"modules": modules, "names": names}
    for name, several in named.items():
        if isinstance(several, str):
            raise DTypeError(f"prune: {name} must be a list, got {several!r}; wrap it: [{name}]")
    every = dict(model.named_modules())
    if any(isinstance(module, Coded) for module in every.values()):
        raise ArgumentError(
            "prune: the model is quantized, and integer weights are not trained further. Prune the"
            " float model first, then quantize it: zeros stay zeros."
        )
    if modules is None:
        modules = [path for path, module in every.items() if compressible(module)]
    found = list(_distinct(every, modules, names))
    if not found:
        raise ArgumentError(
            "prune: there is no Linear or Conv2d in the model. Name the modules to prune, and"
            " their parameters: magnitude(model, amount, modules=[...], names=[...])."
        )
    return found


def _distinct(
    every: dict[str, Module], modules: Iterable[str], names: Sequence[str]
) -> Iterator[Target]:
    seen: set[int] = set()
    for path in modules:
        if path not in every:
            raise ArgumentError(f"prune: no module {path!r}; the model has {sorted(every)}")
        for name in names:
            parameter = getattr(every[path], name, None)
            if not isinstance(parameter, Parameter):
                raise ArgumentError(f"prune: module {path!r} has no parameter {name!r}")
            if hasattr(parameter.constraint, "codes"):
                raise ArgumentError(
                    f"prune: the weights of {path!r} share values already. Prune first, then share:"
                    " zeros stay zeros."
                )
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield Target(path, every[path], name)


def masked(model: Module) -> Iterator[Target]:
    """Every parameter of the model that has a mask, where that mask is."""
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            held = getattr(parameter.constraint, "masked", parameter.constraint)
            if isinstance(held, KeepZero) and held.module is module:
                yield Target(path, module, name)


def remove(model: Module) -> Module:
    """Make pruning permanent: masks and constraints go, the zeros stay (and may grow back).

    >>> import minidl
    >>> model = remove(magnitude(minidl.nn.Linear(4, 5), 0.8))
    >>> sparsity(model), sorted(model.state_dict())
    (0.8, ['bias', 'weight'])
    """
    for target in list(masked(model)):
        held: Any = target.parameter.constraint
        if isinstance(held, KeepZero):
            target.parameter.constraint = None
        else:  # the weights share values, and zero is one of them
            held.masked = None
        delattr(target.module, mask_name(target.name))
    return model


def sparsity(model: Module) -> float:
    """The fraction of zeros among the weights of all Linear and Conv2d layers, float or quantized.

    Raises: ArgumentError if the model has none.

    >>> import minidl
    >>> sparsity(minidl.nn.Linear(4, 5))
    0.0
    """
    check.instance("sparsity", "model", model, Module)
    layers = [m for m in model.modules() if compressible(m) or isinstance(m, Coded)]
    weights = [layer.weight.numpy() for layer in layers]
    total = sum(weight.size for weight in weights)
    if not total:
        raise ArgumentError("sparsity: there is no Linear or Conv2d in the model")
    return sum(int((weight == 0).sum()) for weight in weights) / total
