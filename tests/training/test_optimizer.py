"""The optimisers hold every parameter once, and Muon's update is orthogonal."""

from __future__ import annotations

import pytest
import torch

from adaptgen.config import ModelConfig, TrainingConfig
from adaptgen.model import Transformer
from adaptgen.training.distributed import Ranks
from adaptgen.training.optimizer import make_optimizers, orthogonalize

ALONE = Ranks(torch.device("cpu"))


@pytest.mark.parametrize("shape", [(8, 32), (32, 8), (16, 16)])
def test_singular_values_become_about_one(shape: tuple[int, int]) -> None:
    matrices = (
        torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)) * torch.tensor([7, 1, 0.1])[:, None, None]
    )
    values = torch.linalg.svdvals(orthogonalize(matrices))
    assert values.min() > 0.5
    assert values.max() < 1.5


@pytest.mark.parametrize("muon", [None, 1e-3])
def test_every_parameter_is_in_one_group(muon: float | None) -> None:
    model = Transformer(ModelConfig(num_layers=3, num_heads=2, model_dim=16, attention_window=8), (11, 7))
    config = TrainingConfig(max_steps=1, batch_size=1, seq_len=8, learning_rate=1e-3, muon_learning_rate=muon)
    held = [id(p) for o in make_optimizers(model, config, ALONE) for group in o.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())


@pytest.mark.parametrize("muon", [None, 1e-2])
def test_a_few_steps_lower_the_loss(muon: float | None) -> None:
    torch.manual_seed(0)
    model = Transformer(ModelConfig(num_layers=2, num_heads=2, model_dim=16, attention_window=16), (11,))
    config = TrainingConfig(max_steps=1, batch_size=1, seq_len=8, learning_rate=1e-2, muon_learning_rate=muon)
    optimizers = make_optimizers(model, config, ALONE)
    tokens = torch.arange(33).remainder(11).view(1, 1, 33)
    losses = []
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(model(tokens[:, :, :-1])[0, 0], tokens[0, 0, 1:])
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
