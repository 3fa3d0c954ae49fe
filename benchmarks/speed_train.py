"""How fast is a training step, beside a GPT-2 of Hugging Face transformers of the same shape, and with shortcuts?

    python benchmarks/speed_train.py --threads 2 --json benchmarks/results/speed_train.json

Both sides see the same tokens, batch, sequence, loss, gradient clipping and fused AdamW; neither has dropout. In
float32: what adaptgen trains in, and the faster dtype where a CPU has no matrix units for bfloat16.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from command import JsonFile, Threads, run_command, write_result
from speed import (
    ALL_LAYERS,
    PLAIN,
    SHORTCUT,
    VOCAB_SIZE,
    describe_speed_run,
    gpt2,
    prepare,
    print_ratios,
    ratio,
    table_row,
    time_in_turns,
    transformer,
)
from torch import Tensor, nn

from adaptgen.config import TrainingConfig
from adaptgen.model import Transformer
from adaptgen.training.distributed import Ranks
from adaptgen.training.loop import next_token_loss
from adaptgen.training.optimizer import make_optimizers

WIDTH, SEQUENCE = 256, 1_024
PEAK_SIZE, PEAK_ROUNDS = 2_048, 5


def main(
    threads: Threads = None,
    rounds: Annotated[int, typer.Option(help="How often each step is timed.")] = 7,
    batch_size: Annotated[int, typer.Option(help="Sequences per step.")] = 4,
    json: JsonFile = None,
) -> None:
    """Print ratios, with the least and the most of the rounds in brackets, and what share of the peak is used."""
    prepare(threads)
    forms = (PLAIN, SHORTCUT, ALL_LAYERS)
    models: dict[str, nn.Module] = {form: transformer(WIDTH, window=SEQUENCE, form=form) for form in forms}
    models["peer"] = gpt2(WIDTH, length=SEQUENCE)
    tokens = torch.randint(VOCAB_SIZE, (batch_size, 1, SEQUENCE + 1))
    seconds = time_in_turns({name: new_step(model, tokens) for name, model in models.items()}, rounds=rounds)
    figures = {f"peer over {form}": ratio(seconds, "peer", form) for form in forms}
    figures |= {f"{form} over plain": ratio(seconds, form, PLAIN) for form in (SHORTCUT, ALL_LAYERS)}
    for name, times in seconds.items():
        print(f"  {name:<22} {batch_size * SEQUENCE / statistics.median(times):8.0f} tokens/s")
    print_ratios(figures)
    peak = _peak_flops()
    flops = {name: _step_flops(models[name], batch_size) for name in forms}
    used = {name: value / statistics.median(seconds[name]) / peak for name, value in flops.items()}
    print(f"  peak of float32 products {peak / 1e9:.0f} GFLOP/s")
    for name, share in used.items():
        print(f"  {name:<22} {flops[name] / 1e9:8.0f} GFLOP a step, {share:.0%} of the peak")
    if json is not None:
        settings = describe_speed_run(rounds=rounds, batch_size=batch_size, sequence=SEQUENCE, dtype="float32")
        shares = {"peak flops": peak, "flops of a step": flops, "utilisation": used}
        peer = "transformers' GPT-2"
        table = [
            *(
                table_row(f"training speed, {form}, float32", ">= 1.5 x", figures[f"peer over {form}"], peer)
                for form in forms
            ),
            *(
                row
                for form in (SHORTCUT, ALL_LAYERS)
                for row in (
                    table_row(f"time of a step, {form}", "<= 1.25 x", figures[f"{form} over plain"], "our plain step"),
                    table_row(f"operations of it, {form}", "", f"{flops[form] / flops[PLAIN]:.2f} x", "our plain step"),
                )
            ),
            *(
                table_row(f"share of the peak of float32 products used, {name}", "", f"{share:.0%}")
                for name, share in used.items()
            ),
        ]
        write_result(json, settings | {"seconds": seconds, "figures": figures} | shares | {"table": table})


def new_step(model: nn.Module, tokens: Tensor) -> Callable[[], None]:
    """One step of training on the same tokens each time, of ours or of the peer's."""
    model.train()
    config = TrainingConfig(batch_size=len(tokens), seq_len=SEQUENCE, max_steps=1, learning_rate=1e-3)
    (optimizer,) = make_optimizers(model, config, Ranks(torch.device("cpu")))
    inputs, targets = tokens[:, :, :-1], tokens[:, :, 1:]

    def step() -> None:
        is_ours = hasattr(model, "new_cache")
        logits = model(inputs) if is_ours else model(inputs[:, 0], use_cache=False).logits[:, None]
        next_token_loss(logits, targets).backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        model.zero_grad(set_to_none=True)

    return step


def _step_flops(model: Transformer, batch_size: int) -> float:
    """Of the products with weights and of causal attention, forward and twice that backward."""
    config, num_tokens = model.config, batch_size * SEQUENCE
    weights = sum(matrix.numel() for matrix in model.parameters() if matrix.dim() == 2 and len(matrix) >= WIDTH)
    shortcut = model.blocks[-1].shortcut
    num_attended = config.num_layers + (0 if shortcut is None else len(shortcut.depths))
    # Queries with keys and weights with values, over half of all pairs of frames.
    attention = num_attended * 2 * 2 * config.model_dim * SEQUENCE / 2
    return 3.0 * num_tokens * (2 * weights + attention)


def _peak_flops() -> float:
    """What a large product of float32 matrices reaches, in FLOP/s."""
    a, b = torch.randn(2, PEAK_SIZE, PEAK_SIZE)
    times = []
    for _ in range(PEAK_ROUNDS):
        started = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - started)
    return 2 * PEAK_SIZE**3 / min(times)


if __name__ == "__main__":
    run_command(main)
