"""Post-training quantization: Linear and Conv2d layers of a trained model become integer layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..engine.dtypes import float32
from ..engine.tensor import Tensor
from ..errors import ArgumentError, DTypeError, NonFiniteError
from ..nn import Conv2d, Linear, Module
from ..ops import check
from .layers import QuantConv2d, QuantLayer, QuantLinear
from .models import clone, compressible, in_use, inputs, replace
from .observer import MinMax, Observer
from .qtensor import scheme_of

Bounds = tuple[float, float]


def quantize_model(
    model: Module,
    calibration: Iterable[Any] | None = None,
    weights: str = "per_channel",
    activations: str = "affine",
    inplace: bool = False,
    modules: Iterable[str] | None = None,
    observer: Callable[[], Observer] = MinMax,
) -> Module:
    """A copy of the model whose Linear and Conv2d layers compute in 8-bit integers, for inference.

    calibration: batches, such as a DataLoader gives; the range of each layer's input is what
    `observer` makes of them (static). None: the range is that of each batch (dynamic), which needs
    no data but a pass over every input. weights: one scale per output channel ("per_channel") or
    per tensor ("per_tensor"); always symmetric, so that zeros of a pruned layer stay zero.
    activations: "affine" (uint8) or "symmetric" (int8). modules: the dotted names of the layers to
    quantize (default: all). inplace: change the model itself. The result is in eval mode.
    Source: Krishnamoorthi (2018), arXiv:1806.08342, section 3; Nagel et al. (2021),
    arXiv:2106.08295, section 3.
    Raises: ArgumentError for a model that is quantized already or has nothing to quantize, and for
    calibration data that is empty or misses a layer; NonFiniteError for weights or calibration
    data with NaN or infinity; DTypeError for a model that is not float32.

    >>> import minidl
    >>> from minidl import nn
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> quantize_model(model, [minidl.randn(8, 4)])
    Sequential(
      (0): QuantLinear(3, 4, per_channel, affine static uint8)
      (1): ReLU()
      (2): QuantLinear(2, 3, per_channel, affine static uint8)
    )
    """
    check.instance("quantize_model", "model", model, Module)
    check.function("quantize_model", "observer", observer)
    if calibration is not None:
        check.instance("quantize_model", "calibration", calibration, Iterable)
    if isinstance(calibration, (Tensor, np.ndarray)):
        raise DTypeError("quantize_model: calibration must be a list of batches; wrap it: [x]")
    check.choice("quantize_model", "weights", weights, ("per_channel", "per_tensor"))
    scheme = scheme_of(activations)
    paths = [path for path, _ in layers(model, modules)]
    bounds = None if calibration is None else _calibrate(model, paths, calibration, observer)
    result = model if inplace else clone(model)
    twins: dict[Module, Module] = {}
    for path, layer in layers(result, paths):
        how = (weights == "per_channel", scheme, None if bounds is None else bounds[path])
        twins[layer] = (
            QuantLinear(layer, *how) if isinstance(layer, Linear) else QuantConv2d(layer, *how)
        )
    return replace(result, twins).eval()


def layers(
    model: Module, modules: Iterable[str] | None = None
) -> list[tuple[str, Linear | Conv2d]]:
    """(path, layer) of the layers to quantize. Raises: ArgumentError, DTypeError."""
    every = dict(model.named_modules())
    if any(isinstance(module, QuantLayer) for module in every.values()):
        raise ArgumentError(
            "quantize_model: the model is quantized already. Quantize the float model, which"
            " quantize_model left as it was unless it was called with inplace=True."
        )
    chosen = every if modules is None else modules
    unknown = [path for path in chosen if path not in every]
    if unknown:
        raise ArgumentError(f"quantize_model: no module {unknown[0]!r}; there are {sorted(every)}")
    found = [(path, m) for path in chosen if compressible(m := every[path])]
    if not found:
        raise ArgumentError("quantize_model: there is no Linear or Conv2d to quantize")
    for path, layer in found:
        if layer.weight.dtype != float32:
            raise DTypeError(
                f"quantize_model: {path or 'the layer'} is {layer.weight.dtype}; convert the model"
                " first: model.float()"
            )
    return found


def _calibrate(
    model: Module,
    paths: list[str],
    batches: Iterable[Any],
    observer: Callable[[], Observer],
) -> dict[str, Bounds]:
    """The range of each layer's input over the batches."""
    every = dict(model.named_modules())
    observers = {path: observer() for path in paths}
    removes = [
        every[path].register_forward_pre_hook(_watch(watching))
        for path, watching in observers.items()
    ]
    try:
        with in_use(model):
            count = 0
            for batch in batches:
                model(inputs(batch, model))
                count += 1
    finally:
        for remove in removes:
            remove()
    if not count:
        raise ArgumentError(
            "quantize_model: calibration has no batches. Pass a DataLoader or a list of batches"
            " (an iterator can be used only once), or None for dynamic quantization."
        )
    return {path: _checked(path, watching.bounds()) for path, watching in observers.items()}


def _watch(observer: Observer) -> Callable[[Any, tuple[Tensor, ...]], None]:
    return lambda module, args: observer.observe(args[0])


def _checked(path: str, bounds: Bounds) -> Bounds:
    low, high = bounds
    if low == float("inf"):
        raise ArgumentError(
            f"quantize_model: no calibration data reached layer {path!r}. Leave it out with"
            " modules=[...], or use batches that reach it."
        )
    if not -float("inf") < low <= high < float("inf"):
        raise NonFiniteError(
            f"quantize_model: the input of layer {path!r} ranges from {low} to {high} on the"
            " calibration data; look there for a NaN or an infinity."
        )
    return bounds
