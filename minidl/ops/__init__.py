"""The calculus: every operation, forward beside backward. Read `elementwise.py` first.

`minidl.nn.functional` is this module. Names and argument order are PyTorch's, except that axes are
called `axis` and `keepdims`, as in NumPy and the Array API.
"""

from ..engine.operations import operations
from .check import native_index
from .compare import (
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    not_equal,
)
from .conv import conv2d, conv2d_input_grad, conv2d_weight_grad, conv_transpose2d
from .dropout import dropout
from .elementwise import (
    abs,
    add,
    alias,
    astype,
    clip,
    clone,
    cos,
    divide,
    erf,
    exp,
    gelu,
    leaky_relu,
    log,
    maximum,
    minimum,
    multiply,
    negative,
    pow,
    relu,
    relu_grad,
    sigmoid,
    sign,
    silu,
    sin,
    softplus,
    sqrt,
    subtract,
    tanh,
    to_backend,
    where,
)
from .embedding import embedding, embedding_grad
from .linear import einsum, linear, matmul
from .loss import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
)
from .normalize import batch_norm, group_norm, layer_norm
from .pool import (
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool2d,
    avg_pool2d_grad,
    max_pool2d,
    max_pool2d_grad,
)
from .reduce import (
    argmax,
    argmin,
    cumsum,
    log_softmax,
    log_softmax_grad,
    logsumexp,
    max,
    mean,
    min,
    softmax,
    softmax_grad,
    sum,
    var,
)
from .shape import (
    broadcast_to,
    concatenate,
    expand,
    flatten,
    flip,
    gather,
    gather_grad,
    getitem,
    getitem_grad,
    index_add,
    pad,
    permute,
    reshape,
    split,
    squeeze,
    stack,
    swapaxes,
    transpose,
    unsqueeze,
)

operations.install({name: f for name, f in globals().items() if callable(f) and name[0] != "_"})
