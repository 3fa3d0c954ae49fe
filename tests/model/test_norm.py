"""RMSNorm is torch's, value and gradient."""

from __future__ import annotations

import torch
from torch import nn

from adaptgen.model.norm import RMSNorm


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
