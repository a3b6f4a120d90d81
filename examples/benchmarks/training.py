"""One training step in each library: forward, loss, backward, Adam. The workloads bring the model.

All start from the same weights and see the same batch again and again. Half of it contradicts the
other half (see `classified`), so that it can never be learned by heart: gradients that fade away
would end in denormal numbers, which processors compute slowly, and some libraries flush to 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

TRIES = 5
RATE, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8
Arrays = dict[str, np.ndarray]
Step = Callable[[], Any]


# -- what all are given ----------------------------------------------------------------------------


def classified(model: Callable[[Any], Any], *x_shape: int, classes: int = 10) -> Arrays:
    """The model's weights, a batch "x", and its "target": a class for each sample.

    Every sample is there twice, with two different classes. No loss can fall below log 2.
    """
    random = np.random.default_rng(0)
    half = random.standard_normal((x_shape[0] // 2, *x_shape[1:]), "float32")
    label = random.integers(0, classes, len(half))
    target = np.concatenate([label, (label + 1) % classes])
    return {"x": np.concatenate([half, half]), "target": target} | weights(shapes(model))


def shapes(model: Callable[[Any], Any]) -> dict[str, tuple[int, ...]]:
    """Of the parameters, by the names that PyTorch has for them too."""
    from minidl import nn

    return {name: p.shape for name, p in model(nn).named_parameters()}


def weights(shapes: dict[str, tuple[int, ...]]) -> Arrays:
    """Uniform in +-1/sqrt(fan in), as PyTorch starts; vectors in +-0.1, norm scales around 1."""
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


def in_minidl(
    model: Any, given: Arrays, compiled: Any, loss: str = "cross_entropy", rate: float = RATE
) -> Step:
    import minidl
    from minidl import ops, optim

    model.load_state_dict(
        {k: minidl.tensor(v) for k, v in only_weights(given).items()}, strict=False
    )
    optimizer = optim.Adam(model.parameters(), lr=rate)
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
    model: Any, given: Arrays, compiled: Any, loss: str = "cross_entropy", rate: float = RATE,
    channels_last: bool = False,
) -> Step:  # fmt: skip
    import torch

    model.load_state_dict(
        {k: torch.tensor(v) for k, v in only_weights(given).items()}, strict=False
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
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
    """MyGrad brings no Adam, so it gets one that allocates nothing; and its guard is off.

    The guard makes arrays read-only while a graph holds them; its manual advises this for speed.
    """
    import mygrad
    from mygrad.nnet.losses import softmax_crossentropy

    mygrad.turn_memory_guarding_off()
    w = {name: mygrad.tensor(v) for name, v in transposed(given).items()}
    adam = {name: NumpyAdam(p.data) for name, p in w.items()}

    def step() -> Any:
        value = softmax_crossentropy(model(w, given["x"]), given["target"])
        value.backward()
        for name, p in w.items():
            adam[name].step(p.data, p.grad)
            p.null_grad()
        return value

    return step


class NumpyAdam:
    """Adam for one array, in place."""

    def __init__(self, param: np.ndarray) -> None:
        self.count = 0
        self.mean, self.square = np.zeros_like(param), np.zeros_like(param)
        self.spare = np.empty_like(param)

    def step(self, param: np.ndarray, grad: np.ndarray) -> None:
        self.count += 1
        spare, rate = self.spare, RATE / (1 - BETA1**self.count)
        self.mean *= BETA1
        self.mean += np.multiply(grad, 1 - BETA1, out=spare)
        self.square *= BETA2
        np.multiply(grad, grad, out=spare)
        self.square += np.multiply(spare, 1 - BETA2, out=spare)
        np.divide(self.square, 1 - BETA2**self.count, out=spare)
        np.sqrt(spare, out=spare)
        spare += EPS
        np.divide(self.mean, spare, out=spare)
        param -= np.multiply(spare, rate, out=spare)


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
