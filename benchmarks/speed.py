"""What the speed benchmarks have in common: fair timing, models of the same shape, and a place for the figures.

Every figure is a ratio of medians that were measured in turns, so that whatever else the machine does meets all alike.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from provenance import describe_run

from adaptgen.config import ModelConfig, ShortcutConfig
from adaptgen.domains.base import Grammar
from adaptgen.model import Transformer
from adaptgen.training.memory import keep_freed_memory

__all__ = [
    "ALL_LAYERS",
    "NUM_LAYERS",
    "PLAIN",
    "SHORTCUT",
    "VOCAB_SIZE",
    "AnyTokens",
    "describe_speed_run",
    "gpt2",
    "prepare",
    "print_ratios",
    "ratio",
    "table_row",
    "time_in_turns",
    "transformer",
]

NUM_LAYERS, VOCAB_SIZE, HEAD_DIM = 8, 1000, 64
PLAIN, SHORTCUT, ALL_LAYERS = "plain", "shortcut", "shortcut to all layers"
SHORTCUTS = {PLAIN: None, SHORTCUT: ShortcutConfig(depths=(0,)), ALL_LAYERS: ShortcutConfig()}
"""Forms of a model by what tables call them; a shortcut without more reads the embedding, as of recipes/music.yaml."""


class AnyTokens(Grammar):
    """A given number of tokens of one stream, each of which may be any."""

    def __init__(self, count: int) -> None:
        self.count = self.left = count
        self.mask = np.ones((1, VOCAB_SIZE), dtype=bool)

    @property
    def is_done(self) -> bool:
        return self.left < 0

    @property
    def progress(self) -> float:
        return 1 - max(0, self.left) / self.count

    def allowed(self) -> np.ndarray:
        return self.mask

    def accept(self, frame: np.ndarray) -> None:
        self.left -= 1


def prepare(threads: int | None) -> None:
    """Set up torch as adaptgen's own commands do, with random numbers that repeat."""
    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()
    torch.manual_seed(0)


def transformer(width: int, *, window: int, form: str = SHORTCUT) -> Transformer:
    """Ours, untrained: time does not depend on weights."""
    config = ModelConfig(
        num_layers=NUM_LAYERS,
        num_heads=width // HEAD_DIM,
        model_dim=width,
        attention_window=window,
        shortcut=SHORTCUTS[form],
    )
    return Transformer(config, (VOCAB_SIZE,)).eval()


def gpt2(width: int, *, length: int) -> Any:
    """The peer: GPT-2 of Hugging Face transformers in the same shape, as it comes, without dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCAB_SIZE,
        n_positions=length,
        n_embd=width,
        n_layer=NUM_LAYERS,
        n_head=width // HEAD_DIM,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=0,
    )
    return GPT2LMHeadModel(config).eval()


def time_in_turns(tasks: dict[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds that each task took in each round. Each runs once before, untimed."""
    for task in tasks.values():
        task()
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            started = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> dict[str, float]:
    """How many times as long one task takes as another: of the medians, and the range of the rounds' own ratios."""
    of_rounds = [a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)]
    return {
        "ratio": statistics.median(seconds[slow]) / statistics.median(seconds[fast]),
        "least": min(of_rounds),
        "most": max(of_rounds),
    }


def print_ratios(figures: dict[str, dict[str, float]]) -> None:
    """One line for each ratio, with the range of the rounds."""
    for name, figure in figures.items():
        print(f"  {name:<50} {figure['ratio']:6.2f} ({figure['least']:.2f} to {figure['most']:.2f})", flush=True)


def describe_speed_run(**settings: Any) -> dict[str, Any]:
    """Where and how: `describe_run`, the peer's version, the settings, and how busy the machine is otherwise."""
    import transformers

    here = {"transformers": transformers.__version__, "load": os.getloadavg()[0]}
    return describe_run(seed=0) | here | {"settings": settings}


def table_row(what: str, aim: str, figure: str | dict[str, float], peer: str = "") -> dict[str, str]:
    """A line of docs/PERFORMANCE.md; a figure from `ratio` is shown with the range of the rounds."""
    if isinstance(figure, dict):
        figure = f"{figure['ratio']:.2f} x ({figure['least']:.2f} to {figure['most']:.2f})"
    return {"what": what, "aim": aim, "figure": figure, "peer": peer}
