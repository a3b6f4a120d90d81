"""One training step in each library: forward, loss, backward, Adam. The workloads bring the model.

All start from the same weights and see the same batch again and again. Half of it contradicts the
other half (see `classified`), so that it can never be learned by heart: gradients that fade away
would end in denormal numbers, which processors compute slowly, and some libraries flush to 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

TRIES = 5
RATE, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8
Arrays = dict[str, np.ndarray]
Step = Callable[[], Any]


# -- what all are given ----------------------------------------------------------------------------


def classified(shapes: dict[str, Sequence[int]], *x_shape: int) -> Arrays:
    """Weights, a batch "x", and its "target": one of ten classes.

    Every sample is there twice, with two different classes. No loss can fall below log 2.
    """
    random = np.random.default_rng(0)
    half = random.standard_normal((x_shape[0] // 2, *x_shape[1:]), "float32")
    label = random.integers(0, 10, len(half))
    batch = {"x": np.concatenate([half, half]), "target": np.concatenate([label, (label + 1) % 10])}
    return batch | weights(shapes)


def weights(shapes: dict[str, Sequence[int]]) -> Arrays:
    """Uniform in +-1/sqrt(fan in), as PyTorch starts; norm scales (of one axis) around 1."""
    random = np.random.default_rng(1)
    made = {}
    for name, shape in shapes.items():
        centre = 1.0 if name.endswith("weight") and len(shape) == 1 else 0.0
        bound = 0.1 if len(shape) == 1 else 1 / np.sqrt(np.prod(shape[1:]))
        made[name] = (centre + random.uniform(-bound, bound, shape)).astype("float32")
    return made


def only_weights(given: Arrays) -> Arrays:
    return {name: array for name, array in given.items() if name not in ("x", "target")}


def transposed(given: Arrays) -> Arrays:
    """The weights for libraries that write x @ w: matrices are (in, out) there."""
    found = only_weights(given)
    return {name: w.T.copy() if w.ndim == 2 else w for name, w in found.items()}


# -- one step, library by library ------------------------------------------------------------------


def in_minidl(model: Any, given: Arrays, compiled: Any, loss: str = "cross_entropy") -> Step:
    import minidl
    from minidl import ops, optim

    model.load_state_dict(
        {k: minidl.tensor(v) for k, v in only_weights(given).items()}, strict=False
    )
    optimizer = optim.Adam(model.parameters(), lr=RATE)
    x, target = minidl.tensor(given["x"]), minidl.tensor(given["target"])
    criterion = getattr(ops, loss)

    def step(x: minidl.Tensor, target: minidl.Tensor) -> minidl.Tensor:
        value = criterion(model(x), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value

    step = compiled(step)
    return lambda: step(x, target)


def in_pytorch(
    model: Any,
    given: Arrays,
    compiled: Any,
    loss: str = "cross_entropy",
    channels_last: bool = False,
) -> Step:
    import torch

    model.load_state_dict(
        {k: torch.tensor(v) for k, v in only_weights(given).items()}, strict=False
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    x, target = torch.tensor(given["x"]), torch.tensor(given["target"])
    if channels_last:
        model.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    criterion = getattr(torch.nn.functional, loss)
    forward = compiled(lambda x, target: criterion(model(x), target))

    def step() -> torch.Tensor:
        value = forward(x, target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value

    return step


def in_jax(model: Any, given: Arrays, compiled: Any, loss: Any = None) -> Step:
    import jax
    import jax.numpy as jnp

    def cross_entropy(y: jax.Array, target: jax.Array) -> jax.Array:
        chosen = jnp.take_along_axis(jax.nn.log_softmax(y), target[:, None], 1)
        return -chosen.mean()

    criterion = loss or cross_entropy

    def step(state: Any, x: jax.Array, target: jax.Array) -> Any:
        count, w, mean, square = state
        value, grad = jax.value_and_grad(lambda w: criterion(model(w, x), target))(w)
        count = count + 1
        mean = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, mean, grad)
        square = jax.tree.map(lambda s, g: BETA2 * s + (1 - BETA2) * g * g, square, grad)
        rate, fix = RATE / (1 - BETA1**count), 1 / (1 - BETA2**count)
        new = jax.tree.map(
            lambda w, m, s: w - rate * m / (jnp.sqrt(s * fix) + EPS), w, mean, square
        )
        return (count, new, mean, square), value

    step = compiled(step, donate_argnums=0)
    w = {name: jnp.asarray(v) for name, v in transposed(given).items()}
    zeros = [jax.tree.map(jnp.zeros_like, w) for _ in range(2)]
    state = (jnp.float32(0), w, *zeros)
    x, target = jnp.asarray(given["x"]), jnp.asarray(given["target"])

    def run() -> jax.Array:
        nonlocal state
        state, value = step(state, x, target)
        return value

    return run


def in_mygrad(model: Any, given: Arrays) -> Step:
    import mygrad
    from mygrad.nnet.losses import softmax_crossentropy

    w = {name: mygrad.tensor(v) for name, v in transposed(given).items()}
    mean = {name: np.zeros_like(v.data) for name, v in w.items()}
    square = {name: np.zeros_like(v.data) for name, v in w.items()}
    count = 0

    def step() -> Any:
        nonlocal count
        value = softmax_crossentropy(model(w, given["x"]), given["target"])
        value.backward()
        count += 1
        rate, fix = RATE / (1 - BETA1**count), 1 / (1 - BETA2**count)
        for name, p in w.items():  # MyGrad brings no Adam
            m, s, g = mean[name], square[name], p.grad
            m += (1 - BETA1) * (g - m)
            s += (1 - BETA2) * (g * g - s)
            p.data[...] -= rate * m / (np.sqrt(s * fix) + EPS)
            p.null_grad()
        return value

    return step


def in_dezero(model: Any, given: Arrays) -> Step:
    """The model is a function of the weights, which are Parameters by PyTorch's names."""
    import dezero
    import dezero.functions as F  # noqa: N812  (its books' name)
    from dezero.optimizers import Adam

    layer = dezero.Layer()
    for name, v in transposed(given).items():
        setattr(layer, name, dezero.Parameter(v))
    w = layer.__dict__
    optimizer = Adam(alpha=RATE, beta1=BETA1, beta2=BETA2, eps=EPS).setup(layer)

    def step() -> Any:
        value = F.softmax_cross_entropy(model(w, given["x"]), given["target"])
        layer.cleargrads()
        value.backward()
        optimizer.update()
        return value

    return step


def better(make: Callable[[bool], Step]) -> Step:
    """A step in the faster of PyTorch's two layouts of images; make(True) is channels last.

    It is built anew once it is chosen, since trying has moved the weights.
    """
    seconds = {}
    for last in (False, True):
        step = make(last)
        step()
        started = time.perf_counter()
        for _ in range(TRIES):
            step()
        seconds[last] = time.perf_counter() - started
    return make(min(seconds, key=seconds.__getitem__))
