"""Low rank: a layer's weight becomes a product of two thin ones, by its singular values.

The best approximation of a matrix by one of rank r, in the sum of squared errors, keeps the r
largest singular values; the error is the sum of the squares of the others (Eckart & Young 1936).
(O, D) then takes r (O + D) numbers and multiply-adds instead of O D.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..engine.creation import tensor
from ..engine.modes import no_grad
from ..engine.tensor import Tensor
from ..errors import ArgumentError
from ..nn import Conv2d, Linear, Module, Sequential
from ..ops import check
from .models import clone, in_use, reaching, replace
from .timing import calling, latency

STEP = 8  # ranks that are timed are multiples of it


class LowRankLinear(Sequential):
    """Linear(D, r) without bias, then Linear(r, O): the best approximation of a layer of rank r.

    Source: Denton et al. (2014), arXiv:1404.0736, section 3.2 (SVD).
    Shapes: x (..., D) -> (..., O). Raises: ArgumentError for a rank outside 1 to min(O, D).

    >>> import minidl
    >>> layer = minidl.nn.Linear(8, 6)
    >>> x = minidl.randn(3, 8)
    >>> float(abs(LowRankLinear(layer, 6)(x) - layer(x)).max().item()) < 1e-5
    True
    """

    def __init__(self, layer: Linear, rank: int) -> None:
        left, right = _factors(layer, rank)
        where: Any = {"backend": layer.weight.backend, "dtype": layer.weight.dtype}
        first = Linear(layer.in_features, rank, bias=False, **where)
        second = Linear(rank, layer.out_features, layer.bias is not None, **where)
        super().__init__(first, second)
        _fill(first, right, None)
        _fill(second, left, layer.bias)


class LowRankConv2d(Sequential):
    """A convolution to r channels, then a 1x1 convolution to all: the same for a bank of kernels.

    The kernels are the rows of an (O, C kh kw) matrix.
    Source: Zhang et al. (2016), arXiv:1505.06798, section 3.1 (equation 4, without the data).
    Shapes: as the layer. Raises: ArgumentError for a rank outside 1 to min(O, C kh kw), or groups.

    >>> import minidl
    >>> LowRankConv2d(minidl.nn.Conv2d(4, 8, 3, padding=1), 2)(minidl.ones((1, 4, 5, 5))).shape
    (1, 8, 5, 5)
    """

    def __init__(self, layer: Conv2d, rank: int) -> None:
        if layer.groups != 1:
            raise ArgumentError(
                f"LowRankConv2d: a convolution in {layer.groups} groups is left as it is; it has"
                " few weights already"
            )
        left, right = _factors(layer, rank)
        where: Any = {"backend": layer.weight.backend, "dtype": layer.weight.dtype}
        geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        first = Conv2d(layer.in_channels, rank, *geometry, bias=False, **where)
        second = Conv2d(rank, layer.out_channels, 1, bias=layer.bias is not None, **where)
        super().__init__(first, second)
        _fill(first, right, None)
        _fill(second, left, layer.bias)


LowRank = LowRankLinear | LowRankConv2d


def _factors(layer: Linear | Conv2d, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """(O, r) and (r, D) of the weight; each gets the square root of the singular values."""
    u, s, vt = _svd(layer)
    rank = check.integer("low_rank", "rank", rank, 1)
    if rank > len(s):
        raise ArgumentError(
            f"low_rank: a weight of shape {layer.weight.shape} has at most rank {len(s)}, got"
            f" {rank}"
        )
    root = np.sqrt(s[:rank])
    return u[:, :rank] * root, root[:, None] * vt[:rank]


def _svd(layer: Linear | Conv2d) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """On the host and in float64, so that every backend gets the same factors."""
    weight = layer.weight.numpy().astype(np.float64).reshape(layer.weight.shape[0], -1)
    if not np.isfinite(weight).all():
        raise ArgumentError("low_rank: the weight has a NaN or an infinity; train it again")
    u, s, vt = np.linalg.svd(weight, full_matrices=False)
    return u, s, vt


def _fill(layer: Linear | Conv2d, weight: np.ndarray, bias: Tensor | None) -> None:
    with no_grad():
        values = weight.reshape(layer.weight.shape).astype(layer.weight.dtype)
        layer.weight.copy_(tensor(values, backend=layer.weight.backend))
        if bias is not None and layer.bias is not None:
            layer.bias.copy_(bias)


class Rank(NamedTuple):
    """A choice for one layer: `rank` is None where the dense layer stays."""

    rank: int | None
    full: int  # the rank of the dense weight
    energy: float  # the share of the squared singular values that the rank keeps
    dense_us: float | None = None  # microseconds, where they were measured
    us: float | None = None


class Ranks(dict[str, Rank]):
    """Path of each layer -> its Rank; prints as a table."""

    def __str__(self) -> str:
        lines = [f"{'layer':<20} {'rank':>9} {'energy':>8} {'dense us':>10} {'low rank us':>12}"]
        for path, choice in self.items():
            rank = "dense" if choice.rank is None else f"{choice.rank}/{choice.full}"
            times = [f"{t:.1f}" if t is not None else "-" for t in (choice.dense_us, choice.us)]
            lines.append(
                f"{path:<20} {rank:>9} {choice.energy:>8.2%} {times[0]:>10} {times[1]:>12}"
            )
        return "\n".join(lines)


def ranks_by_energy(model: Module, energy: float, modules: Iterable[str] | None = None) -> Ranks:
    """The smallest rank of each layer that keeps `energy` of the sum of squared singular values.

    A layer stays dense where that rank would need as many multiply-adds as it has, or more.
    modules: dotted names (default: every Linear and every Conv2d without groups).
    Raises: ArgumentError for an energy outside (0, 1] or a model without such layers.

    >>> import minidl
    >>> model = minidl.nn.Sequential(minidl.nn.Linear(64, 64))
    >>> ranks_by_energy(model, 0.5)["0"].rank < 32
    True
    """
    energy = check.number("ranks_by_energy", "energy", energy, 0, 1, above=True)
    found = Ranks()
    for path, layer in _layers(model, modules).items():
        squares = _svd(layer)[1] ** 2
        shares = np.cumsum(squares) / max(squares.sum(), np.finfo(np.float64).tiny)
        rank = int(np.searchsorted(shares, energy - 1e-12)) + 1
        rank = min(rank, len(squares))
        pays = _pays(layer, rank)
        share = float(shares[rank - 1]) if pays else 1.0
        found[path] = Rank(rank if pays else None, len(squares), share)
    return found


def ranks_by_latency(
    model: Module, example: Any, speedup: float, modules: Iterable[str] | None = None,
    rounds: int = 50,
) -> Ranks:  # fmt: skip
    """The largest rank of each layer, of multiples of 8, at which it is measured `speedup` times as
    fast as the dense layer, on what reaches it from example; dense where no rank is.

    Times are medians of `rounds` calls of all ranks in turn, in microseconds on this machine; two
    runs may choose neighbouring ranks. Raises: ArgumentError.

    >>> import minidl
    >>> model = minidl.nn.Linear(256, 256)
    >>> ranks_by_latency(model, minidl.ones((1, 256)), speedup=1e9, rounds=1)[""].rank is None
    True
    """
    speedup = check.number("ranks_by_latency", "speedup", speedup, 0, above=True)
    rounds = check.integer("ranks_by_latency", "rounds", rounds, 1)
    layers = _layers(model, modules)
    reached = reaching(model, layers, example)
    missing = [path for path in layers if path not in reached]
    if missing:
        raise ArgumentError(
            f"ranks_by_latency: layer {missing[0]!r} is not reached by the example; leave it out"
            " with modules=[...]"
        )
    found = Ranks()
    for path, layer in layers.items():
        squares = _svd(layer)[1] ** 2
        choices = [r for r in range(STEP, len(squares) + 1, STEP) if _pays(layer, r)]
        twins: list[Module] = [layer, *(_twin(layer, rank) for rank in choices)]
        with in_use(*twins):
            calls = {str(i): calling(twin, reached[path]) for i, twin in enumerate(twins)}
            dense, *times = (float(np.median(t)) * 1e6 for t in latency(calls, rounds).values())
        fast = [i for i, us in enumerate(times) if us * speedup <= dense]
        if not fast:
            found[path] = Rank(None, len(squares), 1.0, dense)
            continue
        rank = choices[fast[-1]]
        share = float(squares[:rank].sum() / squares.sum())
        found[path] = Rank(rank, len(squares), share, dense, times[fast[-1]])
    return found


def factorize(
    model: Module, ranks: int | Mapping[str, int | Rank], inplace: bool = False
) -> Module:
    """A copy of the model whose layers are products of two thin ones, ready to be fine-tuned.

    ranks: path -> rank, such as `ranks_by_energy` gives, or one rank for every layer in which it
    saves multiply-adds. inplace: change the model itself.
    Raises: ArgumentError for an unknown path, or a rank that the layer cannot have.

    >>> import minidl
    >>> from minidl import nn
    >>> model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    >>> nn.summary(factorize(model, ranks_by_energy(model, 0.5)), (1, 64)).parameters < 3000
    True
    """
    check.instance("factorize", "model", model, Module)
    if not isinstance(ranks, Mapping):
        rank = check.integer("factorize", "ranks", ranks, 1)
        ranks = {path: rank for path, layer in _layers(model).items() if _pays(layer, rank)}
    chosen = {p: r.rank if isinstance(r, Rank) else r for p, r in ranks.items()}
    result = model if inplace else clone(model)
    layers = _layers(result, chosen) if chosen else {}
    twins: dict[Module, Module] = {
        layers[path]: _twin(layers[path], rank) for path, rank in chosen.items() if rank is not None
    }
    return replace(result, twins)


def _twin(layer: Linear | Conv2d, rank: int) -> LowRank:
    twin = LowRankLinear(layer, rank) if isinstance(layer, Linear) else LowRankConv2d(layer, rank)
    return twin.train(layer.training)


def _pays(layer: Linear | Conv2d, rank: int) -> bool:
    """Whether two thin layers take fewer multiply-adds than one."""
    outputs, inputs = layer.weight.shape[0], math.prod(layer.weight.shape[1:])
    return rank * (outputs + inputs) < outputs * inputs


def _layers(model: Module, modules: Iterable[str] | None = None) -> dict[str, Linear | Conv2d]:
    check.instance("low_rank", "model", model, Module)
    every = dict(model.named_modules())
    chosen = every if modules is None else modules
    found = {}
    for path in chosen:
        if path not in every:
            raise ArgumentError(f"low_rank: no module {path!r}; the model has {sorted(every)}")
        module = every[path]
        if isinstance(module, Linear) or (isinstance(module, Conv2d) and module.groups == 1):
            found[path] = module
        elif modules is not None:
            raise ArgumentError(
                f"low_rank: {path!r} is a {type(module).__name__}; only a Linear, or a Conv2d"
                " without groups, has a matrix to factorize"
            )
    if not found:
        raise ArgumentError("low_rank: there is no Linear, and no Conv2d without groups")
    return found
