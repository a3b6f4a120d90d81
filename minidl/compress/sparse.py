"""Sparse layers: weights of which only what is not zero is stored and multiplied.

A mask by itself makes nothing faster: dense kernels multiply by zeros as by anything. A sparse
kernel skips them, but reads an index for each block and cannot use the processor as well, so it
pays only when few weights are left. `sparsify` measures where that is, layer by layer.

2:4 patterns have no kernel here. One in C, which selects two of four inputs in registers (vpermps),
1024 x 1024 on one core with AVX-512, against the dense kernel and single weights at 50 %: 21, 135
and 159 us for one row of x; 296, 368 and 523 for 32; 1278, 1304 and 2057 for 128. So it would pay
for few rows, where reading the weight is the work, and by less as they become more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from backends import Array, SparseWeight

from ..engine.apply import apply
from ..engine.creation import tensor
from ..engine.dtypes import int32, int64
from ..engine.function import Function, Version
from ..engine.graph import mismatch
from ..engine.modes import aside
from ..engine.tensor import Tensor
from ..errors import ArgumentError, DTypeError, GraphError, ShapeError
from ..nn import Conv2d, Linear, Module
from ..nn.summary import MULTIPLY_ADDS
from ..ops import check
from .models import clone, in_use, reaching, replace
from .timing import calling, latency

BLOCK = 16  # outputs of a block: a vector of float32, see backends/numba_backend/sparse.py
# Shares of stored blocks up to which sparse was 1.6 times as fast as dense or more, 1024 x 1024,
# batch 32 (three times at batch 1), numba on two cores with AVX-512: what rule="density" goes by.
BREAK_EVEN = {1: 0.3, BLOCK: 0.5}


class _SparseLinear(Function):
    """x W^T + b over the stored blocks; for inference only."""

    def __init__(
        self, weight: SparseWeight, packed: Any, bias: Array | None, relu: bool,
        rests_on: Sequence[Tensor],
    ) -> None:  # fmt: skip
        self.weight, self.packed, self.bias, self.relu = weight, packed, bias, relu
        self.rests_on = rests_on

    def forward(self, x: Array) -> Array:
        return self.backend.sparse_linear(x, self.weight, self.packed, self.bias, self.relu)

    def backward(self, grad: Any) -> Any:
        raise GraphError(
            "SparseLinear: a sparse layer has no gradient. Train the masked dense model, whose"
            " zeros stay zeros, then sparsify it again."
        )


def _multiply_adds(function: Any, inputs: tuple[Any, ...], result: Tensor) -> int:
    stored: int = function.weight.values.size
    return result.shape[0] * stored


MULTIPLY_ADDS["_SparseLinear"] = _multiply_adds


class SparseLinear(Module):
    """An nn.Linear that stores blocks of `block` outputs x 1 input, where one of them is not zero.

    Buffers: values (B, block), indices (B,) int32, starts (rows of blocks + 1,) int64, bias.
    Block 1 is the format CSR; see `backends.SparseWeight`.
    Shapes: x (..., D) -> (..., O). Raises: ShapeError, DTypeError, BackendMismatch, ArgumentError.

    >>> import minidl
    >>> from minidl.compress import prune
    >>> layer = prune.magnitude(minidl.nn.Linear(8, 4), 0.75)
    >>> twin, x = SparseLinear(layer), minidl.ones((2, 8))
    >>> twin.values.shape, float(abs(twin(x) - layer(x)).max().item()) < 1e-6
    ((8, 1), True)
    """

    values: Tensor
    indices: Tensor
    starts: Tensor
    bias: Tensor | None

    def __init__(self, layer: Linear, block: int = 1) -> None:
        super().__init__()
        check.instance("SparseLinear", "layer", layer, Linear)
        self.block = check.integer("SparseLinear", "block", block, 1)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        weight, backend = layer.weight.numpy(), layer.weight.backend
        rows = blocks_of(weight, self.block)
        where = (rows != 0).any(1)
        places, indices = np.nonzero(where)
        starts = np.concatenate([[0], np.cumsum(where.sum(1))])
        self.register_buffer("values", tensor(rows[places, :, indices], backend=backend))
        self.register_buffer("indices", tensor(indices.astype(int32), backend=backend))
        self.register_buffer("starts", tensor(starts.astype(int64), backend=backend))
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())
        self._ready: tuple[Version, int, Any] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self._apply(x, relu=False)

    def forward_relu(self, x: Tensor) -> Tensor:
        """relu(forward(x)) in one pass."""
        return self._apply(x, relu=True)

    def _apply(self, x: Tensor, relu: bool) -> Tensor:
        check.tensors("SparseLinear", x=x)
        if x.backend is not self.values.backend:
            raise mismatch("SparseLinear", x.backend.name, self.values.backend.name)
        if x.dtype != self.values.dtype:
            raise DTypeError(f"SparseLinear: x must be {self.values.dtype}, got {x.dtype}")
        if not x.ndim or x.shape[-1] != self.in_features:
            raise ShapeError(
                f"SparseLinear: x must be (..., {self.in_features}), got shape {x.shape}"
            )
        function = self._function(relu)
        if x.ndim == 2:
            return apply(function, x)
        flat = x.reshape((-1, self.in_features) if x.size else (0, self.in_features))
        return apply(function, flat).reshape((*x.shape[:-1], self.out_features))

    def _function(self, relu: bool) -> _SparseLinear:
        """The operation; what is packed is packed anew after the buffers moved or changed."""
        shape = (self.out_features, self.in_features)
        weight = SparseWeight(self.values.data, self.indices.data, self.starts.data, shape)
        version, ready = self.values.version, self._ready
        if ready is None or ready[0] is not version or ready[1] != version.changed:
            with aside():
                packed = self.values.backend.sparse_pack(weight)
            ready = self._ready = version, version.changed, packed
        held = [self.values, self.indices, self.starts]
        if self.bias is None:
            return _SparseLinear(weight, ready[2], None, relu, held)
        return _SparseLinear(weight, ready[2], self.bias.data, relu, [*held, self.bias])

    def dense(self) -> np.ndarray:
        """The weight (O, D) with its zeros, on the host."""
        starts, values = self.starts.numpy(), self.values.numpy()
        rows = np.zeros((starts.size - 1, self.block, self.in_features), values.dtype)
        rows[np.repeat(np.arange(starts.size - 1), np.diff(starts)), :, self.indices.numpy()] = (
            values
        )
        weight: np.ndarray = rows.reshape(-1, self.in_features)[: self.out_features]
        return weight

    def extra_repr(self) -> str:
        blocks = -(-self.out_features // self.block) * self.in_features
        share = self.indices.size / max(blocks, 1)
        return f"{self.in_features}, {self.out_features}, {self.block}x1 blocks, {share:.1%} stored"


def blocks_of(weight: np.ndarray, block: int) -> np.ndarray:
    """(O, D) as (rows, block, D), with rows of zeros at the end.

    >>> blocks_of(np.ones((3, 2)), 2).shape
    (2, 2, 2)
    """
    padded = np.pad(weight, ((0, -weight.shape[0] % block), (0, 0)))
    return padded.reshape(-1, block, weight.shape[1])


class Choice(NamedTuple):
    """What was decided for a layer: `block` is None where it stays dense."""

    block: int | None
    density: float  # of weights that are not zero
    reason: str
    dense_us: float | None = None  # microseconds, where they were measured
    us: float | None = None  # of the best sparse form


class Choices(dict[str, Choice]):
    """Path of each layer -> its Choice; prints as a table."""

    def __str__(self) -> str:
        heads = ("layer", "density", "dense us", "sparse us", "kept", "why")
        rows: list[tuple[str, ...]] = [heads]
        for path, choice in self.items():
            times = [f"{t:.1f}" if t is not None else "-" for t in (choice.dense_us, choice.us)]
            kept = "dense" if choice.block is None else f"{choice.block}x1 blocks"
            rows.append((path, f"{choice.density:.1%}", *times, kept, choice.reason))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def sparse_choices(
    model: Module, example: Any, rule: str = "measured", rounds: int = 30
) -> Choices:
    """Which layers are faster without their zeros.

    rule: "measured" times each layer on what reaches it from example, dense and with blocks of 1
    and 16 outputs, in `rounds` interleaved rounds on this machine; the fastest median is kept, and
    the dense layer unless another is faster by a tenth. "density" needs no clock: it compares the
    share of blocks that are stored with `BREAK_EVEN`. Convolutions stay dense: no sparse kernel
    here beats theirs. Raises: ArgumentError.

    >>> import minidl
    >>> from minidl.compress import prune
    >>> model = prune.magnitude(minidl.nn.Linear(32, 32), 0.95)
    >>> found = sparse_choices(model, minidl.ones((1, 32)), rule="density")
    >>> found[""].block, found[""].reason
    (1, '5.0% of 1x1 blocks stored, break-even at 30%')
    """
    check.instance("sparsify", "model", model, Module)
    check.choice("sparsify", "rule", rule, ("measured", "density"))
    rounds = check.integer("sparsify", "rounds", rounds, 1)
    layers = {p: m for p, m in model.named_modules() if isinstance(m, (Linear, Conv2d))}
    if not any(isinstance(layer, Linear) for layer in layers.values()):
        raise ArgumentError("sparsify: there is no Linear in the model")
    reached = reaching(model, layers, example) if rule == "measured" else {}
    found = Choices()
    for path, layer in layers.items():
        weight = layer.weight.numpy()
        density = np.count_nonzero(weight) / max(weight.size, 1)
        if isinstance(layer, Conv2d):
            found[path] = Choice(None, density, "no sparse kernel beats a dense convolution here")
        elif density == 1:
            found[path] = Choice(None, density, "no weight is zero")
        elif rule == "density":
            found[path] = _by_density(weight, density)
        elif path in reached:
            found[path] = _by_time(layer, density, reached[path], rounds)
        else:
            found[path] = Choice(None, density, "the example does not reach it")
    return found


def _by_density(weight: np.ndarray, density: float) -> Choice:
    """Blocks, if few enough are stored, before single weights: they gain more."""
    for block in (BLOCK, 1):
        share = float((blocks_of(weight, block) != 0).any(1).mean())
        if share < BREAK_EVEN[block]:
            reason = (
                f"{share:.1%} of {block}x1 blocks stored, break-even at {BREAK_EVEN[block]:.0%}"
            )
            return Choice(block, density, reason)
    return Choice(None, density, f"above break-even, {BREAK_EVEN[1]:.0%}")


def _by_time(layer: Linear, density: float, x: Tensor, rounds: int) -> Choice:
    twins: dict[str, Module] = {"dense": layer}
    twins |= {str(block): SparseLinear(layer, block) for block in (1, BLOCK)}
    with in_use(*twins.values()):
        seconds = latency({name: calling(twin, x) for name, twin in twins.items()}, rounds)
    dense, *others = (float(np.median(t)) * 1e6 for t in seconds.values())
    us, block = min(zip(others, (1, BLOCK), strict=True))
    if us > 0.9 * dense:
        return Choice(None, density, f"below break-even: {dense / us:.2f} times as fast", dense, us)
    return Choice(block, density, f"{dense / us:.2f} times as fast", dense, us)


def sparsify(
    model: Module, example: Any, rule: str = "measured", inplace: bool = False,
    verbose: bool = True,
) -> Module:  # fmt: skip
    """A copy of the model whose layers skip their zeros where that is faster; in eval mode.

    example: a batch like those that it will see, or what `sparse_choices` returned. verbose: print
    the table of choices. rule: see `sparse_choices`. inplace: change the model itself.
    Raises: ArgumentError.

    >>> import minidl
    >>> from minidl.compress import prune
    >>> model = prune.magnitude(minidl.nn.Linear(32, 32), 0.95)
    >>> sparsify(model, minidl.ones((1, 32)), rule="density")
    layer  density  dense us  sparse us  kept        why
           5.0%     -         -          1x1 blocks  5.0% of 1x1 blocks stored, break-even at 30%
    SparseLinear(32, 32, 1x1 blocks, 5.0% stored)
    """
    choices = example if isinstance(example, Choices) else sparse_choices(model, example, rule)
    if verbose:
        print(choices)
    result = model if inplace else clone(model)
    every: dict[str, Any] = dict(result.named_modules())
    twins: dict[Module, Module] = {
        every[path]: SparseLinear(every[path], choice.block)
        for path, choice in choices.items() if choice.block is not None
    }  # fmt: skip
    return replace(result, twins).eval()
