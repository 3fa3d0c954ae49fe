"""How much a model should trust what it recalls: five numbers, fitted to documents that it has not learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from adaptgen.evaluation import read_document
from adaptgen.model import Transformer
from adaptgen.recall import Passages, Recall, directions, recall_targets, track_record
from adaptgen.shards import Shard

__all__ = ["choose_documents", "fit_recall"]

FRAMES = 4096
"""That can be recalled. Of twice as many songs gain nothing (docs/LOG.md), and a prompt would take as much longer."""
SHARPNESSES = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
FOLLOWINGS = (0.25, 0.5)
"""Tried with the best sharpness, beside none."""
LEAST_GAIN = 0.005
"""What has to be saved, in parts of the loss, to be worth the time."""
LEAST_FRAMES = 1000
"""Fewer tell nothing."""
MOST_FRAMES = 30_000
"""Of all sources. They suffice for five numbers; a model of a few million parameters reads them in a minute."""
MOST_OF_ONE = 10_000
FRAMES_AT_ONCE = 256
START = (20.0, 3.0, -20.0)
MAX_ITERATIONS = 200


@dataclass(frozen=True)
class _Read:
    """A document `[K, T + 1]` and what the model made of it: `directions` `[T, C]` and likelihoods `[K, T]`."""

    tokens: np.ndarray
    keys: np.ndarray
    predicted: np.ndarray


def choose_documents(shards: Sequence[Shard]) -> list[list[np.ndarray]]:
    """Documents `[K, T]` of each source to fit recall to: of long ones the beginning, and not more than needed.

    Args:
        shards: the validation split of each source.
    """
    chosen = []
    for shard in shards:
        documents, num_frames = [], 0
        for document in shard.documents():
            documents.append(document[:, :MOST_OF_ONE])
            num_frames += documents[-1].shape[1]
            if num_frames >= MOST_FRAMES / len(shards):
                break
        chosen.append(documents)
    return chosen


def fit_recall(
    model: Transformer,
    sources: Sequence[Sequence[np.ndarray]],
    *,
    on_progress: Callable[[int], None] = lambda num_frames: None,
) -> Recall | None:
    """Fit recall to documents, so that their loss, as a mean over sources, is as low as it gets.

    Args:
        model: in evaluation mode.
        sources: documents `[K, T]` of each.
        on_progress: called with the number of frames read since the last call.

    Returns:
        None where recall does not help, or where there is too little to tell.
    """
    read = [[_read(model, tokens, on_progress) for tokens in documents if tokens.shape[1] > 1] for documents in sources]
    read = [documents for documents in read if documents]
    if sum(len(document.keys) for documents in read for document in documents) < LEAST_FRAMES:
        return None
    predicted = [np.concatenate([document.predicted for document in documents], axis=1) for documents in read]
    best, lowest = None, (1 - LEAST_GAIN) * float(np.mean([-np.log(values).mean() for values in predicted]))
    for sharpness in SHARPNESSES:
        recall, loss = _fit_weights(sharpness, 0.0, read)
        if loss < lowest:
            best, lowest = recall, loss
    if best is not None:
        for following in FOLLOWINGS:
            recall, loss = _fit_weights(best.sharpness, following, read)
            if loss < lowest:
                best, lowest = recall, loss
    return best


@torch.no_grad()
def _read(model: Transformer, tokens: np.ndarray, on_progress: Callable[[int], None]) -> _Read:
    keys, predicted = [], []
    for states, likelihoods in read_document(model, tokens, piece_frames=FRAMES_AT_ONCE):
        keys.append(directions(states))
        predicted.append(likelihoods)
        on_progress(len(states))
    return _Read(tokens, np.concatenate(keys), np.concatenate(predicted, axis=1))


def _fit_weights(sharpness: float, following: float, sources: Sequence[Sequence[_Read]]) -> tuple[Recall, float]:
    """The best weights for one way of recalling, and the loss with them."""
    looking = Recall(frames=FRAMES, sharpness=sharpness, likeness=0.0, record=0.0, bias=0.0, following=following)
    recalled, predicted, features, is_there, counts = [], [], [], [], []
    for documents in sources:
        num_frames = sum(len(document.keys) for document in documents)
        for document in documents:
            found, likest = _recalled(looking, document)
            records = track_record(found, document.predicted, likest)[:-1]
            recalled.append(found)
            predicted.append(document.predicted)
            is_there.append(likest > -np.inf)
            features.append(np.stack([np.where(is_there[-1], likest, 0.0), records, np.ones_like(records)]))
            counts.append(np.full(len(likest), 1 / (len(sources) * num_frames * len(found))))
    recalled, predicted, features = (
        torch.from_numpy(np.concatenate(parts, axis=1)) for parts in (recalled, predicted, features)
    )
    is_there, counts = (torch.from_numpy(np.concatenate(parts)) for parts in (is_there, counts))
    values = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([values], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        weights = torch.where(is_there, torch.sigmoid(values @ features), 0.0)
        nats = -(counts * torch.log((1 - weights) * predicted + weights * recalled)).sum()
        nats.backward()
        return nats

    optimizer.step(loss)
    likeness, record, bias = values.tolist()
    return replace(looking, likeness=likeness, record=record, bias=bias), loss().item()


def _recalled(looking: Recall, document: _Read) -> tuple[np.ndarray, np.ndarray]:
    """As of `recall_targets`, for a whole document."""
    num_frames, passages = len(document.keys), Passages(1)
    pieces = [
        recall_targets(
            looking, document.keys, document.tokens, passages, start=start, stop=min(start + FRAMES_AT_ONCE, num_frames)
        )
        for start in range(0, num_frames, FRAMES_AT_ONCE)
    ]
    return np.concatenate([found for found, _ in pieces], axis=1), np.concatenate([likest for _, likest in pieces])
