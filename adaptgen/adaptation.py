"""Adapting a model to the document that it goes on with, before it does: some gradient steps on the document itself.

A small model that has seen many songs knows none of them well. After some steps on what is given of one, it goes on
with that song's own bass line and chords instead of something that may follow any song (dynamic evaluation, Krause et
al., "Dynamic Evaluation of Neural Sequence Models", arXiv:1709.07432; they step once through a test document in order,
where here what is given is learned in several passes and nothing is learned of what is then drawn).

How far to go is told by the document. Its last frames are held out while the model learns the others. Of the weights on
the line from those that it began with to those that it has learned, the ones are taken that predict the held-out frames
best, which may be the first (Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv:2109.01903, who choose by
a validation set). Then what was held out is learned as well, and what comes out lies as far along the new line.

Knows token ids only: what they mean is the affair of `vary`. Dimensions: K streams, T frames.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses

from adaptgen.checkpoint import Checkpoint
from adaptgen.model import Transformer
from adaptgen.recall import Passages, Recall, directions, recall_targets, track_record

__all__ = ["MAX_FRAMES", "Adapted", "adapt", "adapt_checkpoint"]

MAX_FRAMES = 65_536
"""Of a longer document only so many, its last, are learned."""
MIN_FRAMES = 128
"""A shorter document has too little to hold out and to learn."""
SEQUENCE_FRAMES = 512
"""One such sequence a step: many small steps get further than a few large ones of as many frames (docs/LOG.md)."""
PASSES = 3
"""How often the document is learned at most, within the two limits below."""
MIN_STEPS, MAX_STEPS = 8, 96
HELD_OUT_SHARE, MAX_HELD_OUT = 0.25, 1024
"""Share of the document that is held out, and the most frames of it."""
CONTEXT_FRAMES = 512
"""How many frames are read before those that are held out."""
SHARES = (0.25, 0.5, 0.75, 1.0)
"""How far the model may go from the weights that it began with towards those that it has learned."""
LEAST_GAIN = 0.01
"""Share of what the held-out frames cost that must be saved: less is luck."""
LEARNING_RATE = 1e-3
"""Of AdamW, after `WARMUP_STEPS`; it falls in a line to a tenth."""
VARIED_SHARE = 0.5
"""How many of the sequences are varied, where the domain knows how."""
WARMUP_STEPS = 3
BETAS = (0.9, 0.95)
MAX_GRAD_NORM = 1.0


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """A model that has learned a document.

    Attributes:
        model: in evaluation mode; the one that was given, where nothing was gained.
        num_steps: gradient steps that it took from there.
        held_out: int64 `[K, n]`, the frames that told how far to go; none of a document that is too short.
        nats_before, nats_after: what they cost the model before, and when it had learned all but them.
    """

    model: Transformer
    num_steps: int
    held_out: np.ndarray
    nats_before: float
    nats_after: float


def adapt(
    model: Transformer,
    tokens: np.ndarray,
    *,
    recall: Recall | None = None,
    vary: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
    seed: int = 0,
    learning_rate: float = LEARNING_RATE,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Adapted:
    """Take gradient steps on a document, and go as far towards their result as is best for its own last frames.

    Args:
        model: in evaluation mode; it is left as it is.
        tokens: the document, int `[K, T]`; its last `MAX_FRAMES` are learned.
        recall: how earlier frames will count beside the model: what they tell of those that are held out need not be
            learned. Not at all if not given.
        vary: gives a sequence `[K, T]` that says the same otherwise, such as in another key. None is varied if not
            given.
        seed: decides where sequences begin. With the same document, model and number of threads, the result is the
            same to the bit.
        learning_rate: of AdamW.
        on_progress: called with the share that is done; may raise to stop.

    Source: arXiv:1709.07432; how this differs is said above.
    """
    tokens = np.asarray(tokens[:, -MAX_FRAMES:], dtype=np.int64)
    length = tokens.shape[1]
    if length < MIN_FRAMES:
        return Adapted(model=model, num_steps=0, held_out=tokens[:, :0], nats_before=0.0, nats_after=0.0)
    num_held_out = min(int(HELD_OUT_SHARE * length), MAX_HELD_OUT)
    learned, held_out = tokens[:, :-num_held_out], tokens[:, -num_held_out:]
    judge = _Judge(model, tokens, num_held_out, recall)
    rng = np.random.default_rng(seed)
    frames_per_step = min(SEQUENCE_FRAMES, learned.shape[1] - 1)
    num_steps = int(np.clip(round(PASSES * learned.shape[1] / frames_per_step), MIN_STEPS, MAX_STEPS))
    # What was held out is learned in the end, in proportion.
    num_last = max(1, round(num_steps * num_held_out / learned.shape[1]))
    total = num_steps + num_last
    pupil = copy.deepcopy(model)
    learner = _Learner(pupil, learning_rate=learning_rate, num_steps=num_steps)
    for step, batch in enumerate(_batches(learned, num_steps, vary, rng), start=1):
        learner.step(batch)
        on_progress(step / total)
    before = judge.nats(model)
    after, share = min((judge.nats(_between(model, pupil, share)), share) for share in SHARES)
    # Written so that a loss that is not a number is no gain.
    if not after <= (1 - LEAST_GAIN) * before:
        on_progress(1.0)
        return Adapted(model=model, num_steps=0, held_out=held_out, nats_before=before, nats_after=before)
    last = tokens[:, -num_held_out - SEQUENCE_FRAMES :]
    for step, batch in enumerate(_batches(last, num_last, vary, rng), start=1):
        learner.step(batch)
        on_progress((num_steps + step) / total)
    return Adapted(
        model=_between(model, pupil, share),
        num_steps=total,
        held_out=held_out,
        nats_before=before,
        nats_after=after,
    )


@torch.no_grad()
def _between(first: Transformer, second: Transformer, share: float) -> Transformer:
    """A model of the weights that lie so far on the way from one's to another's."""
    model = copy.deepcopy(first)
    for weight, other in zip(model.parameters(), second.parameters(), strict=True):
        weight.lerp_(other, share)
    return model


def adapt_checkpoint(
    checkpoint: Checkpoint,
    tokens: np.ndarray,
    *,
    is_recalling: bool = True,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Adapted:
    """What `adapt` makes of a checkpoint's model, which is left as it is, with the recall and the domain that it has.

    Args:
        checkpoint: as it is loaded.
        tokens: the document, int `[K, T]`, by the checkpoint's tokenizer.
        is_recalling: whether it will go by earlier passages, if it does that.
        seed, on_progress: as of `adapt`.
    """
    return adapt(
        checkpoint.model,
        tokens,
        recall=checkpoint.recall if is_recalling else None,
        vary=partial(checkpoint.domain.vary, checkpoint.tokenizer),
        seed=seed,
        on_progress=on_progress,
    )


class _Learner:
    """Takes steps; the learning rate falls over the first `num_steps` and then stays."""

    def __init__(self, model: Transformer, *, learning_rate: float, num_steps: int) -> None:
        self.model, self.learning_rate, self.num_steps, self.taken = model, learning_rate, num_steps, 0
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=learning_rate, betas=BETAS, weight_decay=0.0, fused=True
        )

    def step(self, batch: np.ndarray) -> None:
        """Learn int64 `[B, K, T + 1]`."""
        fall = 1 - 0.9 * min(1.0, self.taken / self.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * min(1.0, (self.taken + 1) / WARMUP_STEPS) * fall
        self.optimizer.zero_grad(set_to_none=True)
        _mean_nats(self.model, torch.from_numpy(batch)).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRAD_NORM)
        self.optimizer.step()
        self.taken += 1


def _batches(
    tokens: np.ndarray,
    count: int,
    vary: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None,
    rng: np.random.Generator,
) -> Iterator[np.ndarray]:
    """So many batches int64 `[1, K, T + 1]`: pass after pass, each laid out from another place and in another order."""
    length = min(SEQUENCE_FRAMES, tokens.shape[1] - 1)
    waiting: list[int] = []
    for _ in range(count):
        if not waiting:
            last = tokens.shape[1] - 1 - length
            starts = np.arange(-int(rng.integers(length)), last + length, length).clip(0, last)
            waiting = rng.permutation(np.unique(starts)).tolist()
        start = waiting.pop()
        sequence = tokens[:, start : start + length + 1]
        if vary is not None and rng.random() < VARIED_SHARE:
            sequence = vary(sequence, rng)
        yield sequence[None]


def _mean_nats(model: Transformer, batch: torch.Tensor) -> torch.Tensor:
    """Mean over tokens of their negative log-likelihood, the first frames given."""
    logits = model(batch[:, :, :-1])
    return F.cross_entropy(logits.flatten(0, 2).float(), batch[:, :, 1:].flatten())


class _Judge:
    """Says what a document's last frames, so many, cost a model beside what is recalled of those before them.

    What is recalled is told by the states of the model that is given first, for all models alike.
    """

    @torch.no_grad()
    def __init__(self, model: Transformer, tokens: np.ndarray, count: int, recall: Recall | None) -> None:
        self.recall, self.count = recall, count
        self.read = torch.from_numpy(tokens[None, :, -count - CONTEXT_FRAMES :])
        if recall is None:
            return
        tokens = tokens[:, -count - recall.frames :]
        states = model.encode(torch.from_numpy(tokens[None, :, :-1]), model.new_cache(1))[0]
        keys = directions(states.float().numpy())
        start, stop = len(keys) - count, len(keys)
        self.recalled, self.likest = recall_targets(recall, keys, tokens, Passages(1), start=start, stop=stop)

    @torch.no_grad()
    def nats(self, model: Transformer) -> float:
        """Their negative log-likelihood, after `CONTEXT_FRAMES` at most."""
        logits = model(self.read[:, :, :-1])[0, :, -self.count :].float()
        targets = self.read[0, :, -self.count :, None]
        predicted = logits.log_softmax(dim=-1).gather(2, targets)[:, :, 0].double().exp().numpy()
        if self.recall is not None:
            records = track_record(self.recalled, predicted, self.likest)
            weights = self.recall.weights(self.likest, records[:-1])
            predicted = (1 - weights) * predicted + weights * self.recalled
        return float(-np.log(np.maximum(predicted, np.finfo(np.float64).tiny)).sum())
