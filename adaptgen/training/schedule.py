"""The learning rate over a run."""

from __future__ import annotations

import math

from adaptgen.config import TrainingConfig

__all__ = ["learning_rate"]


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Warm-up, constant, then a fall to zero as 1 - sqrt(share of the decay done).

    Source: Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations",
    arXiv:2405.18392. Since the constant part has no end built in, a run is made longer by raising `max_steps`
    before its decay begins.
    """
    warmup = min(1.0, (step + 1) / (config.warmup_steps + 1))
    decay_steps = config.decay_share * config.max_steps
    into_decay = step - (config.max_steps - decay_steps)
    decay = 1 - math.sqrt(min(1.0, into_decay / decay_steps)) if into_decay > 0 else 1.0
    return config.learning_rate * warmup * decay
