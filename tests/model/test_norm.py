"""RMSNorm is torch's, value and gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adaptgen.model.norm import MIN_ROOT_MEAN_SQUARE, Normalize, RMSNorm


def test_value_and_gradients_are_those_of_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = RMSNorm(12).double(), nn.RMSNorm(12, eps=0.0).double()
    nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    x, gradient = (torch.randn(3, 5, 12, dtype=torch.float64) for _ in range(2))
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [norm(x) for norm, x in zip((ours, theirs), inputs, strict=True)]
    for output in outputs:
        output.backward(gradient)
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), outputs[1])


def test_nothing_stays_nothing() -> None:
    x = torch.zeros(2, 8, requires_grad=True)
    output = RMSNorm(8)(x)
    output.sum().backward()
    assert (output == 0).all()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("size", [1e-5, 0.9 * MIN_ROOT_MEAN_SQUARE, 1.1 * MIN_ROOT_MEAN_SQUARE, 1.0])
def test_gradient_is_that_of_the_value_on_both_sides_of_the_bound(size: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 6, dtype=torch.float64)
    x = (x * size / x.square().mean(-1, keepdim=True).sqrt()).requires_grad_()
    assert torch.autograd.gradcheck(Normalize.apply, (x,), eps=size * 1e-6, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_scaled_by_a_constant_has_all_of_its_gradient(dtype: torch.dtype) -> None:
    x = (torch.linspace(-1, 1, 8, dtype=dtype) * 1e-5).requires_grad_()
    gradient = torch.linspace(0, 1, 8, dtype=dtype)
    Normalize.apply(x).backward(gradient)
    torch.testing.assert_close(x.grad, gradient / MIN_ROOT_MEAN_SQUARE)
