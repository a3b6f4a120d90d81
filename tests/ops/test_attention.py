"""Attention: its definition, its masks, what is copied, and the errors at the door."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import Generator, ops
from minidl.errors import ArgumentError, BackendMismatch, DTypeError, GraphError, ShapeError
from minidl.verify.gradients import check_definition
from minidl.verify.operations.attention import CASES
from minidl.verify.strategies import fill
from minidl.verify.tolerances import assert_close, assert_same, composed_bound

from .cases import OperationCases

FUSED = [case for case in CASES if not case.label.startswith("attention_weights")]


class TestCases(OperationCases):
    cases = CASES


@pytest.mark.parametrize("case", [c for c in FUSED if "learned" not in c.label], ids=str)
def test_kernels_agree_with_the_definition(backend, case):
    check_definition(backend, case)


def tensors(backend, *shapes, dtype=np.float32):
    return [
        minidl.tensor(fill(s, dtype, "normal", i), backend=backend, requires_grad=True)
        for i, s in enumerate(shapes)
    ]


def test_self_attention_is_attention_of_its_parts(backend):
    (x,) = tensors(backend, (2, 70, 3, 4, 8))
    parts = [ops.swapaxes(x[:, :, i], 1, 2) for i in range(3)]
    y = ops.swapaxes(ops.scaled_dot_product_attention(*parts, is_causal=True), 1, 2)
    weight = minidl.tensor(fill(y.shape, np.float32, "normal", 7), backend=backend)
    (wanted,) = minidl.grad((y * weight).sum(), x)
    z = ops.self_attention(x, is_causal=True)
    (found,) = minidl.grad((z * weight).sum(), x)
    for got, want in ((z.numpy(), y.numpy()), (found.numpy(), wanted.numpy())):
        assert_close(got, want, composed_bound(np.float32, x.numpy(), want), np.float32)


def test_padding_hides_what_it_holds(backend):
    """Keys and values that no query may look at change nothing."""
    q, k, v = tensors(backend, (2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4))
    seen = minidl.tensor(np.arange(5) < 3, backend=backend)
    y = ops.scaled_dot_product_attention(q, k, v, seen)
    cut = ops.scaled_dot_product_attention(q, k[:, :, :3], v[:, :, :3])
    bound = composed_bound(np.float32, v.numpy())
    assert_close(y.numpy(), cut.numpy(), bound, np.float32)
    grads = minidl.grad(y.sum(), [k, v])
    for g in grads:
        assert (g.numpy()[:, :, 3:] == 0).all()


def test_a_learned_mask_gets_its_gradient(backend):
    q, k, v, bias = tensors(backend, (2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4), (2, 1, 5))
    y = ops.scaled_dot_product_attention(q, k, v, bias)
    (found,) = minidl.grad((y * y).sum(), bias)
    assert found.shape == bias.shape
    assert (found.numpy() != 0).all()


def test_dropout_is_repeatable_and_the_same_everywhere(backend, reference):
    shapes = ((2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4))
    found = []
    for where in (backend, backend, reference):
        generator = Generator(3)
        y = ops.scaled_dot_product_attention(
            *tensors(where, *shapes), dropout_p=0.5, generator=generator
        )
        assert generator.state == (3, 15)  # 60 words are 15 blocks
        found.append(y.numpy())
    assert_same(found[0], found[1])
    assert_close(found[0], found[2], composed_bound(np.float32, found[2]), np.float32)


def test_without_dropout_nothing_is_drawn(backend):
    minidl.manual_seed(5)
    for p in (0, 1):
        ops.scaled_dot_product_attention(*tensors(backend, (2, 3), (4, 3), (4, 3)), dropout_p=p)
    assert minidl.default_generator.state == (5, 0)


def test_empty_sequences(backend):
    q, k, v = tensors(backend, (1, 2, 3, 4), (1, 2, 0, 4), (1, 2, 0, 5))
    y = ops.scaled_dot_product_attention(q, k, v)
    assert_same(y.numpy(), np.zeros((1, 2, 3, 5), np.float32))
    y.sum().backward()
    assert_same(q.grad.numpy(), np.zeros(q.shape, np.float32))
    assert ops.self_attention(minidl.zeros((2, 0, 3, 1, 4), backend=backend)).shape == (2, 0, 1, 4)


def test_changing_what_was_saved_is_noticed(backend):
    (x,) = tensors(backend, (1, 3, 3, 2, 4))
    y = ops.self_attention(x)
    with minidl.no_grad():
        y.mul_(2.0)
    with pytest.raises(GraphError, match="SelfAttention: a value needed"):
        y.sum().backward()


def test_errors_say_what_to_do(backend, other):
    q, k, v = tensors(backend, (2, 3, 4), (2, 5, 4), (2, 5, 6))
    attend = ops.scaled_dot_product_attention
    with pytest.raises(ShapeError, match=r"query \(2, 3, 4\) and key \(2, 5, 6\) must be"):
        attend(q, v, v)
    with pytest.raises(ShapeError, match="a value for each key"):
        attend(q, k, v[:, :4])
    with pytest.raises(ShapeError, match=r"attn_mask \(3, 3, 5\) must be broadcastable|broadcast"):
        attend(q, k, v, minidl.ones((3, 3, 5), "bool", backend=backend))
    with pytest.raises(ShapeError, match="must be broadcastable to"):
        attend(q, k, v, minidl.ones((2, 2, 3, 5), "bool", backend=backend))
    with pytest.raises(DTypeError, match="attn_mask must be bool or float32, got int64"):
        attend(q, k, v, minidl.ones((3, 5), "int64", backend=backend))
    with pytest.raises(ArgumentError, match="dropout_p must be from 0 to 1"):
        attend(q, k, v, dropout_p=2)
    with pytest.raises(BackendMismatch):
        attend(q, k.to(other), v)
    with pytest.raises(ShapeError, match=r"x must be \(N, T, 3, H, D\), got \(2, 3, 4\)"):
        ops.self_attention(q)
