from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hfcourse.heads.losses import linear_cross_entropy


@pytest.mark.parametrize("chunk", [0, 1, 7, 1000])
@pytest.mark.parametrize("with_bias", [True, False])
def test_equals_the_full_computation(chunk: int, with_bias: bool) -> None:
    torch.manual_seed(0)
    states = torch.randn(50, 16, requires_grad=True)
    weight = torch.randn(301, 16, requires_grad=True)
    bias = torch.randn(301, requires_grad=True) if with_bias else None
    labels = torch.randint(0, 301, (50,))
    labels[::5] = -100
    inputs = [tensor for tensor in (states, weight, bias) if tensor is not None]
    ours = linear_cross_entropy(states, weight, bias, labels, chunk=chunk)
    full = F.cross_entropy(F.linear(states, weight, bias), labels)
    torch.testing.assert_close(ours, full, rtol=0, atol=1e-5)
    for mine, theirs in zip(torch.autograd.grad(3 * ours, inputs), torch.autograd.grad(3 * full, inputs), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_gradient_against_finite_differences() -> None:
    torch.manual_seed(0)
    states = torch.randn(4, 3, requires_grad=True)
    weight = torch.randn(5, 3)
    labels = torch.tensor([0, 4, -100, 2])
    (gradient,) = torch.autograd.grad(linear_cross_entropy(states, weight, None, labels), states)
    for row in range(4):
        for column in range(3):
            step = torch.zeros(4, 3)
            step[row, column] = 1e-2
            with torch.no_grad():
                up = linear_cross_entropy(states + step, weight, None, labels)
                down = linear_cross_entropy(states - step, weight, None, labels)
            assert abs((up - down) / 2e-2 - gradient[row, column]) < 1e-3


def test_without_any_label_it_is_zero() -> None:
    states = torch.randn(3, 4, requires_grad=True)
    loss = linear_cross_entropy(states, torch.randn(7, 4), None, torch.full((3,), -100))
    loss.backward()
    assert loss.item() == 0
    assert states.grad is not None and not states.grad.any()


def test_frozen_weights_get_no_gradient_and_bf16_is_near() -> None:
    torch.manual_seed(0)
    states, weight = torch.randn(64, 32, requires_grad=True), torch.randn(99, 32)
    labels = torch.randint(0, 99, (64,))
    full = F.cross_entropy(states @ weight.T, labels)
    with torch.autocast("cpu", torch.bfloat16):
        ours = linear_cross_entropy(states, weight, None, labels)
    ours.backward()
    assert weight.grad is None
    assert ours.dtype == torch.float32
    assert abs(ours - full) < 0.02 * full
