"""Checkpoints for tests of continuations: random weights, and models that always want the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from adaptgen.checkpoint import Checkpoint
from adaptgen.config import ModelConfig
from adaptgen.domains import get
from adaptgen.domains.music.tokenizer import MusicTokenizer
from adaptgen.model import Transformer

WINDOW = 64


@cache
def tokenizer() -> MusicTokenizer:
    return get("music").tokenizer_type.from_options({})


@cache
def random_player() -> Checkpoint:
    """A transformer with random weights: every legal token is about as likely as any other."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = ModelConfig(num_layers=2, num_heads=2, model_dim=32, attention_window=WINDOW)
        model = Transformer(config, tokenizer().vocab_sizes).eval()
    return Checkpoint(get("music"), tokenizer(), model)


class Stubborn(Transformer):
    """Predicts the same logits whatever it reads. It mixes depths, so that it is asked itself for each frame."""

    def __init__(self, logits: Tensor) -> None:
        shape = {"num_layers": 1, "num_heads": 1, "model_dim": 8, "attention_window": WINDOW}
        config = ModelConfig(**shape, shortcut=None, depth_mixing="denseformer")
        super().__init__(config, tuple(logits.shape))
        self.logits = logits

    def predict(self, states: Tensor) -> Tensor:
        return self.logits.expand(states.shape[0], 1, states.shape[1], -1)


def stubborn_player(wish: Callable[[str, str], float]) -> Checkpoint:
    """A player with logits `wish(kind, value)` for a token such as `Pitch_60`."""
    names = (tokenizer().names[token].split("_", 1) for token in range(tokenizer().vocab_sizes[0]))
    logits = torch.tensor([wish(kind, value) for kind, value in names])
    return Checkpoint(get("music"), tokenizer(), Stubborn(logits))


def _steps(duration: str) -> float:
    beats, part, resolution = map(int, duration.split("."))
    return beats + part / resolution


def _ladder(kinds: str, *, lowest: bool) -> Callable[[str, str], float]:
    """Wants tokens in the order of `kinds`; within a kind the lowest or highest number, and the longest note."""
    order = {kind: 10_000.0 * (10 - place) for place, kind in enumerate(kinds.split())}

    def wish(kind: str, value: str) -> float:
        if kind == "Duration":
            return 100 * _steps(value)
        number = int(value) if value.lstrip("-").isdigit() else 0
        return order.get(kind, 0.0) + (-number if lowest else number)

    return wish


STUBBORN_WISHES = {
    "leaves every bar at once": _ladder("Bar Position Program Pitch PitchDrum", lowest=False),
    "plays at the last step only": _ladder("Position", lowest=False),
    "plays at every step": _ladder("Position Bar", lowest=True),
    "piles up low notes": _ladder("Pitch PitchDrum Program Position Bar", lowest=True),
    "holds what is highest": _ladder("Pitch PitchDrum Program Position Bar", lowest=False),
    "asks everybody to play": _ladder("Program Pitch PitchDrum Position Bar", lowest=True),
}


def five_pitches_only(kind: str, value: str) -> float:
    """A wish for five pitches in all parts, and for nothing else in particular."""
    return 20.0 if kind in ("Pitch", "PitchDrum") and 60 <= int(value) < 65 else 0.0
