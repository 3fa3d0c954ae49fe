"""Markov models against the recursion written out."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ngram import NgramModel, score_with_ngrams

TOKENIZER = SimpleNamespace(count_units=lambda tokens: int((tokens[0] == 1).sum()))
"""Token 1 of the first stream is a unit."""
BEGIN = 0


def random_rows(vocab_size: int, lengths: list[int], *, seed: int = 0) -> list[np.ndarray]:
    """Skewed tokens, so that contexts come again."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, vocab_size)
    return [
        np.concatenate([[BEGIN], 1 + rng.choice(vocab_size - 1, size=length - 1, p=weights / weights.sum())])
        for length in lengths
    ]


def probability_by_hand(
    rows: list[np.ndarray], vocab_size: int, order: int, context: tuple[int, ...], token: int
) -> float:
    """Chen & Goodman's recursion on dictionaries of tuples."""
    raw: dict[int, Counter] = defaultdict(Counter)
    for row in rows:
        padded = [vocab_size] * order + row.tolist()
        for position in range(order + 1, len(padded)):
            for length in range(1, order + 2):
                raw[length][tuple(padded[position - length + 1 : position + 1])] += 1
    probability = 1 / vocab_size
    context = ((vocab_size,) * order + context)[len(context) :]
    for length in range(1, order + 2):
        counts = raw[length] if length == order + 1 else Counter(ngram[1:] for ngram in raw[length + 1])
        n = {k: max(1, list(counts.values()).count(k)) for k in range(1, 5)}
        share = n[1] / (n[1] + 2 * n[2])
        discounts = {k: min(max(k - (k + 1) * share * n[k + 1] / n[k], 0.1), k - 0.1) for k in (1, 2, 3)}
        history = context[order + 1 - length :]
        seen = {ngram: count for ngram, count in counts.items() if ngram[:-1] == history}
        if seen:
            freed = sum(discounts[min(count, 3)] for count in seen.values())
            count = seen.get((*history, token), 0)
            own = count - discounts[min(count, 3)] if count else 0.0
            probability = (own + freed * probability) / sum(seen.values())
    return probability


class TestNgramModel:
    @pytest.mark.parametrize("order", [0, 1, 2, 5])
    def test_equals_the_recursion_written_out(self, order: int) -> None:
        size = 6
        rows, tests = random_rows(size, [60, 45, 2, 1]), random_rows(size, [1, 2, 9, 20], seed=1)
        model = NgramModel(rows, size, order=order)
        for row in tests:
            expected = [
                -math.log(probability_by_hand(rows, size, order, tuple(row[:position].tolist()), row[position]))
                for position in range(1, len(row))
            ]
            np.testing.assert_allclose(model.score(row), expected, rtol=1e-9)

    @settings(max_examples=30, deadline=None)
    @given(
        order=st.integers(0, 5),
        lengths=st.lists(st.integers(1, 80), min_size=1, max_size=4),
        context=st.lists(st.integers(1, 6), max_size=8),
    )
    def test_probabilities_sum_to_one(self, order: int, lengths: list[int], context: list[int]) -> None:
        """After contexts that were seen and that were not, with much and with next to no training data."""
        model = NgramModel(random_rows(7, lengths), 7, order=order)
        costs = [model.score(np.array([BEGIN, *context, token]))[-1] for token in range(7)]
        assert np.isfinite(costs).all()
        assert np.exp(-np.array(costs)).sum() == pytest.approx(1.0)

    def test_learns_what_a_bigram_can_and_cannot_know(self) -> None:
        """1 1 2 2 1 1 2 2 ...: a coin's toss after one token, certain after two."""
        row = np.array([BEGIN, *[1, 1, 2, 2] * 200])
        bits = {order: NgramModel([row], 3, order=order).score(row).mean() / math.log(2) for order in (1, 2)}
        assert bits[1] == pytest.approx(1.0, abs=0.02)
        assert bits[2] < 0.05

    def test_documents_do_not_run_into_each_other(self) -> None:
        """The last token of one document says nothing about the first of the next."""
        model = NgramModel([np.array([BEGIN, 1, 2]), np.array([BEGIN, 1, 3])] * 50, 4, order=2)
        first = model.score(np.array([BEGIN, 1]))
        assert math.exp(-first[0]) > 0.95

    def test_vocabulary_of_sixteen_bits(self) -> None:
        row = np.array([0, *[65_534, 65_533, 65_532] * 20])
        assert NgramModel([row], 65_535, order=5).score(row)[10:].max() < 0.1

    def test_scores_of_documents(self) -> None:
        """Of two streams, each has a model of its own."""
        streams = [random_rows(6, [40, 30], seed=seed) for seed in (0, 1)]
        models = [NgramModel(rows, 6, order=2) for rows in streams]
        documents = [np.stack(rows) for rows in zip(*streams, strict=True)]
        scores = score_with_ngrams(models, documents, TOKENIZER)
        for score, document in zip(scores, documents, strict=True):
            nats = [model.score(row).sum() for model, row in zip(models, document, strict=True)]
            assert score.stream_nats == pytest.approx(nats)
            assert score.nats == pytest.approx(sum(nats))
            assert score.num_tokens == 2 * (document.shape[1] - 1)
            assert score.num_units == int((document[0] == 1).sum())
