"""Each transform against a plain loop over images and pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from minidl import Generator
from minidl.data import transforms as t
from minidl.errors import ArgumentError, DTypeError, ShapeError
from minidl.verify.tolerances import FALSE_ALARM, assert_close, assert_same, sampling_bound

RANDOM: list[Callable[[], Any]] = [
    lambda: t.RandomShift(2),
    lambda: t.RandomCrop((3, 4), padding=1),
    lambda: t.RandomFlip(),
    lambda: t.RandomRotation(45),
    lambda: t.GaussianNoise(0.5),
]


def images(dtype: str = "float32", n: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, (n, 2, 5, 6)).astype(dtype)


@pytest.mark.parametrize("make", RANDOM)
def test_same_generator_same_pixels_and_the_input_is_left_alone(make: Callable[[], Any]) -> None:
    x = images()
    first, again, other = (make()(x, Generator(s)) for s in (1, 1, 2))
    assert_same(first, again)
    assert (first != other).any()
    assert_same(x, images())
    assert first.dtype == x.dtype


@pytest.mark.parametrize("make", RANDOM)
def test_images_of_a_batch_are_drawn_apart(make: Callable[[], Any]) -> None:
    x = np.broadcast_to(images()[:1], (40, 2, 5, 6))
    y = make()(x, Generator(0))
    assert len({image.tobytes() for image in y}) > 1


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_shift(dtype: str) -> None:
    x, seen = images(dtype), set()
    for image, shifted in zip(x, t.RandomShift(1)(x, Generator(3)), strict=True):
        framed = np.pad(image, ((0, 0), (1, 1), (1, 1)))
        places = [
            (i, j)
            for i in range(3)
            for j in range(3)
            if (framed[:, i : i + 5, j : j + 6] == shifted).all()
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert seen == {(i, j) for i in range(3) for j in range(3)}
    assert_same(t.RandomShift(0)(x, Generator(0)), x)


def test_crop() -> None:
    x, crop, seen = images(), t.RandomCrop((3, 4), padding=1), set()
    for image, window in zip(x, crop(x, Generator(0)), strict=True):
        framed = np.pad(image, ((0, 0), (1, 1), (1, 1)))
        places = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if (framed[:, i : i + 3, j : j + 4] == window).all()
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert {i for i, _ in seen} == {j for _, j in seen} == set(range(5))
    middle = t.evaluation(crop)(x, Generator(0))
    assert_same(middle, x[:, :, 1:4, 1:5])


def test_flip() -> None:
    x = images()
    y = t.RandomFlip(0.5)(x, Generator(0))
    flipped = [(image == before[:, :, ::-1]).all() for image, before in zip(y, x, strict=True)]
    kept = [(image == before).all() for image, before in zip(y, x, strict=True)]
    assert np.logical_xor(flipped, kept).all()
    assert any(flipped)
    assert any(kept)
    assert_same(t.RandomFlip(1, axis=2)(x, Generator(0)), x[:, :, ::-1])
    assert_same(t.RandomFlip(0)(x, Generator(0)), x)


def turned(image: np.ndarray, angle: float) -> np.ndarray:
    """Bilinear rotation of (C, H, W), pixel by pixel in Python's floats."""
    height, width = image.shape[1:]
    result = np.zeros(image.shape)
    for c, i, j in np.ndindex(image.shape):
        y, x = i - (height - 1) / 2, j - (width - 1) / 2
        row = math.cos(angle) * y - math.sin(angle) * x + (height - 1) / 2
        column = math.sin(angle) * y + math.cos(angle) * x + (width - 1) / 2
        for a, b in np.ndindex(height, width):
            near = max(0.0, 1 - abs(row - a)) * max(0.0, 1 - abs(column - b))
            result[c, i, j] += near * float(image[c, a, b])
    return result


def test_rotation_agrees_with_loops() -> None:
    x, degrees = images(n=5), 170.0
    angles = (2 * Generator(4).uniform((5,), np.dtype("float64")) - 1) * math.radians(degrees)
    expected = np.stack([turned(i, a) for i, a in zip(x, angles, strict=True)])
    y = t.RandomRotation(degrees)(x, Generator(4))
    assert_close(y, expected, sampling_bound(x, np.float32), np.float32)
    rounded = t.RandomRotation(degrees)(x.astype(np.uint8), Generator(4))
    assert_same(rounded, np.rint(y).astype(np.uint8))


def test_rotation_by_nothing() -> None:
    assert_same(t.RandomRotation(0)(images(), Generator(0)), images())


def test_noise_has_its_spread() -> None:
    x = np.zeros((50, 1, 20, 20), np.float32)
    y = t.GaussianNoise(0.25)(x, Generator(0))
    errors = NormalDist().inv_cdf(1 - FALSE_ALARM / 2) / math.sqrt(x.size)
    assert abs(y.mean() / 0.25) < errors
    assert abs(y.std() / 0.25 - 1) < errors / math.sqrt(2)
    assert_same(t.GaussianNoise(0)(images(), Generator(0)), images())


def test_to_float_and_normalize() -> None:
    x = images("uint8")
    y = t.ToFloat()(x, Generator(0))
    assert_same(y, x / np.float32(255))
    assert_same(t.ToFloat(16)(x, Generator(0)), x / np.float32(16))
    assert_same(t.ToFloat()(x.astype(np.float64), Generator(0)), x.astype(np.float32))
    z = t.Normalize([0.5, 0.25], [1.0, 0.5])(y, Generator(0))
    assert_same(z[:, 0], y[:, 0] - np.float32(0.5))
    assert_same(z[:, 1], (y[:, 1] - np.float32(0.25)) / np.float32(0.5))
    assert t.Normalize(0.5, 1)(y.astype(np.float64), Generator(0)).dtype == np.float64


def test_numpy_numbers_are_taken() -> None:
    x, two, half = images("float32"), np.int64(2), np.float64(0.5)
    for transform in (
        t.RandomCrop(two, padding=two), t.RandomShift(two), t.RandomFlip(half),
        t.RandomRotation(half), t.GaussianNoise(half), t.ToFloat(two), t.Normalize(half, [half]),
    ):  # fmt: skip
        assert transform(x, Generator(0)).dtype == np.float32


def test_compose_and_evaluation() -> None:
    def own(x: np.ndarray, generator: Generator) -> np.ndarray:
        return x + 1

    steps = t.Compose(t.RandomShift(1), t.RandomRotation(9), t.RandomFlip(), own, t.ToFloat(2))
    x = images("uint8")
    assert_same(t.evaluation(steps)(x, Generator(0)), (x + 1) / np.float32(2))
    assert_same(t.Compose()(x, Generator(0)), x)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: t.RandomShift(-1), ArgumentError, "pixels"),
        (lambda: t.RandomShift(1.5), ArgumentError, "pixels"),
        (lambda: t.RandomCrop(0), ArgumentError, "size must be .* got 0"),
        (lambda: t.RandomCrop((4,)), ArgumentError, "size"),
        (lambda: t.RandomCrop(None), ArgumentError, "size"),
        (lambda: t.RandomCrop(2, 1.5), ArgumentError, "padding"),
        (lambda: t.RandomFlip("a"), ArgumentError, "p must be"),
        (lambda: t.RandomFlip(axis=0), ArgumentError, "axis 0 is none of an image"),
        (lambda: t.RandomFlip(axis=7), ArgumentError, "axis 7"),
        (lambda: t.RandomRotation("a"), ArgumentError, "degrees"),
        (lambda: t.ToFloat("a"), ArgumentError, "maximum"),
        (lambda: t.Normalize("a", 1), ArgumentError, "Normalize: mean and std"),
        (lambda: t.Normalize(None, 1), ArgumentError, "mean finite"),
        (lambda: t.Normalize([1, 2], [1, 2, 3]), ArgumentError, "one for each channel"),
        (lambda: t.Compose([t.ToFloat()]), DTypeError, "a transform must be callable"),
        (lambda: t.RandomCrop(2, -1), ArgumentError, "padding"),
        (lambda: t.RandomFlip(1.5), ArgumentError, "p must be"),
        (lambda: t.RandomRotation(-1), ArgumentError, "degrees"),
        (lambda: t.GaussianNoise(math.nan), ArgumentError, "std"),
        (lambda: t.ToFloat(0), ArgumentError, "maximum"),
        (lambda: t.Normalize(0, 0), ArgumentError, "std must be positive"),
        (lambda: t.RandomCrop(9)(images(), Generator(0)), ShapeError, r"\(5, 6\)"),
        (lambda: t.RandomShift(1)(images()[0], Generator(0)), ShapeError, r"\(N, C, H, W\)"),
        (lambda: t.Normalize([1, 2, 3], 1)(images(), Generator(0)), ShapeError, "3 channels"),
        (lambda: t.Normalize(0, 1)(images("uint8"), Generator(0)), DTypeError, "ToFloat"),
        (lambda: t.GaussianNoise(1)(images("uint8"), Generator(0)), DTypeError, "ToFloat"),
    ],
)
def test_errors(call: Callable[[], Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        call()
