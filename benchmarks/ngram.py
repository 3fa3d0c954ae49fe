"""Markov models of tokens, to say how much of a figure is owed to the transformer.

Interpolated modified Kneser-Ney smoothing (Chen & Goodman, "An Empirical Study of Smoothing Techniques for
Language Modeling", TR-10-98, Harvard 1998, section 4.1.6), the strongest of the classical ones there: counts of
long contexts are discounted, and what is taken away goes to the next shorter context, where a token counts as
often as there were different tokens before it. The shortest context falls back on the uniform distribution.

Counts are kept in sorted arrays and looked up by binary search, so that a few ten million tokens take a minute
and a gigabyte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from adaptgen.domains.base import Tokenizer
from adaptgen.evaluation import DocumentScore

__all__ = ["NgramModel", "score_with_ngrams"]

LARGEST_DISCOUNT = 3
"""Counts of three and more are discounted alike."""
DISCOUNT_MARGIN = 0.1


@dataclass(frozen=True)
class _Level:
    """N-grams of one length. An n-gram is its context's place in the level below and its last token.

    Attributes:
        keys: int64, sorted: context * base + token.
        discounted: count of each n-gram less its discount.
        totals: sum of the counts of all n-grams that share a context.
        freed: sum of their discounts.
    """

    keys: np.ndarray
    discounted: np.ndarray
    totals: np.ndarray
    freed: np.ndarray

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Place of each key, -1 for those that are not there."""
        places = np.searchsorted(self.keys, keys)
        places[places == len(self.keys)] = 0
        return np.where(self.keys[places] == keys, places, -1)

    def interpolate(self, contexts: np.ndarray, places: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """Probability of n-grams from that under the next shorter context; the same if the context is new."""
        totals = np.where(contexts >= 0, self.totals[contexts], 0.0)
        own = np.where(places >= 0, self.discounted[places], 0.0)
        return np.where(totals > 0, (own + self.freed[contexts] * lower) / np.maximum(totals, 1.0), lower)


class NgramModel:
    """A Markov model of a given order, fitted when made.

    Args:
        documents: token rows int `[T]`, each beginning with the begin token, which is never predicted.
        vocab_size: number of tokens.
        order: how many tokens of the past a token depends on: 1 is a bigram model, 0 knows how frequent tokens are.
    """

    def __init__(self, documents: Iterable[np.ndarray], vocab_size: int, *, order: int) -> None:
        assert order >= 0
        self.vocab_size, self.order = vocab_size, order
        # One more symbol stands before documents, so that each token has a full context, and none crosses their ends.
        self._base = vocab_size + 1
        padding = np.full(max(1, order), vocab_size)
        rows = [part for document in documents for part in (padding, document)]
        tokens = np.concatenate(rows).astype(np.int64)
        is_predicted = np.concatenate([[False], (tokens[1:] < vocab_size) & (tokens[:-1] < vocab_size)])
        self._levels = self._count(tokens, is_predicted)

    def _count(self, tokens: np.ndarray, is_predicted: np.ndarray) -> list[_Level]:
        keys_of, places_of, counts_of = [], [], []
        contexts = np.zeros_like(tokens)
        for _ in range(self.order + 1):
            keys, places = np.unique(contexts * self._base + tokens, return_inverse=True)
            keys_of.append(keys)
            places_of.append(places)
            counts_of.append(np.bincount(places, weights=is_predicted).astype(np.int64))
            contexts = _of_predecessor(places)
        # All but the longest n-grams are counted by the different tokens that they were seen after.
        for level in range(self.order):
            without_first = np.zeros_like(keys_of[level + 1])
            without_first[places_of[level + 1]] = places_of[level]
            seen = without_first[counts_of[level + 1] > 0]
            counts_of[level] = np.bincount(seen, minlength=len(keys_of[level]))
        num_contexts = [1, *(len(keys) for keys in keys_of[:-1])]
        return [self._discount(*level) for level in zip(keys_of, counts_of, num_contexts, strict=True)]

    def _discount(self, keys: np.ndarray, counts: np.ndarray, num_contexts: int) -> _Level:
        """Chen & Goodman's eq. 26, kept inside (0, count) where too few n-grams make the estimate useless."""
        of_count = np.maximum(1, np.bincount(np.minimum(counts, 5), minlength=6))
        share = of_count[1] / (of_count[1] + 2 * of_count[2])
        discounts = np.zeros(LARGEST_DISCOUNT + 1)
        for count in range(1, LARGEST_DISCOUNT + 1):
            discount = count - (count + 1) * share * of_count[count + 1] / of_count[count]
            discounts[count] = np.clip(discount, DISCOUNT_MARGIN, count - DISCOUNT_MARGIN)
        taken = discounts[np.minimum(counts, LARGEST_DISCOUNT)]
        contexts = keys // self._base
        return _Level(
            keys=keys,
            discounted=counts - taken,
            totals=np.bincount(contexts, weights=counts, minlength=num_contexts),
            freed=np.bincount(contexts, weights=taken, minlength=num_contexts),
        )

    def score(self, document: np.ndarray) -> np.ndarray:
        """Negative log-likelihood in nats of every token of `[T]` but the first: float64 `[T - 1]`."""
        tokens = np.concatenate([np.full(self.order, self.vocab_size), document]).astype(np.int64)
        contexts = np.zeros_like(tokens)
        probability = np.full(len(tokens), 1 / self.vocab_size)
        for level in self._levels:
            places = level.find(contexts * self._base + tokens)
            probability = level.interpolate(contexts, places, probability)
            contexts = _of_predecessor(places)
        return -np.log(probability[self.order + 1 :])


def score_with_ngrams(
    ngrams: Sequence[NgramModel], documents: Sequence[np.ndarray], tokenizer: Tokenizer
) -> list[DocumentScore]:
    """Like `adaptgen.evaluation.score_documents`, with one model for each stream, which sees that stream alone."""
    scores = []
    for document in documents:
        nats = [float(model.score(stream).sum()) for model, stream in zip(ngrams, document, strict=True)]
        scores.append(
            DocumentScore(
                nats=float(np.sum(nats)),
                num_tokens=document.shape[0] * (document.shape[1] - 1),
                num_units=tokenizer.count_units(document),
                stream_nats=tuple(nats),
            )
        )
    return scores


def _of_predecessor(places: np.ndarray) -> np.ndarray:
    """The n-gram that ends one token earlier. Before the first token is padding, of which any n-gram will do."""
    return np.concatenate([places[:1], places[:-1]])
