"""The optimisers: AdamW for all, or Muon for the matrices inside the blocks and AdamW for the rest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adaptgen.config import TrainingConfig
from adaptgen.training.distributed import Ranks, place, whole

__all__ = ["STATE_KEYS", "Muon", "make_optimizers"]

STATE_KEYS = ("step", "exp_avg", "exp_avg_sq", "momentum")
"""All that the optimisers keep per parameter, which a run that is resumed needs back."""

MOMENTUM = 0.95
NEWTON_SCHULZ_STEPS = 5
NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def make_optimizers(model: nn.Module, config: TrainingConfig, ranks: Ranks) -> list[torch.optim.Optimizer]:
    """The optimisers that a recipe asks for, on each of the ranks; together they hold every parameter once.

    Weight decay is for matrices and embeddings, not for gains and biases. Each group has its full learning rate
    as `base_lr`, which the schedule scales.
    """
    matrices, embeddings, vectors = [], [], []
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2 or name.endswith("bias"):
            vectors.append(parameter)
        elif name.startswith("blocks."):
            matrices.append(parameter)
        else:
            embeddings.append(parameter)
    optimizers: list[torch.optim.Optimizer] = []
    if config.muon_learning_rate is not None:
        optimizers.append(Muon(matrices, ranks, lr=config.muon_learning_rate, weight_decay=config.weight_decay))
        matrices = []
    optimizers.append(
        torch.optim.AdamW(
            [
                {"params": [*matrices, *embeddings], "weight_decay": config.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=(0.9, config.beta2),
            fused=True,
        )
    )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal, for matrices, which are dealt out among the ranks for that.

    torch has one too; it computes in bfloat16, which CPUs without matrix units for it do ten times slower than
    float32, so that a step takes longer than the gradient it uses. This one keeps the gradient's dtype.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); the scale of 0.2 times
    the root of the larger side, which makes learning rates comparable to AdamW's, is from Liu et al., "Muon is
    Scalable for LLM Training", arXiv:2502.16982.
    """

    def __init__(self, params: list[nn.Parameter], ranks: Ranks, *, lr: float, weight_decay: float) -> None:
        # Of matrices next to each other no rank's takes much longer than another's.
        params = sorted(params, key=lambda parameter: parameter.numel(), reverse=True)
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self._ranks = ranks

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter, update in zip(parameters, self._updates(parameters), strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(place(update, like=parameter), alpha=-0.2 * group["lr"] * max(parameter.shape) ** 0.5)

    def _updates(self, parameters: list[nn.Parameter]) -> list[Tensor]:
        """Orthogonal ones of whole matrices, each computed by one rank."""
        updates, world_size = [self._direction(parameter) for parameter in parameters], self._ranks.world_size
        own: dict[torch.Size, list[int]] = {}
        for index in range(self._ranks.rank, len(parameters), world_size):
            own.setdefault(updates[index].shape, []).append(index)
        # Matrices of one shape go through the products together: one by one they leave most of a GPU idle.
        for indices in own.values():
            orthogonal = orthogonalize(torch.stack([updates[index] for index in indices]))
            for index, update in zip(indices, orthogonal, strict=True):
                updates[index] = update.contiguous()
        for first in range(0, len(updates), world_size):
            self._ranks.pass_round(updates[first : first + world_size])
        return updates

    def _direction(self, parameter: nn.Parameter) -> Tensor:
        """The gradient with its momentum (Nesterov's); a matrix that is divided among ranks is put together for it,
        since half of one cannot be made orthogonal."""
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(parameter.grad, 1 - MOMENTUM)
        return whole(parameter.grad.lerp(momentum, MOMENTUM)).contiguous()


def orthogonalize(matrices: Tensor) -> Tensor:
    """The nearest to each of `[B, M, N]` with singular values of about one, by a quintic Newton-Schulz iteration."""
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x
