"""State: modules that remember parameters; the calculus they call is in `minidl.ops`."""

# One name a line would fill a screen.
# isort: off
from . import functional, init
from .activation import (
    GELU, LeakyReLU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh,
)  # fmt: skip
from .attention import MultiheadAttention
from .container import LinearReLU, ModuleDict, ModuleList, Sequential
from .conv import Conv2d, ConvTranspose2d
from .dropout import Dropout
from .embedding import Embedding
from .linear import Flatten, Identity, Linear, Unflatten
from .loss import (
    BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, KLDivLoss, L1Loss, MSELoss, NLLLoss,
)  # fmt: skip
from .module import Module, Parameter
from .normalize import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm
from .pool import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d
from .recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from .summary import Summary, summary
from .transformer import PositionalEncoding, TransformerEncoder, TransformerEncoderLayer

__all__ = [
    "GELU", "GRU", "LSTM", "RNN", "AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "AvgPool2d",
    "BCEWithLogitsLoss", "BatchNorm1d", "BatchNorm2d", "Conv2d", "ConvTranspose2d",
    "CrossEntropyLoss", "Dropout", "Embedding", "Flatten", "GRUCell", "GroupNorm", "HuberLoss",
    "Identity", "KLDivLoss", "L1Loss", "LSTMCell", "LayerNorm", "LeakyReLU", "Linear", "LinearReLU",
    "LogSoftmax", "MSELoss", "MaxPool2d", "Module", "ModuleDict", "ModuleList",
    "MultiheadAttention", "NLLLoss", "Parameter", "PositionalEncoding", "RNNCell", "ReLU",
    "Sequential", "SiLU", "Sigmoid", "Softmax", "Softplus", "Summary", "Tanh", "TransformerEncoder",
    "TransformerEncoderLayer", "Unflatten", "functional", "init", "summary",
]  # fmt: skip
