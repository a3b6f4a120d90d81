"""Compression of trained models: pruning, 8-bit quantization, their files, and what they cost."""

from . import prune
from .files import load, load_tensors, save, save_tensors
from .layers import QuantConv2d, QuantLinear
from .models import clone
from .observer import MinMax, Observer
from .post_training import quantize_model
from .qtensor import QTensor, quantize, sqnr
from .report import Report, Stage, layer_sqnr, report

__all__ = [
    "MinMax",
    "Observer",
    "QTensor",
    "QuantConv2d",
    "QuantLinear",
    "Report",
    "Stage",
    "clone",
    "layer_sqnr",
    "load",
    "load_tensors",
    "prune",
    "quantize",
    "quantize_model",
    "report",
    "save",
    "save_tensors",
    "sqnr",
]
