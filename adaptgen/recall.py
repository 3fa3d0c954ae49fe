"""Predicting by what came earlier in the same document, however long ago: a continuous cache of the model's states.

A model reads no further back than its window. A song comes back to its chorus after twice as long, and a story to its
names. So the state that each frame's prediction is read from is kept, and with it the frame that followed; the next
frame is then also predicted by what followed the states that are like the present one (Grave, Joulin & Usunier,
"Improving Neural Language Models with a Continuous Cache", arXiv:1612.04426, equations 2 and 3).

Unlike there, states are compared by their cosine, and how much they count is not constant. It is a logistic function of
the likest one's cosine (Drozdov et al. weigh retrieval from training data by its quality, arXiv:2210.15859) and of how
well what was recalled has predicted the last frames, in comparison with the model. So a repetition that begins counts
little, one that goes on counts nearly all, and where it ends the model takes over again.

Likeness alone takes bars of a loop that sound alike for each other. So part of what is recalled goes by the passage
that is being repeated: where the last frame stood in it, this one stands one further on. That is the forward algorithm
of a hidden Markov model whose states are the places in the past (Rabiner, "A tutorial on hidden Markov models", 1989,
equation 20); likeness is the probability of emission.

Dimensions: B rows, K streams, V tokens, C model width, T frames, S states that are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

__all__ = ["Passages", "Past", "Recall", "directions", "recall_targets", "track_record"]

FIRST_ROOM = 256
"""Frames that a row has room for in the beginning."""
OWN_DISTANCE = 512
"""How far back what was drawn must lie to be recalled; nearer, it would lead in circles (docs/LOG.md)."""
RECORD_FRAMES = 32
"""Time constant of the track record."""
JUMP = 0.05
"""Probability that a passage is left for any other place before a frame."""
DISAGREEMENT = 0.02
"""How probable a place stays after which another frame followed than the one that came, against 1 where it agreed."""
PASSAGE_SHARPNESS = 20.0
"""As `Recall.sharpness`, for the places in passages."""
LEAST_PROBABILITY, LARGEST_LEAD = 1e-4, 4.0
"""No single surprise says more than this, in nats, for the model or for what is recalled."""
Numbers = TypeVar("Numbers", float, np.ndarray)


@dataclass(frozen=True, kw_only=True)
class Recall:
    """How a model's predictions and what it recalls are mixed; fitted by `adaptgen.training.recall`.

    What is recalled gets the share 1 / (1 + exp(-likeness x cosine - record x lead - bias)), of the likest state's
    cosine and the lead of `track_record`.

    Args:
        frames: how many of the last frames can be recalled.
        sharpness: of two states one counts exp(sharpness x the difference of their cosines) times as much.
        likeness, record, bias: as above.
        following: share of what is recalled that goes by the passage that is being repeated; the rest goes by likeness
            alone.

    Raises:
        ValueError: a value is out of its range or not finite.
    """

    frames: int
    sharpness: float
    likeness: float
    record: float
    bias: float
    following: float = 0.0

    def __post_init__(self) -> None:
        if self.frames < 1 or self.sharpness < 0:
            raise ValueError(f"frames is {self.frames} and sharpness {self.sharpness}")
        if not 0 <= self.following <= 1:
            raise ValueError(f"following is {self.following}")
        if not all(map(math.isfinite, (self.sharpness, self.likeness, self.record, self.bias))):
            raise ValueError("recall has a value that is not finite")

    def shares(self, cosines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What each state counts among those that are recalled.

        Args:
            cosines: `[..., S]`, -inf for states that may not be looked at.

        Returns:
            `[..., S]`, of sum 1, or 0 where there is no state; and the cosine of the likest one `[...]`, or -inf.
        """
        likest = cosines.max(axis=-1, initial=-np.inf)
        is_there = likest > -np.inf
        shares = np.exp(self.sharpness * (cosines - np.where(is_there, likest, 0.0)[..., None]))
        return shares / np.where(is_there, shares.sum(axis=-1), 1.0)[..., None], likest

    def weights(self, likest: np.ndarray, lead: np.ndarray) -> np.ndarray:
        """What all of them count beside the model, 0 where there are none; all arguments of one shape."""
        is_there = likest > -np.inf
        exponent = self.likeness * np.where(is_there, likest, 0.0) + self.record * lead + self.bias
        return np.where(is_there, 1 / (1 + np.exp(-exponent)), 0.0)


def leads(recalled: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """By how many nats what was recalled predicted frames better than the model, within bounds.

    Args:
        recalled, predicted: probabilities `[K, ...]` that each gave to what came.

    Returns:
        `[...]`, the mean over streams.
    """
    nats = np.log(np.maximum(recalled, LEAST_PROBABILITY)) - np.log(np.maximum(predicted, LEAST_PROBABILITY))
    return nats.mean(axis=0).clip(-LARGEST_LEAD, LARGEST_LEAD)


def next_record(record: Numbers, lead: Numbers) -> Numbers:
    """The track record, a running mean of leads, after one more."""
    return record + (lead - record) / RECORD_FRAMES


def track_record(recalled: np.ndarray, predicted: np.ndarray, likest: np.ndarray, *, before: float = 0.0) -> np.ndarray:
    """The track record before and after each frame of a document.

    Args:
        recalled, predicted: as of `leads`, `[K, T]`.
        likest: `[T]`, -inf where there was nothing to recall: there nobody leads.
        before: the record before the first of them.

    Returns:
        `[T + 1]`.
    """
    records = [before]
    for lead in np.where(likest > -np.inf, leads(recalled, predicted), 0.0).tolist():
        records.append(next_record(records[-1], lead))
    return np.array(records)


def directions(states: np.ndarray) -> np.ndarray:
    """States `[..., C]` at length 1."""
    return states / np.maximum(np.linalg.norm(states, axis=-1, keepdims=True), np.finfo(np.float32).tiny)


class Passages:
    """Which places in the past rows are at, in passages that they repeat: probabilities of the frames looked at.

    Args:
        num_rows: B.
    """

    def __init__(self, num_rows: int) -> None:
        self._shares = np.zeros((num_rows, 0))
        self._begin = 0

    def look(self, cosines: np.ndarray, begin: int) -> np.ndarray:
        """Go on by one frame.

        Args:
            cosines: of the states that may be looked at, `[B, S]`, at least one.
            begin: how many frames of the document are before the first of them; as before, or one more.

        Returns:
            The probability of each, `[B, S]`, of sum 1.
        """
        num_places = cosines.shape[1]
        # Where the first may no longer be looked at, the second has its place.
        first = 1 + self._begin - begin
        moved = self._shares[:, : num_places - first]
        prior = np.full(cosines.shape, JUMP / num_places)
        prior[:, first : first + moved.shape[1]] += (1 - JUMP) * moved
        likest = cosines.max(axis=1, keepdims=True)
        shares = prior * np.exp(PASSAGE_SHARPNESS * (cosines - likest))
        self._shares, self._begin = shares / shares.sum(axis=1, keepdims=True), begin
        return self._shares

    def hear(self, agreeing: np.ndarray) -> None:
        """A frame came: share of its streams `[B, S]` that agree with what followed each place."""
        shares = self._shares * (DISAGREEMENT + (1 - DISAGREEMENT) * agreeing)
        self._shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all other rows; one may be kept several times."""
        self._shares = self._shares[list(rows)]


class Past:
    """What rows that go on from one prompt can recall: the prompt, which they share, and each its own frames.

    Of its own, those that are `OWN_DISTANCE` back. Passages are followed in the prompt alone, however far back it lies:
    what was drawn astray is not to be followed further (docs/LOG.md).

    Args:
        recall: how.
        prompt: int `[K, T]`.
        states: `[T, C]`, what the model made of it.
        predicted: `[K, n]`, the probabilities that it gave to the last n frames, so many as matter for the record.
        num_rows: that go on from it.
    """

    def __init__(
        self, recall: Recall, prompt: np.ndarray, states: np.ndarray, predicted: np.ndarray, num_rows: int
    ) -> None:
        self.recall = recall
        keys, known = directions(states), len(states) - 1
        # What follows the last frame of all is not known yet.
        begin = max(0, known - recall.frames)
        self._shared, self._shared_next = keys[begin:-1], prompt[:, begin + 1 :]
        self._current = keys[-1:].repeat(num_rows, axis=0)
        self._own = np.empty((num_rows, FIRST_ROOM, states.shape[1]), dtype=keys.dtype)
        self._own_next = np.empty((num_rows, prompt.shape[0], FIRST_ROOM), dtype=np.int64)
        self._end = 0
        self._passages = Passages(1)
        start = known - predicted.shape[1]
        recalled, likest = recall_targets(recall, keys, prompt, self._passages, start=start, stop=known)
        self._passages.keep([0] * num_rows)
        self._begin = begin
        self._following = recall.following if len(self._shared) else 0.0
        self._record = track_record(recalled, predicted, likest)[-1:].repeat(num_rows)
        self._is_recalling = False
        self._predictions: tuple[np.ndarray, np.ndarray] | None = None
        """What was recalled and what the model predicted, for the frame that is drawn next, `[B, K, V]`."""

    def mix(self, logits: np.ndarray) -> np.ndarray:
        """Log-probabilities float64 `[B, K, V]` of the next frame, from the model's logits and what is recalled.

        Called once for each frame: a passage goes on with it.
        """
        own = slice(max(0, self._end - self.recall.frames), max(0, self._end - OWN_DISTANCE))
        num_recent = min(self._end, self.recall.frames)
        shared = slice(max(0, len(self._shared) + num_recent - self.recall.frames), None)
        # By einsum: BLAS deals so small a product out to threads, and then waits where another program has a core.
        of_shared = np.einsum("bc,sc->bs", self._current, self._shared)
        of_own = np.einsum("bc,bsc->bs", self._current, self._own[:, own])
        cosines = np.concatenate([of_shared[:, shared], of_own], axis=1)
        shares, likest = self.recall.shares(cosines)
        if self._following:
            followed = self._passages.look(of_shared, self._begin)
        recalled = np.zeros(logits.shape)
        for row in range(len(logits)):
            for stream in range(logits.shape[1]):
                followers = self._shared_next[stream, shared], self._own_next[row, stream, own]
                of_each = np.split(shares[row], [len(followers[0])])
                for tokens, parts in zip(followers, of_each, strict=True):
                    recalled[row, stream] += np.bincount(tokens, weights=parts, minlength=logits.shape[2])
                if self._following:
                    of_passages = np.bincount(
                        self._shared_next[stream], weights=followed[row], minlength=logits.shape[2]
                    )
                    recalled[row, stream] += self._following * (of_passages - recalled[row, stream])
        predicted = np.exp(logits - np.logaddexp.reduce(logits.astype(np.float64), axis=-1, keepdims=True))
        self._predictions, self._is_recalling = (recalled, predicted), cosines.shape[1] > 0
        weights = self.recall.weights(likest, self._record)[:, None, None]
        with np.errstate(divide="ignore"):
            return np.log((1 - weights) * predicted + weights * recalled)

    def add(self, frames: np.ndarray, states: np.ndarray) -> None:
        """Go on by the frame that was drawn in each row: int `[B, K]`, and what the model then made of it, `[B, C]`."""
        if self._is_recalling:
            came = (np.take_along_axis(each, frames[:, :, None], axis=2)[:, :, 0].T for each in self._predictions)
            self._record = next_record(self._record, leads(*came))
            if self._following:
                self._passages.hear((self._shared_next[None] == frames[:, :, None]).mean(axis=1))
        if self._end == self._own.shape[1]:
            self._make_room()
        self._own[:, self._end], self._own_next[:, :, self._end] = self._current, frames
        self._end += 1
        self._current = directions(states)

    def _make_room(self) -> None:
        """Twice as much as can still be looked at; the rest is forgotten."""
        kept = min(self._end, self.recall.frames)
        num_rows, num_streams = self._own_next.shape[:2]
        own = np.empty((num_rows, 2 * kept, self._own.shape[2]), dtype=self._own.dtype)
        own_next = np.empty((num_rows, num_streams, 2 * kept), dtype=self._own_next.dtype)
        own[:, :kept] = self._own[:, self._end - kept : self._end]
        own_next[:, :, :kept] = self._own_next[:, :, self._end - kept : self._end]
        self._own, self._own_next, self._end = own, own_next, kept

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all other rows."""
        rows = list(rows)
        self._current, self._own, self._own_next = self._current[rows], self._own[rows], self._own_next[rows]
        self._record = self._record[rows]
        self._passages.keep(rows)
        self._predictions = tuple(each[rows] for each in self._predictions)


def recall_targets(
    recall: Recall,
    keys: np.ndarray,
    tokens: np.ndarray,
    passages: Passages,
    *,
    start: int,
    stop: int,
    num_before: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """What a document's own frames would be given by what is recalled alone.

    Args:
        recall: how.
        keys: `directions` of the states of at least the frames before `stop`, `[T, C]`.
        tokens: int `[K, T + 1]` at least.
        passages: of one row; goes on to the end of these frames.
        start, stop: the frames whose followers are looked for.
        num_before: frames of the document before the first of `keys`.

    Returns:
        The probability of the frame after each, `[K, stop - start]`, and the likest state's cosine,
        `[stop - start]`, -inf where there is none.
    """
    first = max(0, start - recall.frames)
    frames, past = np.arange(start, stop)[:, None], np.arange(first, stop)[None, :]
    is_known = (past < frames) & (past >= frames - recall.frames)
    cosines = np.where(is_known, keys[start:stop] @ keys[first:stop].T, -np.inf)
    shares, likest = recall.shares(cosines)
    followers, targets = tokens[:, None, first + 1 : stop + 1], tokens[:, start + 1 : stop + 1, None]
    agrees = followers == targets
    recalled = (shares * agrees).sum(axis=-1)
    if recall.following:
        followed = _follow(passages, cosines, agrees.mean(axis=0), begin=num_before + first)
        recalled += recall.following * ((followed * agrees).sum(axis=-1) - recalled)
    return recalled, likest


def _follow(passages: Passages, cosines: np.ndarray, agreeing: np.ndarray, *, begin: int) -> np.ndarray:
    """What `Passages.look` tells of each frame in turn; all `[T, S]`, the first state after `begin` frames."""
    followed = np.zeros_like(cosines)
    for frame, of_frame in enumerate(cosines):
        (known,) = np.nonzero(of_frame > -np.inf)
        if len(known):
            places = slice(known[0], known[-1] + 1)
            followed[frame, places] = passages.look(of_frame[None, places], begin + places.start)
            passages.hear(agreeing[None, frame, places])
    return followed
