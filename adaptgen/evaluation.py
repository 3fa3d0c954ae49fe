"""Exact scores of documents under a model, and how sure one can be of their mean.

Every frame after the first (the begin token, which costs nothing to know) is scored exactly once, each with as
much of its past as the model's attention window lets it see. Loss over training sequences is not that: there, the
first frames of each sequence are scored without the past that they have in the document.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from adaptgen.domains.base import Tokenizer
from adaptgen.model import Transformer
from adaptgen.recall import Passages, Recall, directions, recall_targets, track_record

__all__ = [
    "DocumentScore",
    "Estimate",
    "bits_per_unit",
    "bits_per_unit_by_stream",
    "nats_per_token",
    "paired_difference",
    "read_document",
    "score_documents",
]

NUM_RESAMPLES = 10_000
RESAMPLES_AT_ONCE, NUMBERS_AT_ONCE = 500, 10_000_000
STRETCH_IN_CONTEXTS = 8
"""How long the stretches of a long document are, in what the model sees at most; so much less is read twice."""


@dataclass(frozen=True, kw_only=True)
class DocumentScore:
    """How well one document was predicted.

    Attributes:
        nats: negative log-likelihood of its tokens, the first frame given.
        num_tokens: how many tokens that is, over all streams.
        num_units: units in the document: notes, seconds, characters.
        stream_nats: what of `nats` each stream of tokens costs; empty where that was not kept.
    """

    nats: float
    num_tokens: int
    num_units: float
    stream_nats: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval, None where a single document gives none."""

    value: float
    low: float | None
    high: float | None


def score_documents(
    model: Transformer,
    documents: Sequence[np.ndarray],
    tokenizer: Tokenizer,
    *,
    batch_size: int = 4,
    piece_frames: int = 256,
    recall: Recall | None = None,
    given: Sequence[int] | None = None,
    on_progress: Callable[[int], None] = lambda num_tokens: None,
) -> list[DocumentScore]:
    """Negative log-likelihood of documents after their first frames.

    Documents of like length are read side by side, through the cache and in pieces, and so are the stretches of a long
    one, each after all that can bear on it; neither the batch size nor the length of the pieces changes a score by
    more than rounding.

    Args:
        model: in evaluation mode.
        documents: tokens int `[K, T]`, each beginning with the begin token.
        tokenizer: counts the units.
        batch_size: documents or stretches read side by side.
        piece_frames: frames fed at once.
        recall: how earlier frames count beside the model, which is not at all if not given. Documents are then read one
            after the other.
        given: how many frames of each document, at least one, are read and not scored; one if not given.
        on_progress: called with the number of tokens scored since the last call.

    Returns:
        One score per document, in their order.
    """
    assert not model.training, "dropout would change the scores"
    given = [1] * len(documents) if given is None else given
    if recall is not None:
        scores = []
        for document, count in zip(documents, given, strict=True):
            nats = _nats_with_recall(model, document, recall, piece_frames, given=count)
            scores.append(_score(nats, document, tokenizer, given=count))
            on_progress(scores[-1].num_tokens)
        return scores
    nats = np.zeros((len(documents), len(model.vocab_sizes)))
    # One row alone has nobody to be read beside.
    context = model.context_frames if batch_size > 1 else None
    stretches = [
        stretch
        for index, document in enumerate(documents)
        for stretch in _stretches(index, given[index], document.shape[1], context=context)
    ]
    stretches.sort(key=lambda stretch: stretch.start - stretch.stop)
    for first in range(0, len(stretches), batch_size):
        chosen = stretches[first : first + batch_size]
        batch = [documents[stretch.document][:, stretch.start : stretch.stop] for stretch in chosen]
        not_scored = [stretch.scored - stretch.start for stretch in chosen]
        scored = _score_batch(model, batch, not_scored, piece_frames=piece_frames, on_progress=on_progress)
        for stretch, row in zip(chosen, scored, strict=True):
            nats[stretch.document] += row
    return [
        _score(row, document, tokenizer, given=count)
        for row, document, count in zip(nats, documents, given, strict=True)
    ]


@dataclass(frozen=True)
class _Stretch:
    """Frames `start` to `stop` of a document, of which those from `scored` on are scored."""

    document: int
    start: int
    scored: int
    stop: int


def _stretches(document: int, given: int, num_frames: int, *, context: int | None) -> list[_Stretch]:
    """Of like length, each frame after those given scored in one of them; a single one without a context."""
    count = 1 if context is None else max(1, num_frames // (STRETCH_IN_CONTEXTS * context))
    bounds = np.linspace(min(given, num_frames), num_frames, count + 1).astype(int).tolist()
    return [_Stretch(document, max(0, scored - (context or scored)), scored, stop) for scored, stop in pairwise(bounds)]


@torch.no_grad()
def _score_batch(
    model: Transformer,
    documents: list[np.ndarray],
    given: list[int],
    *,
    piece_frames: int,
    on_progress: Callable[[int], None],
) -> np.ndarray:
    """Nats `[documents, K]` of documents `[K, T]`, the first the longest. What pads the others comes after them.

    Of each document so many frames are given, not scored.
    """
    lengths = torch.tensor([document.shape[1] for document in documents])
    scored_from = torch.tensor(given)
    tokens = torch.zeros(len(documents), *documents[0].shape, dtype=torch.int64)
    for row, document in zip(tokens, documents, strict=True):
        row[:, : document.shape[1]] = torch.from_numpy(np.asarray(document, dtype=np.int64))
    device = next(model.parameters()).device
    cache = model.new_cache(len(documents))
    nats = torch.zeros(tokens.shape[:2], dtype=torch.float64)
    for start in range(0, tokens.shape[2] - 1, piece_frames):
        stop = min(start + piece_frames, tokens.shape[2] - 1)
        targets = tokens[:, :, start + 1 : stop + 1]
        frames = torch.arange(start + 1, stop + 1)
        is_real = ((frames >= scored_from[:, None]) & (frames < lengths[:, None]))[:, None].expand_as(targets)
        logits = model(tokens[:, :, start:stop].to(device), cache).float()
        picked = logits.gather(3, targets.to(device).unsqueeze(3)).squeeze(3)
        costs = (logits.logsumexp(dim=3) - picked).cpu().double()
        nats += costs.where(is_real, 0.0).sum(dim=2)
        on_progress(int(is_real.sum()))
    return nats.numpy()


@torch.no_grad()
def read_document(
    model: Transformer, document: np.ndarray, *, piece_frames: int = 256
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read a document `[K, T]`, through the cache and in pieces.

    Yields:
        Of each piece, the states `[n, C]` of its frames, and the probabilities `[K, n]` that the frames after them were
        given. The last frame of all is not read, since none comes after it.
    """
    tokens = torch.from_numpy(np.asarray(document, dtype=np.int64))[None]
    device = next(model.parameters()).device
    cache = model.new_cache(1)
    for start in range(0, tokens.shape[2] - 1, piece_frames):
        stop = min(start + piece_frames, tokens.shape[2] - 1)
        states = model.encode(tokens[:, :, start:stop].to(device), cache)
        followers = tokens[:, :, start + 1 : stop + 1, None].to(device)
        costs = -model.predict(states).float().log_softmax(dim=3).gather(3, followers)
        yield states[0].float().cpu().numpy(), np.exp(-costs[0, :, :, 0].cpu().double().numpy())


def _nats_with_recall(
    model: Transformer, document: np.ndarray, recall: Recall, piece_frames: int, *, given: int
) -> np.ndarray:
    """Nats `[K]` of a document `[K, T]` after the frames that are given."""
    nats, record = [], 0.0
    keys, first, passages = np.zeros((0, model.config.model_dim), dtype=np.float32), 0, Passages(1)
    for states, predicted in read_document(model, document, piece_frames=piece_frames):
        kept = keys[-recall.frames :]
        first += len(keys) - len(kept)
        keys = np.concatenate([kept, directions(states)])
        recalled, likest = recall_targets(
            recall, keys, document[:, first:], passages, start=len(kept), stop=len(keys), num_before=first
        )
        records = track_record(recalled, predicted, likest, before=record)
        weights = recall.weights(likest, records[:-1])
        nats.append(-np.log((1 - weights) * predicted + weights * recalled))
        record = records[-1]
    return np.concatenate([np.zeros((len(document), 0)), *nats], axis=1)[:, given - 1 :].sum(axis=1)


def _score(stream_nats: np.ndarray, document: np.ndarray, tokenizer: Tokenizer, *, given: int) -> DocumentScore:
    # What stands first begins the document and is no unit, or is counted with what follows.
    before = tokenizer.count_units(document[:, :given]) if given > 1 else 0
    return DocumentScore(
        nats=float(stream_nats.sum()),
        num_tokens=document.shape[0] * max(0, document.shape[1] - given),
        num_units=tokenizer.count_units(document) - before,
        stream_nats=tuple(stream_nats.tolist()),
    )


def bits_per_unit(scores: Sequence[DocumentScore], *, seed: int = 0) -> Estimate:
    """Bits of all documents by units of all documents, with an interval as of `_ratio_of_sums`."""
    return _ratio_of_sums(_bits(scores), _units(scores), seed=seed)


def bits_per_unit_by_stream(scores: Sequence[DocumentScore], *, seed: int = 0) -> list[Estimate]:
    """Bits per unit of each stream of tokens; their values add up to that of `bits_per_unit`."""
    streams = np.array([score.stream_nats for score in scores]).T / math.log(2)
    return [_ratio_of_sums(bits, _units(scores), seed=seed) for bits in streams]


def nats_per_token(scores: Sequence[DocumentScore], *, seed: int = 0) -> Estimate:
    """Nats of all documents by tokens of all documents, with an interval as of `_ratio_of_sums`."""
    nats, tokens = np.array([[score.nats, score.num_tokens] for score in scores]).T
    return _ratio_of_sums(nats, tokens, seed=seed)


def paired_difference(scores: Sequence[DocumentScore], others: Sequence[DocumentScore], *, seed: int = 0) -> Estimate:
    """Bits per unit of `scores` less those of `others`, which are of the same documents in the same order.

    Since a hard document is hard for both, the interval of the difference is far smaller than those of the two.
    """
    assert [score.num_units for score in scores] == [score.num_units for score in others], "not the same documents"
    return _ratio_of_sums(_bits(scores) - _bits(others), _units(scores), seed=seed)


def _bits(scores: Sequence[DocumentScore]) -> np.ndarray:
    return np.array([score.nats for score in scores]) / math.log(2)


def _units(scores: Sequence[DocumentScore]) -> np.ndarray:
    return np.array([score.num_units for score in scores])


def _ratio_of_sums(numerators: np.ndarray, denominators: np.ndarray, *, seed: int) -> Estimate:
    """The ratio of two sums over documents.

    The interval is a percentile bootstrap over documents (Efron & Tibshirani, "An Introduction to the Bootstrap",
    1993, chapter 13): it says how far the figure would move with other documents of the same kind, not with
    another training run.

    Args:
        numerators, denominators: of each document; one denominator at least is not zero.
        seed: of the resampling.
    """
    assert denominators.sum() > 0, "there is nothing to divide by"
    value, count = float(numerators.sum() / denominators.sum()), len(numerators)
    if count < 2:
        return Estimate(value=value, low=None, high=None)
    rng, ratios = np.random.default_rng(seed), []
    at_once = max(1, min(RESAMPLES_AT_ONCE, NUMBERS_AT_ONCE // count))
    for start in range(0, NUM_RESAMPLES, at_once):
        drawn = rng.integers(count, size=(min(at_once, NUM_RESAMPLES - start), count))
        totals = denominators[drawn].sum(axis=1)
        ratios.append(numerators[drawn].sum(axis=1)[totals > 0] / totals[totals > 0])
    low, high = np.quantile(np.concatenate(ratios), [0.025, 0.975])
    return Estimate(value=value, low=float(low), high=float(high))
