"""Compression of trained models: pruning, 8-bit quantization, their files, and what they cost."""

from .observer import MinMax, Observer
from .qtensor import QTensor, quantize, sqnr

__all__ = ["MinMax", "Observer", "QTensor", "quantize", "sqnr"]
