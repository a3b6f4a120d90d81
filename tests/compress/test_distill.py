"""Distillation: what the losses are, and that the teacher teaches and stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import nn, ops, optim
from minidl.compress import clone
from minidl.compress.distill import (
    Distiller,
    Hint,
    attention_loss,
    attention_map,
    hint_loss,
    soft_loss,
)
from minidl.engine.random import Generator
from minidl.errors import ArgumentError, BackendMismatch, DTypeError, ShapeError
from minidl.verify.strategies import seeds
from minidl.verify.tolerances import assert_close, composed_bound

from .models import mlp, state

temperatures = st.floats(0.5, 20.0)


def logits(backend, seed: int, shape: tuple[int, ...] = (5, 4)) -> minidl.Tensor:
    g = Generator(seed)
    return minidl.randn(*shape, generator=g, backend=backend, dtype="float64") * 3


def softened(x: minidl.Tensor, t: float) -> np.ndarray:
    e = np.exp((x.numpy() - x.numpy().max(1, keepdims=True)) / t)
    return e / e.sum(1, keepdims=True)


@given(t=temperatures, seed=seeds)
def test_soft_loss_is_the_divergence_times_t_squared(backend, t, seed):
    student, teacher = logits(backend, seed), logits(backend, seed + 1)
    p, q = softened(teacher, t), softened(student, t)
    terms = t * t * p * np.log(p / q)
    bound = composed_bound(np.float64, terms, np.float64(t * t), student.numpy(), teacher.numpy())
    assert_close(soft_loss(student, teacher, t).numpy(), np.sum(terms) / 5, bound * terms.size)


@given(t=temperatures, seed=seeds)
def test_the_gradient_is_that_of_the_docstring(backend, t, seed):
    student = logits(backend, seed).requires_grad_()
    teacher = logits(backend, seed + 1).requires_grad_()
    soft_loss(student, teacher, t).backward()
    expected = t * (softened(student, t) - softened(teacher, t)) / 5
    assert_close(student.grad.numpy(), expected, composed_bound(np.float64, np.float64(t)))
    assert teacher.grad is None


def test_without_t_squared_the_gradient_fades(backend):
    """Forgetting the factor is the classic mistake: at T = 20 hardly anything is learned."""
    student = logits(backend, 0).requires_grad_()
    sizes = []
    for t in (1.0, 20.0):
        student.grad = None
        soft_loss(student, logits(backend, 1), t).backward()
        sizes.append(float(np.abs(student.grad.numpy()).mean()))
    assert 0.2 < sizes[1] / sizes[0] < 5
    assert sizes[1] / 20**2 / sizes[0] < 0.02


@given(seed=seeds)
def test_equal_layers_lose_nothing(backend, seed):
    x = logits(backend, seed, (3, 2, 4, 4))
    assert hint_loss(x, x).item() == 0
    assert_close(attention_loss(x, x * 2).numpy(), np.float64(0), composed_bound(np.float64))


def test_hints_and_maps_do_not_reach_the_teacher(backend):
    x, y = (logits(backend, i, (3, 2, 4, 4)).requires_grad_() for i in (0, 1))
    (hint_loss(x, y) + attention_loss(x, y)).backward()
    assert y.grad is None
    assert float(np.abs(x.grad.numpy()).max()) > 0


@given(seed=seeds)
def test_attention_maps_have_length_one(backend, seed):
    found = attention_map(logits(backend, seed, (3, 2, 4, 4))).numpy()
    assert found.shape == (3, 16)
    assert_close(np.sum(found**2, 1), np.ones(3), composed_bound(np.float64))


def test_a_map_of_zeros_is_zeros_and_has_a_gradient(backend):
    x = minidl.zeros((1, 2, 3, 3), backend=backend, requires_grad=True)
    found = attention_map(x)
    found.sum().backward()
    assert not found.numpy().any()
    assert not x.grad.numpy().any()


# -- the trainer ----------------------------------------------------------------------------------
class Batches:
    """A task that the teacher knows and the labels do not tell: they are all 0."""

    def __init__(self, backend) -> None:
        self.x = np.random.default_rng(0).normal(size=(96, 7)).astype(np.float32)
        self.target = np.zeros(96, np.int64)
        self.teacher = mlp(backend, 3, (7, 16, 5))

    @property
    def data(self):
        return self.x, self.target


def agreement(student: nn.Module, batches: Batches) -> float:
    backend = next(student.parameters()).backend
    x = minidl.tensor(batches.x, backend=backend)
    with minidl.no_grad():
        ours, theirs = (m(x).numpy().argmax(1) for m in (student, batches.teacher))
    return float(np.mean(ours == theirs))


def test_a_student_learns_what_only_its_teacher_knows(backend):
    batches = Batches(backend)
    student = mlp(backend, 5, (7, 12, 5))
    before = state(batches.teacher)
    distiller = Distiller(
        student, batches.teacher, optim.Adam(student.parameters(), lr=0.02), alpha=1.0,
        temperature=2.0,
    )  # fmt: skip
    distiller.fit(batches.data, epochs=60, progress=False)
    assert agreement(student, batches) > 0.9
    assert state(batches.teacher) == before


def test_with_alpha_0_it_is_ordinary_training(backend):
    batches = Batches(backend)
    students = [mlp(backend, 5) for _ in range(2)]
    teacher = mlp(backend, 3)
    optimizers = [optim.SGD(s.parameters(), lr=0.1) for s in students]
    Distiller(students[0], teacher, optimizers[0], alpha=0).fit(batches.data, 2, progress=False)
    minidl.training.Trainer(students[1], optimizers[1]).fit(batches.data, 2, progress=False)
    ours, theirs = (state(s) for s in students)
    # alpha * soft adds an exact zero, and the hard loss is multiplied by an exact one.
    assert ours == theirs


def test_the_teacher_runs_in_eval_mode_and_keeps_its_own(backend):
    batches = Batches(backend)
    teacher = nn.Sequential(batches.teacher, nn.BatchNorm1d(5, backend=backend), nn.Dropout(0.5))
    teacher.train()
    before = state(teacher)
    seen = []
    teacher.register_forward_hook(lambda m, args, y: seen.append((m.training, y.requires_grad)))
    student = mlp(backend, 5)
    distiller = Distiller(student, teacher, optim.SGD(student.parameters(), lr=0.1))
    distiller.fit(batches.data, 1, progress=False)
    assert set(seen) == {(False, False)}
    assert teacher.training
    assert state(teacher) == before


@pytest.mark.parametrize("kind", ["hint", "attention"])
def test_hints_bring_a_layer_to_the_teachers(backend, kind):
    g = Generator(0)

    def network(channels: int) -> nn.Sequential:
        options = {"backend": backend, "generator": g}
        return nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1, **options), nn.Flatten(),
            nn.Linear(25 * channels, 3, **options),
        )  # fmt: skip

    teacher, student = network(8), network(2)
    projection = nn.Conv2d(2, 8, 1, backend=backend, generator=g) if kind == "hint" else None
    hint = Hint("0", "0", kind, projection=projection)
    images = np.random.default_rng(0).normal(size=(32, 1, 5, 5)).astype(np.float32)

    def gap() -> float:
        x = minidl.tensor(images, backend=backend)
        with minidl.no_grad():
            return hint(student[0](x), teacher[0](x)).item()

    before = gap()
    learned = [*student.parameters(), *(projection.parameters() if projection else ())]
    Distiller(student, teacher, optim.Adam(learned, lr=0.02), hints=[hint]).fit(
        (images, np.zeros(32, np.int64)), 30, progress=False
    )
    assert gap() < 0.7 * before


def test_projections_are_part_of_a_resumed_training(backend, tmp_path):
    def trained(path, epochs, resume=None):
        batches = Batches(backend)
        student, projection = (
            mlp(backend, 5),
            nn.Linear(9, 16, backend=backend, generator=Generator(1)),
        )
        optimizer = optim.Adam([*student.parameters(), *projection.parameters()], lr=0.01)
        hints = [Hint("0", "0", projection=projection)]
        distiller = Distiller(student, batches.teacher, optimizer, hints=hints)
        distiller.fit(batches.data, epochs, checkpoint=path, resume=resume, progress=False)
        return state(student) | {f"p.{k}": v for k, v in state(projection).items()}

    whole = trained(tmp_path / "whole.safetensors", 3)
    half = tmp_path / "half.safetensors"
    trained(half, 2)
    assert trained(half, 3, resume=half) == whole


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 2}, "alpha"),
        ({"temperature": 0}, "temperature"),
        ({"hints": [Hint("7", "0")]}, "student has no module '7'"),
        ({"hints": [Hint("0", "7")]}, "teacher has no module '7'"),
        ({"hints": [Hint("0", "0", "other")]}, "loss of a hint"),
        ({"hints": [Hint("0", "0", projection=nn.Linear(9, 9))]}, "projection of '0'"),
    ],
)
def test_wrong_arguments(arguments, message):
    student, teacher = (mlp(minidl.get_backend(), seed) for seed in (0, 1))
    optimizer = optim.SGD(student.parameters(), lr=0.1)
    with pytest.raises(ArgumentError, match=message):
        Distiller(student, teacher, optimizer, **arguments)


def test_the_optimizer_must_hold_the_student_alone(backend):
    student, teacher = mlp(backend, 0), mlp(backend, 1)
    with pytest.raises(ArgumentError, match="does not hold the parameters of the student"):
        Distiller(student, teacher, optim.SGD(teacher.parameters(), lr=0.1))
    both = optim.SGD([*student.parameters(), *teacher.parameters()], lr=0.1)
    with pytest.raises(ArgumentError, match="parameters of the teacher"):
        Distiller(student, teacher, both)
    with pytest.raises(ArgumentError, match="shares parameters with the teacher"):
        Distiller(student, student, optim.SGD(student.parameters(), lr=0.1))
    own = clone(student)
    Distiller(student, own, optim.SGD(student.parameters(), lr=0.1))


def test_models_on_two_backends(backend, other):
    student, teacher = mlp(backend, 0), mlp(other, 1)
    with pytest.raises(BackendMismatch):
        Distiller(student, teacher, optim.SGD(student.parameters(), lr=0.1))


def test_wrong_tensors(backend):
    x = logits(backend, 0)
    with pytest.raises(ShapeError, match="teacher"):
        soft_loss(x, logits(backend, 0, (5, 3)))
    with pytest.raises(ShapeError, match=r"\(N, C\)"):
        soft_loss(x[0], x[0])
    with pytest.raises(DTypeError):
        soft_loss(x, x.astype("int64"))
    with pytest.raises(ShapeError, match=r"\(N, C, H, W\)"):
        attention_map(x)
    with pytest.raises(ShapeError, match="same resolution"):
        attention_loss(logits(backend, 0, (1, 2, 3, 3)), logits(backend, 0, (1, 2, 4, 4)))
    with pytest.raises(ShapeError, match="projection="):
        Hint("0", "0")(x, ops.concatenate([x, x], 1))
