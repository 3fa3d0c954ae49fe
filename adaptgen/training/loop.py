"""The training loop. Every step depends on the recipe, the step number and the state alone, so a run that was
stopped and resumed gives the same weights as one that was not, and one that several processes share, those of one
process but for the order of sums (and for dropout, which is drawn anew on each).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from adaptgen.checkpoint import Checkpoint, load_weights, replace_folder, restore_folder, save_checkpoint
from adaptgen.config import Recipe
from adaptgen.errors import CheckpointError, RecipeError
from adaptgen.shards import BatchSampler, Shard
from adaptgen.training.distributed import Ranks, choose_device, deferred_averaging, place, whole
from adaptgen.training.optimizer import STATE_KEYS, make_optimizers
from adaptgen.training.schedule import learning_rate

__all__ = ["Trainer", "Validation"]

STATE, STATE_INFO = "training.safetensors", "training.json"
VALIDATION_SEED = 1
SAVE_EVERY_SECONDS = 300
"""How much a killed process may lose."""
DROPOUT_STRIDE = 15_485_863
"""Between the seeds of ranks: more than any run has steps."""


@dataclass(frozen=True)
class Validation:
    """Validation loss: mean over sources in nats per token, and each source's own, also per unit where it has any.

    The mean is None where nothing was held out.
    """

    nats_per_token: float | None
    by_source: dict[str, dict[str, float]]


class Trainer:
    """One run: model, optimiser, data and where it stands.

    Args:
        recipe: what to do.
        checkpoint: the model to train, with its domain and tokenizer.
        shards: shards by split of each source, in the recipe's order.
        folder: of the run; `last/` and `best/` are written below it.
        card: text of the checkpoints' cards.
        ranks: the processes that share the run; this one alone if not given.

    Raises:
        UsageError: there is no such device as the recipe asks for.
        RecipeError: the batch or the model cannot be divided among the processes.
    """

    def __init__(
        self,
        recipe: Recipe,
        checkpoint: Checkpoint,
        shards: Sequence[dict[str, Shard]],
        folder: Path,
        *,
        card: str,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks(choose_device(recipe.training.device))
        self.recipe, self.checkpoint, self.folder, self.card = recipe, checkpoint, folder, card
        self.model = checkpoint.model
        config, data = recipe.training, recipe.data
        self.step, self.tokens_seen, self.best_loss = 0, 0, math.inf
        self._saved_at, self._saved_step = time.monotonic(), -1
        self._parallel = self.ranks.spread(self.model, config)
        self._forward = torch.compile(self._parallel) if config.compile else self._parallel
        self.optimizers = make_optimizers(self.model, config, self.ranks)
        domain, tokenizer = checkpoint.domain, checkpoint.tokenizer
        shape = {"batch_size": config.batch_size, "seq_len": config.seq_len}
        self.batches = BatchSampler(
            [source["train"] for source in shards],
            [source.weight for source in data.sources],
            seed=config.seed,
            vary=partial(domain.augment, tokenizer) if config.augment else None,
            **shape,
        )
        self.validation_batches = {
            source.path: _validation_batches(split["validation"], **shape)
            for source, split in zip(data.sources, shards, strict=True)
            if "validation" in split and split["validation"].tokens.shape[1] > 1
        }

    def run(
        self,
        *,
        on_step: Callable[[dict[str, float]], None] = lambda record: None,
        on_validation: Callable[[int, Validation], None] = lambda step, validation: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train from where the run stands.

        `last/` is written at every validation, every few minutes, and at the end.

        Returns:
            Whether the run is complete; False if it was asked to stop.

        Raises:
            RecipeError: the loss is no longer a number.
        """
        config = self.recipe.training
        while self.step < config.max_steps and not self.ranks.any(should_stop()):
            on_step(self._train_step())
            if self.step % config.validate_every == 0 or self.step == config.max_steps:
                validation = self.validate()
                on_validation(self.step, validation)
                self._keep_best(validation)
                self.save_last()
            elif self.ranks.any(time.monotonic() - self._saved_at > SAVE_EVERY_SECONDS):
                self.save_last()
        if self._saved_step != self.step:
            self.save_last()
        return self.step >= config.max_steps

    def _parameter_groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def _train_step(self) -> dict[str, float]:
        config, started = self.recipe.training, time.perf_counter()
        # Dropout is the only thing that draws from torch's generator.
        torch.manual_seed(config.seed * 1_000_003 + self.step + DROPOUT_STRIDE * self.ranks.rank)
        rate = learning_rate(self.step, config)
        for group in self._parameter_groups():
            group["lr"] = group["base_lr"] * rate / config.learning_rate
        self.model.train()
        rows = self.ranks.rows_of(config.batch_size)
        loss = self._backward(torch.from_numpy(self.batches.batch(self.step, rows)))
        norm = float(whole(torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.max_grad_norm)))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            rates = f"training.learning_rate (now {config.learning_rate:g})"
            if config.muon_learning_rate is not None:
                rates += f" and training.muon_learning_rate ({config.muon_learning_rate:g})"
            raise RecipeError(
                f"training has diverged: the loss is {loss:.3g} and its gradient's norm {norm:.3g} "
                f"at step {self.step + 1}",
                f"Lower {rates} and start again",
            )
        for optimizer in self.optimizers:
            optimizer.step()
        self.model.zero_grad(set_to_none=True)
        self.step += 1
        num_tokens = config.batch_size * config.seq_len * len(self.checkpoint.tokenizer.vocab_sizes)
        self.tokens_seen += num_tokens
        seconds = time.perf_counter() - started
        return {
            "step": self.step,
            "loss": loss,
            "learning_rate": rate,
            "grad_norm": norm,
            "tokens": self.tokens_seen,
            "seconds": seconds,
            "tokens_per_second": num_tokens / seconds,
        }

    def _backward(self, part: Tensor) -> float:
        """Gradients of the whole batch, from this rank's part of it; gives the batch's loss."""
        total = torch.zeros((), device=self.ranks.device)
        *pieces, last = self._pieces(part)
        for piece in (*pieces, last):
            # With several pieces, ranks need not hear of each other before the last one.
            with nullcontext() if piece is last else deferred_averaging(self._parallel):
                loss = self._loss(piece) * (len(piece) / len(part))
                loss.backward()
            total += loss.detach()
        return self.ranks.sum(total.item())[0] / self.ranks.world_size

    def _pieces(self, part: Tensor) -> Sequence[Tensor]:
        """As many sequences at a time as the recipe lets through the model."""
        return part.split(self.recipe.training.micro_batch_size or len(part))

    def _loss(self, batch: Tensor) -> Tensor:
        batch = batch.to(self.ranks.device)
        with self.ranks.autocast(self.recipe.training):
            logits = self._forward(batch[:, :, :-1])
        return next_token_loss(logits, batch[:, :, 1:])

    @torch.no_grad()
    def validate(self) -> Validation:
        """Loss on the same stretches of the validation split each time."""
        self.model.eval()
        tokenizer, by_source = self.checkpoint.tokenizer, {}
        rows = self.ranks.rows_of(self.recipe.training.batch_size)
        for name, batches in self.validation_batches.items():
            nats, tokens, units = 0.0, 0, 0
            for index in range(self.recipe.training.validation_batches):
                for piece in self._pieces(torch.from_numpy(batches.batch(index, rows))):
                    targets = piece[:, :, 1:]
                    nats += float(self._loss(piece)) * targets.numel()
                    tokens += targets.numel()
                    units += sum(tokenizer.count_units(row.numpy()) for row in targets)
            nats, tokens, units = self.ranks.sum(nats, tokens, units)
            by_source[name] = {"nats_per_token": nats / tokens}
            # Stretches of rests alone, for one, have no notes.
            if units:
                by_source[name][f"bits_per_{tokenizer.unit_name}"] = nats / math.log(2) / units
        losses = [source["nats_per_token"] for source in by_source.values()]
        return Validation(float(np.mean(losses)) if losses else None, by_source)

    def _keep_best(self, validation: Validation) -> None:
        loss = validation.nats_per_token
        # Without a validation split the newest weights are the best that is known.
        if loss is not None and not loss < self.best_loss:
            return
        self.best_loss = math.inf if loss is None else loss
        self.checkpoint.metrics = {
            "step": self.step,
            "tokens": self.tokens_seen,
            "validation": {"nats_per_token": loss, **validation.by_source},
        }
        weights = self.ranks.gather(self.model.state_dict())
        if self.ranks.is_first:
            with replace_folder(self.folder / "best") as partial:
                save_checkpoint(self.checkpoint, partial, card=self.card, weights=weights)

    def save_last(self) -> None:
        """Write everything that `resume` needs, atomically."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        for optimizer in self.optimizers:
            for parameter, state in optimizer.state.items():
                tensors |= {f"optimizer.{key}.{names[id(parameter)]}": value for key, value in state.items()}
        info: dict[str, Any] = {
            "step": self.step,
            "tokens_seen": self.tokens_seen,
            "best_loss": self.best_loss,
        }
        tensors = self.ranks.gather(tensors)
        if self.ranks.is_first:
            with replace_folder(self.folder / "last") as partial:
                save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial / STATE)
                (partial / STATE_INFO).write_text(json.dumps(info), encoding="utf-8")
        self._saved_at, self._saved_step = time.monotonic(), self.step

    def resume(self) -> None:
        """Go on from `last/`.

        Raises:
            CheckpointError: there is none, or it does not fit the recipe's model.
        """
        path = self.folder / "last" / STATE
        restore_folder(path.parent)
        if not path.is_file():
            raise CheckpointError(f"{self.folder} has no run to resume", "Begin anew with --force")
        try:
            info = json.loads((self.folder / "last" / STATE_INFO).read_text(encoding="utf-8"))
            self.step, self.tokens_seen, self.best_loss = info["step"], info["tokens_seen"], info["best_loss"]
            names = {id(parameter): name for name, parameter in self.model.named_parameters()}
            with safe_open(path, framework="pt") as file:
                present = set(file.keys())
                for optimizer in self.optimizers:
                    for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                        stored = {key: f"optimizer.{key}.{names[id(parameter)]}" for key in STATE_KEYS}
                        # What is not cloned keeps the file mapped, and so its space taken after `last/` is replaced.
                        optimizer.state[parameter] = {
                            key: place(file.get_tensor(name).clone(), like=parameter)
                            for key, name in stored.items()
                            if name in present
                        }
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise CheckpointError(f"{path.parent} is damaged: {error}", "Begin anew with --force") from None
        load_weights(self.model, path, prefix="model.", place=place)


def _validation_batches(shard: Shard, *, batch_size: int, seq_len: int) -> BatchSampler:
    """Stretches of a validation split, or the whole of one that is shorter than a sequence.

    To lay such a split end to end with itself would be to measure how well the model copies.
    """
    length = min(seq_len, shard.tokens.shape[1] - 1)
    return BatchSampler([shard], [1.0], batch_size=batch_size, seq_len=length, seed=VALIDATION_SEED)


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean negative log-likelihood in nats of `[B, K, T]` targets under `[B, K, T, V]` logits."""
    return F.cross_entropy(logits.flatten(0, 2).float(), targets.flatten())
