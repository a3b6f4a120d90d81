"""Compression of trained models: pruning, quantization, distillation, low rank, files, and what
they cost.
"""

from . import prune, structured
from .correct import correct_bias
from .distill import Distiller, Hint, attention_loss, attention_map, hint_loss, soft_loss
from .equalize import equalize
from .fake_quantize import FakeQuantize, LearnedStepSize, fake_quantize
from .files import load, load_tensors, save, save_tensors
from .fold import fold
from .graph import Graph, trace
from .histogram import Histogram, Percentile
from .integer import IntegerModel
from .layers import QuantConv2d, QuantLinear
from .least_error import mse_bounds
from .lottery import Ticket, lottery_ticket
from .low_rank import Ranks, factorize, ranks_by_energy, ranks_by_latency
from .measure import accuracy, layer_sqnr
from .models import clone
from .observer import MinMax, MovingAverageMinMax, Observer
from .post_training import quantize_model
from .qat import QATModel, convert, prepare_qat
from .qtensor import QTensor, quantize, sqnr
from .recipe import Recipe, recipe
from .report import Report, Stage, report
from .rounding import ada_round
from .schedule import GradualPruning, cubic
from .sensitivity import Sensitivity, sensitivity
from .sharing import share
from .sparse import Choices, SparseLinear, sparse_choices, sparsify
from .weight_only import QuantEmbedding, WeightOnlyLinear, quantize_weights

__all__ = [
    "Choices",
    "Distiller",
    "FakeQuantize",
    "GradualPruning",
    "Graph",
    "Hint",
    "Histogram",
    "IntegerModel",
    "LearnedStepSize",
    "MinMax",
    "MovingAverageMinMax",
    "Observer",
    "Percentile",
    "QATModel",
    "QTensor",
    "QuantConv2d",
    "QuantEmbedding",
    "QuantLinear",
    "Ranks",
    "Recipe",
    "Report",
    "Sensitivity",
    "SparseLinear",
    "Stage",
    "Ticket",
    "WeightOnlyLinear",
    "accuracy",
    "ada_round",
    "attention_loss",
    "attention_map",
    "clone",
    "convert",
    "correct_bias",
    "cubic",
    "equalize",
    "factorize",
    "fake_quantize",
    "fold",
    "hint_loss",
    "layer_sqnr",
    "load",
    "load_tensors",
    "lottery_ticket",
    "mse_bounds",
    "prepare_qat",
    "prune",
    "quantize",
    "quantize_model",
    "quantize_weights",
    "ranks_by_energy",
    "ranks_by_latency",
    "recipe",
    "report",
    "save",
    "save_tensors",
    "sensitivity",
    "share",
    "soft_loss",
    "sparse_choices",
    "sparsify",
    "sqnr",
    "structured",
    "trace",
]
