"""The oracle: every method of the contract as float64 loops that nobody optimises.

It shares no text with the backends. Scalars are Python floats, loops run straight from the
definition, and sums are `math.fsum`, so that its own error is one rounding. Arrays come in as
NumPy arrays of any dtype and go out as float64 (or integers). Keep inputs small.
"""

from .attention import attention, attention_grad
from .conv import col2im, conv2d, conv2d_input_grad, conv2d_weight_grad, im2col, output_size
from .elementwise import BINARY, UNARY, gelu, gelu_grad, leaky_relu, map1, map2, silu_grad
from .integer import (
    int8_add,
    int8_attention,
    int8_avg_pool2d,
    int8_layer_norm,
    int8_lookup,
    int8_max_pool2d,
)
from .loss import cross_entropy, cross_entropy_grad
from .normalize import batch_norm, batch_norm_grad, layer_norm, layer_norm_grad
from .optimizer import adagrad_step, adam_step, limit, norm, rmsprop_step, scale, sgd_step
from .pool import avg_pool2d, avg_pool2d_grad, max_pool2d, max_pool2d_grad
from .products import einsum, integer_matmul, linear, linear_relu, matmul, sparse_linear
from .quantize import (
    decoded,
    dequantize,
    fake_quantize,
    fake_quantize_slopes,
    finished,
    has_code,
    int8_conv2d,
    int8_linear,
    quantize,
)
from .random import dropout, normal, philox, philox_block, uniform
from .recurrent import gru, gru_grad, lstm, lstm_grad, rnn, rnn_grad
from .reduce import (
    arg,
    cumsum,
    extreme,
    log_softmax,
    log_softmax_grad,
    logsumexp,
    mean,
    reduce_axes,
    softmax,
    softmax_grad,
    total,
    var,
)
from .shape import concatenate, flip, gather, gather_grad, getitem_grad, index_add, pad, transpose

__all__ = [
    "BINARY",
    "UNARY",
    "adagrad_step",
    "adam_step",
    "arg",
    "attention",
    "attention_grad",
    "avg_pool2d",
    "avg_pool2d_grad",
    "batch_norm",
    "batch_norm_grad",
    "col2im",
    "concatenate",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "cross_entropy",
    "cross_entropy_grad",
    "cumsum",
    "decoded",
    "dequantize",
    "dropout",
    "einsum",
    "extreme",
    "fake_quantize",
    "fake_quantize_slopes",
    "finished",
    "flip",
    "gather",
    "gather_grad",
    "gelu",
    "gelu_grad",
    "getitem_grad",
    "gru",
    "gru_grad",
    "has_code",
    "im2col",
    "index_add",
    "int8_add",
    "int8_attention",
    "int8_avg_pool2d",
    "int8_conv2d",
    "int8_layer_norm",
    "int8_linear",
    "int8_lookup",
    "int8_max_pool2d",
    "integer_matmul",
    "layer_norm",
    "layer_norm_grad",
    "leaky_relu",
    "limit",
    "linear",
    "linear_relu",
    "log_softmax",
    "log_softmax_grad",
    "logsumexp",
    "lstm",
    "lstm_grad",
    "map1",
    "map2",
    "matmul",
    "max_pool2d",
    "max_pool2d_grad",
    "mean",
    "norm",
    "normal",
    "output_size",
    "pad",
    "philox",
    "philox_block",
    "quantize",
    "reduce_axes",
    "rmsprop_step",
    "rnn",
    "rnn_grad",
    "scale",
    "sgd_step",
    "silu_grad",
    "softmax",
    "softmax_grad",
    "sparse_linear",
    "total",
    "transpose",
    "uniform",
    "var",
]
