"""Initial weights, drawn on the host: the same bits for the same generator state on every backend.

A trailing underscore fills the given tensor in place, whether or not it requires grad. A weight is
(out, in) or (out, in, kh, kw); its fan-in is in * kh * kw, its fan-out out * kh * kw.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..engine.creation import from_numpy
from ..engine.modes import no_grad
from ..engine.random import Generator, source_of
from ..engine.tensor import Tensor
from ..errors import ShapeError
from ..ops import check


def _fill(x: Tensor, values: Any) -> Tensor:
    with no_grad():
        return x.copy_(from_numpy(np.asarray(values, x.dtype), x.backend))


def constant_(x: Tensor, val: float) -> Tensor:
    """Every element val.

    >>> from minidl import zeros
    >>> constant_(zeros(2), 3.0)
    Tensor([3., 3.])
    """
    check.tensors("init", x=x)
    with no_grad():
        return x.fill_(check.number("init", "val", val))


def zeros_(x: Tensor) -> Tensor:
    """Every element 0.

    >>> from minidl import ones
    >>> zeros_(ones(2))
    Tensor([0., 0.])
    """
    return constant_(x, 0)


def ones_(x: Tensor) -> Tensor:
    """Every element 1.

    >>> from minidl import zeros
    >>> ones_(zeros(2))
    Tensor([1., 1.])
    """
    return constant_(x, 1)


def uniform_(
    x: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform in [a, b), before rounding: a + (b - a) times a number below 1 may round to b.

    >>> import minidl
    >>> w = uniform_(minidl.zeros(1000), -1, 1, Generator(0))
    >>> -1 <= w.min().item() < -0.99 and 0.99 < w.max().item() < 1
    True
    """
    check.floating("init", x=x)
    low, high = check.number("init", "a", a), check.number("init", "b", b)
    unit = source_of("init", generator).uniform(x.shape, x.dtype)
    return _fill(x, unit * (high - low) + low)


def normal_(
    x: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Normal with the given mean and standard deviation.

    >>> import minidl
    >>> w = normal_(minidl.zeros(10000), 5.0, 2.0, Generator(0))
    >>> round(w.mean().item(), 1), round(w.var().item() ** 0.5, 1)
    (5.0, 2.0)
    """
    check.floating("init", x=x)
    centre, spread = check.number("init", "mean", mean), check.number("init", "std", std, 0)
    unit = source_of("init", generator).normal(x.shape, x.dtype)
    return _fill(x, unit * spread + centre)


def fans(x: Tensor) -> tuple[int, int]:
    """(fan-in, fan-out) of a weight. Raises: ShapeError for fewer than 2 axes.

    >>> import minidl
    >>> fans(minidl.zeros((6, 1, 5, 5)))
    (25, 150)
    """
    check.floating("init", x=x)
    if x.ndim < 2 or x.size == 0:
        raise ShapeError(f"init: fan-in and fan-out need a non-empty (out, in, ...), got {x.shape}")
    taps = math.prod(x.shape[2:])
    return x.shape[1] * taps, x.shape[0] * taps


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """By how much a nonlinearity's input should be scaled up so that its output keeps its variance.

    Sources: He et al. (2015), arXiv:1502.01852, equations 10 and 15, for relu and leaky_relu, whose
    slope is param (0.01); 5/3 for tanh and 3/4 for selu are PyTorch's. Raises: ArgumentError.

    >>> calculate_gain("leaky_relu", 1.0)
    1.0
    """
    own = 0.01 if param is None else check.number("calculate_gain", "param", param)
    slope = {"relu": 0.0, "leaky_relu": own}.get(nonlinearity)
    if slope is not None:
        return math.sqrt(2 / (1 + slope**2))
    gains = {"linear": 1.0, "conv2d": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "selu": 3 / 4}
    check.choice("calculate_gain", "nonlinearity", nonlinearity, (*gains, "relu", "leaky_relu"))
    return gains[nonlinearity]


def _kaiming_std(x: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    check.choice("init.kaiming", "mode", mode, ("fan_in", "fan_out"))
    return calculate_gain(nonlinearity, a) / math.sqrt(fans(x)[mode == "fan_out"])


def kaiming_uniform_(
    x: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """Uniform with variance gain^2 / fan, which keeps the variance of relu activations.

    a is the slope of leaky_relu. Source: He et al. (2015), arXiv:1502.01852, section 2.2.
    Raises: ShapeError, ArgumentError.

    >>> import minidl
    >>> w = kaiming_uniform_(minidl.zeros((100, 6)), generator=Generator(0))
    >>> 0.99 < w.abs().max().item() < 1  # sqrt(3) * sqrt(2 / 6)
    True
    """
    bound = math.sqrt(3) * _kaiming_std(x, a, mode, nonlinearity)
    return uniform_(x, -bound, bound, generator)


def kaiming_normal_(
    x: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """Normal with variance gain^2 / fan; otherwise as `kaiming_uniform_`.

    >>> from minidl import Generator, zeros
    >>> kaiming_normal_(zeros((3, 4)), generator=Generator(0)).shape
    (3, 4)
    """
    return normal_(x, 0, _kaiming_std(x, a, mode, nonlinearity), generator)


def xavier_uniform_(x: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform with variance gain^2 * 2 / (fan-in + fan-out).

    Source: Glorot & Bengio (2010), "Understanding the difficulty of training deep feedforward
    neural networks", equation 16. Raises: ShapeError.

    >>> import minidl
    >>> w = xavier_uniform_(minidl.zeros((30, 24)), generator=Generator(0))
    >>> 0.33 < w.abs().max().item() < 1 / 3  # sqrt(6 / (24 + 30))
    True
    """
    bound = check.number("init", "gain", gain) * math.sqrt(6 / sum(fans(x)))
    return uniform_(x, -bound, bound, generator)


def xavier_normal_(x: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with variance gain^2 * 2 / (fan-in + fan-out); otherwise as `xavier_uniform_`.

    >>> from minidl import Generator, zeros
    >>> xavier_normal_(zeros((3, 4)), generator=Generator(0)).shape
    (3, 4)
    """
    std = check.number("init", "gain", gain) * math.sqrt(2 / sum(fans(x)))
    return normal_(x, 0, std, generator)


def orthogonal_(x: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """gain times a random matrix with orthonormal rows (or columns, if there are more rows).

    The Q of a QR decomposition of normal numbers, in float64, with R's diagonal made positive: only
    so is Q uniform among all rotations (Mezzadri 2007, arXiv:math-ph/0609050, section 5).
    Source: Saxe et al. (2013), arXiv:1312.6120, section 3. Raises: ShapeError.

    >>> import minidl
    >>> w = orthogonal_(minidl.zeros((2, 3), "float64"), generator=Generator(0))
    >>> np.allclose(w.numpy() @ w.numpy().T, np.eye(2))
    True
    """
    columns, rows = fans(x)[0], x.shape[0]
    shape = (max(rows, columns), min(rows, columns))
    source = source_of("init", generator).normal(shape, np.dtype("float64"))
    q, r = np.linalg.qr(source)
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)
    turned = (q if rows >= columns else q.T).reshape(x.shape)
    return _fill(x, check.number("init", "gain", gain) * turned)


def linear_(weight: Tensor, bias: Tensor | None, generator: Generator | None = None) -> None:
    """The initial state of linear and convolutional layers: both uniform within 1 / sqrt(fan-in).

    PyTorch's choice: a third of the variance that LeCun et al. (1998), "Efficient BackProp",
    section 4.6, derive.
    """
    kaiming_uniform_(weight, math.sqrt(5), generator=generator)
    if bias is not None:
        bound = 1 / math.sqrt(fans(weight)[0])
        uniform_(bias, -bound, bound, generator)


def positive(layer: str, **sizes: Any) -> None:
    """Sizes of a layer must be integers >= 1. Raises: ArgumentError naming the one that is not."""
    for name, size in sizes.items():
        check.integer(layer, name, size, 1)
