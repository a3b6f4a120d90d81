"""Transforms of a batch of images, host arrays (N, C, H, W), on its way to the backend.

A transform is called with the batch and a Generator that belongs to its epoch and batch (the
DataLoader provides it), so what is drawn depends neither on the backend nor on what was loaded
before. Each image of a batch gets its own draw. `evaluation()` is what remains of a transform when
a trained model is tested: a random one falls away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..engine.arguments import function, integer, number
from ..engine.random import Generator
from ..errors import ArgumentError, DTypeError, ShapeError
from ..ops.check import pair

Transform = Callable[[np.ndarray, Generator], np.ndarray]


class Compose:
    """One transform after another; with none, the batch as it is.

    >>> x = np.full((1, 1, 1, 2), 255, np.uint8)
    >>> Compose(ToFloat(), Normalize(0.5, 0.5))(x, Generator(0)).ravel().tolist()
    [1.0, 1.0]
    """

    def __init__(self, *transforms: Transform) -> None:
        for transform in transforms:
            function("Compose", "a transform", transform, "batch", "generator")
        self.transforms = transforms

    def __call__(self, x: np.ndarray, generator: Generator) -> np.ndarray:
        for transform in self.transforms:
            x = transform(x, generator)
        return x

    def evaluation(self) -> Transform:
        """The composed transforms without what is random in them."""
        return Compose(*map(evaluation, self.transforms))


def evaluation(transform: Transform) -> Transform:
    """What remains of a transform for testing; a function of your own stays as it is.

    >>> steps = evaluation(Compose(RandomShift(2), ToFloat())).transforms
    >>> len(steps), type(steps[1]).__name__
    (2, 'ToFloat')
    """
    remaining = getattr(transform, "evaluation", None)
    return transform if remaining is None else remaining()


class _Random:
    """A random transform falls away in testing."""

    def evaluation(self) -> Transform:
        """The identity."""
        return Compose()


class ToFloat:
    """Integers from 0 to maximum as float32 from 0 to 1; floats of another width as float32, not
    scaled.

    >>> ToFloat()(np.array([[[[0, 51]]]], np.uint8), Generator(0)).ravel()
    array([0. , 0.2], dtype=float32)
    """

    def __init__(self, maximum: float = 255) -> None:
        self.maximum = number("ToFloat", "maximum", maximum, 0, above=True)

    def __call__(self, x: np.ndarray, generator: Generator) -> np.ndarray:
        y = x.astype(np.float32)
        return y if x.dtype.kind == "f" else np.divide(y, np.float32(self.maximum), out=y)


class Normalize:
    """(x - mean) / std, for all channels or for each its own; x is floating.

    Shapes: mean and std numbers or (C,). Raises: ArgumentError, DTypeError, ShapeError.

    >>> Normalize(1.0, 2.0)(np.array([[[[3.0]]]], np.float32), Generator(0)).item()
    1.0
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        try:
            means, stds = (np.asarray(v, np.float32).reshape(-1, 1, 1) for v in (mean, std))
            np.broadcast(means, stds)
        except (TypeError, ValueError) as error:
            raise ArgumentError(
                f"Normalize: mean and std must be numbers, or one for each channel, got {mean} and "
                f"{std}"
            ) from error
        self.mean, self.std = means, stds
        if not (self.std > 0).all() or not np.isfinite(self.mean).all():
            raise ArgumentError(
                f"Normalize: std must be positive and mean finite, got {std} and {mean}"
            )

    def __call__(self, x: np.ndarray, generator: Generator) -> np.ndarray:
        _images("Normalize", x, floating=True)
        channels = max(len(self.mean), len(self.std))
        if channels not in (1, x.shape[1]):
            raise ShapeError(
                f"Normalize: mean and std have {channels} channels, the batch is {x.shape}"
            )
        y: np.ndarray = np.subtract(x, self.mean, dtype=x.dtype)
        y /= self.std
        return y


class RandomCrop:
    """A window of size (h, w) at a random place of the image framed by padding zeros on every side.

    `evaluation()` cuts the window from the middle.
    Source: Krizhevsky, Sutskever & Hinton (2012), "ImageNet classification", section 4.1.
    Raises: ArgumentError; ShapeError if the framed image is smaller than the window.

    >>> RandomCrop(2)(np.ones((5, 1, 4, 4)), Generator(0)).shape
    (5, 1, 2, 2)
    """

    def __init__(self, size: int | tuple[int, int], padding: int = 0) -> None:
        self.size = pair("RandomCrop", "size", size)
        self.padding = integer("RandomCrop", "padding", padding, 0)

    def __call__(self, x: np.ndarray, generator: Generator) -> np.ndarray:
        framed, free = self._framed(x)
        top, left = (generator.integers(0, n + 1, len(x)) for n in free)
        return _windows(framed, top, left, self.size)

    def evaluation(self) -> Transform:
        """The window in the middle."""
        return self._middle

    def _middle(self, x: np.ndarray, generator: Generator) -> np.ndarray:
        framed, (rows, columns) = self._framed(x)
        (h, w), top, left = self.size, rows // 2, columns // 2
        return framed[:, :, top : top + h, left : left + w]

    def _framed(self, x: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        _images("RandomCrop", x)
        framed = _frame(x, self.padding)
        rows, columns = framed.shape[2] - self.size[0], framed.shape[3] - self.size[1]
        if rows < 0 or columns < 0:
            raise ShapeError(
                f"RandomCrop: a window {self.size} does not fit images {x.shape[2:]} padded "
                f"by {self.padding}"
            )
        return framed, (rows, columns)


class RandomShift(_Random):
    """Each image moved by up to pixels whole pixels up or down and left or right; zeros move in.

    >>> x = np.zeros((1, 1, 3, 3), np.uint8)
    >>> x[0, 0, 1, 1] = 7
    >>> y = RandomShift(1)(x, Generator(0))
    >>> y.sum().item(), y.shape
    (7, (1, 1, 3, 3))
    """

    def __init__(self, pixels: int) -> None:
        self.pixels = integer("RandomShift", "pixels", pixels, 0)

    def __call__(self, x: np.ndarray, generator: Generator) -> np.ndarray:
        _images("RandomShift", x)
        top, left = (generator.integers(0, 2 * self.pixels + 1, len(x)) for _ in range(2))
        return _windows(_frame(x, self.pixels), top, left, (x.shape[2], x.shape[3]))


class RandomFlip(_Random):
    """Each image mirrored with probability p, along its last axis (left to right) by default.

    >>> RandomFlip(p=1)(np.array([[[[1, 2, 3]]]]), Generator(0)).ravel().tolist()
    [3, 2, 1]
    """

    def __init__(self, p: float = 0.5, axis: int = -1) -> None:
        self.p = number("RandomFlip", "p", p, 0, 1)
        self.axis = integer("RandomFlip", "axis", axis)
        if self.axis not in (-3, -2, -1, 1, 2, 3):
            raise ArgumentError(f"RandomFlip: axis {axis} is none of an image; choose -1 or -2")

    def __call__(self, x: np.ndarray, generator: Generator) -> np.ndarray:
        _images("RandomFlip", x)
        chosen = generator.uniform((len(x),)) < self.p
        return np.where(chosen.reshape(-1, 1, 1, 1), np.flip(x, self.axis), x)


class RandomRotation(_Random):
    """Each image turned about its centre by an angle uniform in [-degrees, degrees]; zeros come in.

    A pixel of the result takes the value at the point that the rotation brings to it, by bilinear
    interpolation: f(y, x) = sum (1 - |y - i|) (1 - |x - j|) f(i, j) over the four pixels around it.
    Integers are rounded. Source: Gonzalez & Woods (2018), "Digital image processing", section 2.4.

    >>> x = np.zeros((1, 1, 3, 3), np.float32)
    >>> x[0, 0, 1, 1] = 1
    >>> RandomRotation(90)(x, Generator(0))[0, 0, 1, 1].item()
    1.0
    """

    def __init__(self, degrees: float) -> None:
        self.degrees = number("RandomRotation", "degrees", degrees, 0)

    def __call__(self, x: np.ndarray, generator: Generator) -> np.ndarray:
        _images("RandomRotation", x)
        share = 2 * generator.uniform((len(x),), np.dtype("float64")) - 1
        grid = _rotated_grid(share * math.radians(self.degrees), x.shape[2], x.shape[3])
        y = _bilinear(x, *grid)
        return (y if x.dtype.kind == "f" else np.rint(y)).astype(x.dtype, copy=False)


class GaussianNoise(_Random):
    """Each pixel plus a normal deviate times std; x is floating. Raises: ArgumentError, DTypeError.

    >>> GaussianNoise(0.1)(np.zeros((1, 1, 2, 2), np.float32), Generator(0)).dtype
    dtype('float32')
    """

    def __init__(self, std: float) -> None:
        self.std = number("GaussianNoise", "std", std, 0)

    def __call__(self, x: np.ndarray, generator: Generator) -> np.ndarray:
        _images("GaussianNoise", x, floating=True)
        noise: np.ndarray = generator.normal(x.shape, x.dtype)
        noisy: np.ndarray = x + noise * x.dtype.type(self.std)
        return noisy


def _images(operation: str, x: np.ndarray, floating: bool = False) -> None:
    if x.ndim != 4:
        raise ShapeError(f"{operation}: needs images (N, C, H, W), got {x.shape}")
    if floating and x.dtype.kind != "f":
        raise DTypeError(f"{operation}: needs floats, got {x.dtype}; put ToFloat() before it")


def _frame(x: np.ndarray, padding: int) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))


def _windows(x: np.ndarray, top: np.ndarray, left: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """From image n the window of that size whose first pixel is (top[n], left[n])."""
    every = np.lib.stride_tricks.sliding_window_view(x, size, axis=(2, 3))
    windows: np.ndarray = every[np.arange(len(x)), :, top, left]
    return windows


def _rotated_grid(turn: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of the turned images comes from: rows and columns (N, H, W)."""
    cos, sin = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
    y, x = (np.arange(n) - (n - 1) / 2 for n in (height, width))
    rows = cos * y[:, None] - sin * x + (height - 1) / 2
    columns = sin * y[:, None] + cos * x + (width - 1) / 2
    return rows, columns


def _bilinear(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Values of the images x (N, C, H, W) at points (N, H, W); 0 outside."""
    height, width = x.shape[2:]
    # In a frame of two zeros every point has four neighbours, those far outside moved to the edge.
    framed = np.moveaxis(_frame(x, 2), 1, -1)
    rows, columns = np.clip(rows, -2, height) + 2, np.clip(columns, -2, width) + 2
    i, j = rows.astype(np.int64), columns.astype(np.int64)
    down, right = (f.astype(np.float32)[..., None] for f in (rows - i, columns - j))
    n = np.arange(len(x))[:, None, None]
    upper = framed[n, i, j] * (1 - right) + framed[n, i, j + 1] * right
    lower = framed[n, i + 1, j] * (1 - right) + framed[n, i + 1, j + 1] * right
    y: np.ndarray = np.moveaxis(upper * (1 - down) + lower * down, -1, 1)
    return y
