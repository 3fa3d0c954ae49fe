"""The optimisers hold every parameter once, Muon's update is orthogonal, and learning rates follow the schedule."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adaptgen.config import ModelConfig, TrainingConfig
from adaptgen.model import Transformer
from adaptgen.training.distributed import Ranks
from adaptgen.training.optimizer import Muon, make_optimizers, orthogonalize
from adaptgen.training.schedule import learning_rate

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


@pytest.mark.parametrize("muon", [None, 1e-3])
def test_gains_and_biases_do_not_decay_and_muon_has_the_matrices_of_blocks_alone(muon: float | None) -> None:
    config = ModelConfig(num_layers=3, num_heads=2, model_dim=16, attention_window=8, depth_mixing="value_residual")
    model = Transformer(config, (11, 7))
    model.blocks[0].register_parameter("bias", nn.Parameter(torch.zeros(4, 4)))
    training = TrainingConfig(max_steps=1, batch_size=1, seq_len=8, learning_rate=1e-3, muon_learning_rate=muon)
    optimizers = make_optimizers(model, training, ALONE)
    groups = {id(p): (type(o), group) for o in optimizers for group in o.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        kind, group = groups[id(parameter)]
        decays = parameter.dim() >= 2 and not name.endswith("bias")
        assert group["weight_decay"] == (training.weight_decay if decays else 0), name
        is_of_block = decays and name.startswith("blocks.")
        assert kind is (Muon if muon is not None and is_of_block else torch.optim.AdamW), name
        assert group["base_lr"] == group["lr"] == (muon if kind is Muon else 1e-3)


def test_two_steps_of_muon_are_its_formula() -> None:
    torch.manual_seed(0)
    start, *gradients = torch.randn(3, 2, 8)
    parameter = nn.Parameter(start.clone())
    optimizer = Muon([parameter], ALONE, lr=0.1, weight_decay=0.5)
    expected, momentum = start, torch.zeros(2, 8)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        momentum = 0.95 * momentum + 0.05 * gradient
        direction = 0.05 * gradient + 0.95 * momentum
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * 0.2 * 8**0.5 * orthogonalize(direction[None])[0]
        torch.testing.assert_close(parameter.detach(), expected)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 1 / 11), (9, 10 / 11), (10, 1), (60, 1), (61, 1 - (1 / 40) ** 0.5), (99, 1 - (39 / 40) ** 0.5)],
)
def test_the_learning_rate_rises_stays_and_falls(step: int, expected: float) -> None:
    options = {"batch_size": 1, "seq_len": 8, "learning_rate": 0.5, "warmup_steps": 10, "decay_share": 0.4}
    assert learning_rate(step, TrainingConfig(max_steps=100, **options)) == pytest.approx(0.5 * expected)


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
