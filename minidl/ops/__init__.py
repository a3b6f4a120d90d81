"""The calculus: every operation, forward beside backward. Read `elementwise.py` first.

`minidl.nn.functional` is this module. Names and argument order are PyTorch's, except that axes are
called `axis` and `keepdims`, as in NumPy and the Array API. Where a function differs in more than
that, its docstring says so.
"""

# One name a line would fill three screens.
# isort: off
from ..engine.operations import operations
from .activation import gelu, leaky_relu, relu, relu_grad, sigmoid, silu, softplus
from .attention import attention_weights, scaled_dot_product_attention, self_attention
from .check import native_index
from .compare import (
    equal, greater, greater_equal, less, less_equal, logical_and, logical_not, logical_or,
    not_equal,
)  # fmt: skip
from .conv import conv2d, conv2d_input_grad, conv2d_weight_grad, conv_transpose2d
from .dropout import dropout
from .copies import alias, astype, clone, to_backend
from .elementwise import (
    add, clip, divide, maximum, minimum, multiply, pow, subtract, where,
)  # fmt: skip
from .embedding import embedding, embedding_grad
from .indexing import gather, gather_grad, getitem, getitem_grad, index_add
from .linear import einsum, linear, linear_relu, matmul
from .loss import (
    binary_cross_entropy_with_logits, cross_entropy, huber_loss, kl_div, l1_loss, mse_loss,
    nll_loss,
)  # fmt: skip
from .normalize import batch_norm, group_norm, layer_norm
from .pool import (
    adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, avg_pool2d_grad, max_pool2d,
    max_pool2d_grad,
)  # fmt: skip
from .recurrent import gru, lstm, rnn
from .reduce import (
    argmax, argmin, cumsum, log_softmax, log_softmax_grad, logsumexp, max, mean, min, softmax,
    softmax_grad, sum, var,
)  # fmt: skip
from .shape import (
    broadcast_to, concatenate, expand, flatten, flip, pad, permute, reshape, split, squeeze, stack,
    swapaxes, transpose, unsqueeze,
)  # fmt: skip
from .unary import abs, cos, erf, exp, log, negative, sign, sin, sqrt, tanh

__all__ = [
    "abs", "adaptive_avg_pool2d", "adaptive_max_pool2d", "add", "alias", "argmax", "argmin",
    "astype", "attention_weights", "avg_pool2d", "avg_pool2d_grad", "batch_norm",
    "binary_cross_entropy_with_logits", "broadcast_to", "clip", "clone", "concatenate", "conv2d",
    "conv2d_input_grad", "conv2d_weight_grad", "conv_transpose2d", "cos", "cross_entropy", "cumsum",
    "divide", "dropout", "einsum", "embedding", "embedding_grad", "equal", "erf", "exp", "expand",
    "flatten", "flip", "gather", "gather_grad", "gelu", "getitem", "getitem_grad", "greater",
    "greater_equal", "group_norm", "gru", "huber_loss", "index_add", "kl_div", "l1_loss",
    "layer_norm", "leaky_relu", "less", "less_equal", "linear", "linear_relu", "log", "log_softmax",
    "log_softmax_grad", "logical_and", "logical_not", "logical_or", "logsumexp", "lstm", "matmul",
    "max", "max_pool2d", "max_pool2d_grad", "maximum", "mean", "min", "minimum", "mse_loss",
    "multiply", "native_index", "negative", "nll_loss", "not_equal", "pad", "permute", "pow",
    "relu", "relu_grad", "reshape", "rnn", "scaled_dot_product_attention", "self_attention",
    "sigmoid", "sign", "silu", "sin", "softmax", "softmax_grad", "softplus", "split", "sqrt",
    "squeeze", "stack", "subtract", "sum", "swapaxes", "tanh", "to_backend", "transpose",
    "unsqueeze", "var", "where",
]  # fmt: skip

operations.install({name: globals()[name] for name in __all__})
