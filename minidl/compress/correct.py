"""Bias correction: rounding weights shifts the mean of a layer's outputs, a bias shifts it back.

With the weights off by e, y = (W + e) x + b is off by the mean of e x, which is not 0: where x is
positive, as behind a relu, errors of one sign do not cancel. Source: Nagel et al. (2019),
arXiv:1906.04721, section 4.2, in the empirical form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np

from ..engine.creation import tensor
from ..engine.tensor import Tensor
from ..errors import ArgumentError, NonFiniteError
from ..nn import Conv2d, Linear, Module, Parameter
from ..ops import check
from .correct_integers import correct_program
from .integer import IntegerModel
from .layers import QuantConv2d, QuantLinear
from .models import clone, compressible, run_hooked
from .weight_only import WeightOnlyLinear

CORRECTED = (Linear, Conv2d, QuantLinear, QuantConv2d, WeightOnlyLinear)  # with a float bias


def correct_bias(
    model: Module, reference: Module, calibration: Iterable[Any], inplace: bool = False
) -> Module:
    """A copy of a compressed model whose layers have the same mean outputs as the reference's.

    model: an IntegerModel, or one with dynamic or weight-only layers, or with rounded float
    weights; layers are matched by their dotted names. Layer by layer, first to last, the mean error
    of each output channel over the batches of calibration is taken from the bias, which is made
    where there was none. A later layer sees what the corrected ones before it pass on: one pass
    over the data for each layer. An integer program's biases change by whole units of its sums.
    inplace: change the model itself.
    Raises: ArgumentError if there is nothing to correct or no batch; NonFiniteError for means with
    NaN or infinity.

    >>> import minidl
    >>> from minidl.compress import quantize_weights
    >>> model = minidl.nn.Linear(64, 2)
    >>> x = minidl.rand(100, 64)
    >>> rough = correct_bias(quantize_weights(model, 4, 64), model, [x])
    >>> float((rough(x) - model(x)).mean(0).abs().max().item()) < 1e-5
    True
    """
    check.instance("correct_bias", "model", model, Module)
    check.instance("correct_bias", "reference", reference, Module)
    check.instance("correct_bias", "calibration", calibration, Iterable)
    batches = list(calibration)
    if not batches:
        raise ArgumentError("correct_bias: calibration has no batches; pass [x] or a DataLoader")
    if isinstance(model, IntegerModel):
        program: Any = model if inplace else clone(model)
        correct_program(program, reference, batches)
        return cast("Module", program)
    every = dict(reference.named_modules())
    result = model if inplace else clone(model)
    layers: dict[str, Any] = {
        path: m for path, m in result.named_modules()
        if isinstance(m, CORRECTED) and compressible(every.get(path))
    }  # fmt: skip
    if not layers:
        raise ArgumentError(
            "correct_bias: the model has no layer with a float bias where the reference has a"
            " Linear or Conv2d of the same name"
        )
    wanted = _means(reference, {path: every[path] for path in layers}, batches)
    for path, mean in wanted.items():  # in the order in which they ran
        found = _means(result, {path: layers[path]}, batches)
        if path not in found:
            continue
        error = found[path] - mean
        if not np.isfinite(error).all():
            raise NonFiniteError(f"correct_bias: the mean outputs of layer {path!r} are not finite")
        _subtract(layers[path], error)
    return result


def _means(model: Module, layers: dict[str, Module], batches: list[Any]) -> dict[str, np.ndarray]:
    """The mean output of each channel of each layer, in float64, by order of their first call."""
    sums: dict[str, Any] = {}

    def add(path: str) -> Callable[[Any, Any, Tensor], None]:
        def hook(module: Module, arguments: Any, y: Tensor) -> None:
            values = y.numpy().astype(np.float64)
            axis = 1 if isinstance(module, (Conv2d, QuantConv2d)) else values.ndim - 1
            others = tuple(i for i in range(values.ndim) if i != axis)
            total, count = sums.get(path, (0.0, 0))
            size = values.size // max(values.shape[axis], 1)
            sums[path] = total + values.sum(others), count + size

        return hook

    removes = [layer.register_forward_hook(add(path)) for path, layer in layers.items()]
    run_hooked(model, batches, removes)
    return {path: total / max(count, 1) for path, (total, count) in sums.items()}


def _subtract(layer: Any, error: np.ndarray) -> None:
    """bias -= error."""
    before = 0.0 if layer.bias is None else layer.bias.numpy().astype(np.float64)
    weight = layer.weight
    dtype = weight.dtype if compressible(layer) else np.float32
    fresh = tensor((before - error).astype(dtype), backend=weight.backend)
    if compressible(layer):
        layer.bias = Parameter(fresh)
    else:
        layer.bias = fresh
        weight.version.change()  # a dynamic layer prepares its constants anew
