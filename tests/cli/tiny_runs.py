"""Arguments of `adaptgen train` for a model that is trained in no time."""

from __future__ import annotations

__all__ = ["TINY", "TWO_STEPS"]

TINY = ("--set", "model.model_dim=32", "--set", "model.num_layers=2", "--set", "training.num_threads=1")
TWO_STEPS = ("--steps", 2, "--set", "training.validate_every=2", "--set", "training.validation_batches=1")
