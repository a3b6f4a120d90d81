"""Weight sharing: the weights of a layer take few different values, which go on learning together.

A weight is then a code of a few bits, and the values are a small table, the codebook. Source: Han,
Mao & Dally (2016), "Deep Compression", arXiv:1510.00149, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..engine.creation import tensor
from ..engine.dtypes import float64, int64, uint8
from ..engine.tensor import Tensor
from ..errors import ArgumentError
from ..nn import Module, Parameter
from ..ops import check
from . import prune

STEPS = 100  # of k-means at most; it stops where it stands


class KeepShared:
    """The constraint of a parameter whose elements share values: each code's become their mean.

    So a shared value moves by the mean of the steps of its weights; Han et al. sum their gradients,
    which is the same with a larger rate for values that many share. Code 0 is zero: what a mask
    removed.
    """

    def __init__(self, module: Module, codes: str, masked: prune.KeepZero | None) -> None:
        self.module, self.codes, self.masked = module, codes, masked

    def __call__(self, parameter: Parameter) -> None:
        """Write the means back, in place; summed in float64, so that equal values stay equal."""
        lib = parameter.backend
        codes = lib.reshape(lib.astype(getattr(self.module, self.codes).data, int64), (-1,))
        rows = int(lib.bounds(codes)[1]) + 1
        both = lib.astype(lib.reshape(parameter.data, (-1, 1)), float64)
        sums = lib.embedding_grad(both, codes, rows)
        counts = lib.embedding_grad(lib.full(both.shape, 1, float64), codes, rows)
        present = lib.asarray(np.arange(rows)[:, None] > 0)
        means = lib.where(present, lib.divide(sums, lib.maximum(counts, lib.full((), 1, float64))),
                          lib.full((), 0, float64))  # fmt: skip
        values = lib.astype(lib.embedding(means, codes), parameter.dtype)
        lib.copyto(parameter.data, lib.reshape(values, parameter.shape))
        parameter.version.change()


def codes_name(name: str) -> str:
    """What the codes of the parameter `name` are called.

    >>> codes_name("weight")
    'weight_codes'
    """
    return f"{name}_codes"


def share(
    model: Module,
    bits: int = 5,
    modules: Iterable[str] | None = None,
    names: Sequence[str] = ("weight",),
) -> Module:
    """Let the weights of each layer share at most 2^bits values (one less for 8 bits), for good.

    The values are found by k-means, which starts from values at equal distances (section 3.2 of the
    source). Pruned weights stay zero and take none of them. Optimizers move the values, not the
    weights apart. modules, names: as in `prune.magnitude`. Returns the model, which it changes.
    Raises: ArgumentError for bits outside 1 to 8, or if there is nothing to share.

    >>> import minidl, numpy as np
    >>> model = share(minidl.nn.Linear(40, 50), bits=4)
    >>> len(np.unique(model.weight.numpy()))
    16
    """
    bits = check.integer("share", "bits", bits, 1)
    if bits > 8:
        raise ArgumentError(f"share: bits must be from 1 to 8, as codes are bytes; got {bits}")
    for target in prune.targets(model, modules, names):
        values = target.parameter.numpy().astype(np.float64)
        if not np.isfinite(values).all():
            raise ArgumentError(
                f"share: {target.path}.{target.name} has a NaN or an infinity; train it again"
            )
        keep = np.ones(values.shape, bool) if target.mask is None else target.mask.numpy()
        codes = np.zeros(values.shape, np.uint8)
        codes[keep] = cluster(values[keep], min(2**bits, 255)) + 1
        attach(target.module, target.name, codes)
    return model


def cluster(values: np.ndarray, count: int) -> np.ndarray:
    """Codes 0, 1, ... of values (n,): the nearest of at most `count` means, in ascending order.

    k-means in one dimension (Lloyd 1982, IEEE Trans. Inf. Theory 28(2)): sorted values between two
    midpoints belong to one mean, so a step takes sums of slices.

    >>> cluster(np.array([0.0, 9.0, 0.2, 9.1]), 2).tolist()
    [0, 1, 0, 1]
    """
    if not values.size:
        return np.zeros(0, np.uint8)
    ordered = np.sort(values)
    distinct = np.unique(ordered)
    if len(distinct) <= count:
        means = distinct
    else:
        means = np.linspace(ordered[0], ordered[-1], count)
        sums = np.concatenate([[0.0], np.cumsum(ordered)])
        for _ in range(STEPS):
            ends = np.searchsorted(ordered, (means[1:] + means[:-1]) / 2, side="right")
            first, last = np.r_[0, ends], np.r_[ends, len(ordered)]
            found = np.divide(
                sums[last] - sums[first], last - first, out=means.copy(), where=last > first
            )
            if np.array_equal(found, means):
                break
            means = found
    nearest = np.searchsorted((means[1:] + means[:-1]) / 2, values, side="left")
    return np.unique(nearest, return_inverse=True)[1].astype(np.uint8)


def attach(module: Module, name: str, codes: np.ndarray) -> None:
    """Let a parameter share values by its codes, now and after every optimizer step."""
    parameter = getattr(module, name)
    held = parameter.constraint
    masked = held.masked if isinstance(held, KeepShared) else held
    module.register_buffer(codes_name(name), tensor(codes, uint8, backend=parameter.backend))
    parameter.constraint = KeepShared(module, codes_name(name), masked)
    parameter.constraint(parameter)


def remove(model: Module) -> Module:
    """Let all weights learn by themselves again; masks stay.

    >>> import minidl
    >>> sorted(remove(share(minidl.nn.Linear(4, 5))).state_dict())
    ['bias', 'weight']
    """
    for module in model.modules():
        for parameter in list(module.parameters(recurse=False)):
            held = parameter.constraint
            if isinstance(held, KeepShared) and held.module is module:
                parameter.constraint = held.masked
                delattr(module, held.codes)
    return model


def codebook(parameter: Tensor, codes: Tensor) -> np.ndarray:
    """The value of each code from 1 on, in the parameter's dtype."""
    values, held = parameter.numpy().ravel(), codes.numpy().ravel()
    book = np.zeros(int(held.max(initial=0)) + 1, values.dtype)
    book[held] = values
    return book[1:]


def shared(model: Module) -> dict[str, Tensor]:
    """Dotted name of each parameter that shares values -> its codes.

    >>> import minidl
    >>> list(shared(share(minidl.nn.Linear(4, 5))))
    ['weight']
    """
    return {
        f"{path}.{name}".lstrip("."): getattr(module, codes_name(name))
        for path, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(parameter.constraint, KeepShared) and parameter.constraint.module is module
    }
