"""Scores against computations so slow and plain that they cannot be wrong in the same way."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptgen.config import ModelConfig
from adaptgen.evaluation import (
    DocumentScore,
    bits_per_unit,
    bits_per_unit_by_stream,
    nats_per_token,
    paired_difference,
    score_documents,
)
from adaptgen.model import Transformer
from adaptgen.recall import Recall

WINDOW = 6
TOKENIZER = SimpleNamespace(count_units=lambda tokens: int((tokens[0] == 1).sum()))
"""Token 1 of the first stream is a unit."""


def build(vocab_sizes: tuple[int, ...]) -> Transformer:
    torch.manual_seed(0)
    config = ModelConfig(num_layers=3, num_heads=2, model_dim=16, attention_window=WINDOW)
    model = Transformer(config, vocab_sizes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


def random_documents(vocab_sizes: tuple[int, ...], lengths: list[int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.stack([rng.integers(size, size=length) for size in vocab_sizes]) for length in lengths]


@torch.no_grad()
def nats_by_hand(model: Transformer, document: np.ndarray) -> list[float]:
    """Nats of each stream, each frame predicted from its past alone, which is given whole and without a cache."""
    tokens, nats = torch.from_numpy(document)[None], [0.0] * len(document)
    for frame in range(1, tokens.shape[2]):
        log_probabilities = model(tokens[:, :, :frame])[0, :, -1].log_softmax(dim=-1)
        for stream in range(tokens.shape[1]):
            nats[stream] -= float(log_probabilities[stream, tokens[0, stream, frame]])
    return nats


class TestScoreDocuments:
    @pytest.mark.parametrize("vocab_sizes", [(9,), (9, 5, 7)], ids=["K1", "K3"])
    @pytest.mark.parametrize(("batch_size", "piece_frames"), [(1, 1), (1, 256), (3, 4), (2, 7), (8, 256)])
    def test_equals_prediction_frame_by_frame(
        self, vocab_sizes: tuple[int, ...], batch_size: int, piece_frames: int
    ) -> None:
        """Documents of every length, several windows long, in an order that is not that of their lengths."""
        model = build(vocab_sizes)
        documents = random_documents(vocab_sizes, [5, 31, 1, 12, 2, 31, 7])
        scores = score_documents(model, documents, TOKENIZER, batch_size=batch_size, piece_frames=piece_frames)
        for score, document in zip(scores, documents, strict=True):
            expected = nats_by_hand(model, document)
            assert score.stream_nats == pytest.approx(expected, abs=1e-4)
            assert score.nats == pytest.approx(sum(expected), abs=1e-4)
            assert score.num_tokens == len(vocab_sizes) * (document.shape[1] - 1)
            assert score.num_units == int((document[0] == 1).sum())

    @settings(max_examples=15, deadline=None)
    @given(
        lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
        batch_size=st.integers(1, 6),
        piece_frames=st.integers(1, 50),
    )
    def test_pieces_and_batch_change_nothing(self, lengths: list[int], batch_size: int, piece_frames: int) -> None:
        model, documents = build((9,)), random_documents((9,), lengths)
        plain = score_documents(model, documents, TOKENIZER, batch_size=1, piece_frames=WINDOW)
        other = score_documents(model, documents, TOKENIZER, batch_size=batch_size, piece_frames=piece_frames)
        for one, two in zip(plain, other, strict=True):
            assert one.nats == pytest.approx(two.nats, abs=1e-5 * max(1, one.num_tokens))

    def test_stretches_of_a_long_document_have_all_that_bears_on_them(self) -> None:
        """It is 25 times as long as what the model sees at most, so that three stretches are read side by side."""
        model = build((9,))
        documents = random_documents((9,), [25 * model.context_frames, 3])
        whole = score_documents(model, documents, TOKENIZER, batch_size=1)
        stretches = score_documents(model, documents, TOKENIZER, batch_size=8)
        for one, other in zip(whole, stretches, strict=True):
            assert one.num_tokens == other.num_tokens
            assert one.nats == pytest.approx(other.nats, abs=1e-6 * one.num_tokens)

    def test_progress_adds_up_to_all_tokens(self) -> None:
        done: list[int] = []
        documents = random_documents((9, 5), [4, 17 * 30, 9])
        scores = score_documents(
            build((9, 5)), documents, TOKENIZER, batch_size=2, piece_frames=5, on_progress=done.append
        )
        assert sum(done) == sum(score.num_tokens for score in scores) == 2 * (3 + 17 * 30 - 1 + 8)

    def test_leaves_no_gradient_and_refuses_dropout(self) -> None:
        model = build((9,))
        score_documents(model, random_documents((9,), [4]), TOKENIZER)
        assert all(parameter.grad is None for parameter in model.parameters())
        with pytest.raises(AssertionError, match="dropout"):
            score_documents(model.train(), random_documents((9,), [4]), TOKENIZER)


class TestBitsPerUnit:
    def test_is_the_ratio_of_sums(self) -> None:
        scores = [
            DocumentScore(nats=2 * math.log(2), num_tokens=9, num_units=1),
            DocumentScore(nats=16 * math.log(2), num_tokens=9, num_units=5),
        ]
        estimate = bits_per_unit(scores)
        assert estimate.value == pytest.approx(3.0)
        assert (estimate.low, estimate.high) == pytest.approx((2.0, 3.2))

    def test_interval_covers_the_truth_about_as_often_as_it_says(self) -> None:
        """Documents whose units cost 5 bits on average, drawn 200 times."""
        rng, covered = np.random.default_rng(0), 0
        for seed in range(200):
            bits_of = rng.normal(5, 1, size=40)
            scores = [DocumentScore(nats=bits * 10 * math.log(2), num_tokens=1, num_units=10) for bits in bits_of]
            estimate = bits_per_unit(scores, seed=seed)
            covered += estimate.low <= 5 <= estimate.high
        assert 0.88 <= covered / 200 <= 0.99

    def test_interval_is_of_95_percent(self) -> None:
        """Of many documents of one size it is that of their mean in the textbooks."""
        bits_of = np.random.default_rng(0).normal(5, 1, size=400)
        scores = [DocumentScore(nats=bits * math.log(2), num_tokens=1, num_units=1) for bits in bits_of]
        estimate = bits_per_unit(scores)
        half = 1.96 * bits_of.std() / math.sqrt(len(bits_of))
        assert estimate.value - estimate.low == pytest.approx(half, rel=0.07)
        assert estimate.high - estimate.value == pytest.approx(half, rel=0.07)

    def test_nats_per_token_know_nothing_of_units(self) -> None:
        scores = [
            DocumentScore(nats=4.0, num_tokens=1, num_units=7),
            DocumentScore(nats=5.0, num_tokens=2, num_units=0),
        ]
        estimate = nats_per_token(scores)
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((3.0, 2.5, 4.0))

    def test_one_document_has_no_interval(self) -> None:
        estimate = bits_per_unit([DocumentScore(nats=math.log(2), num_tokens=1, num_units=2)])
        assert (estimate.value, estimate.low, estimate.high) == (pytest.approx(0.5), None, None)

    def test_a_paired_difference_is_surer_than_either(self) -> None:
        rng = np.random.default_rng(0)
        hard = rng.uniform(100, 900, size=30)
        one, two = (
            [DocumentScore(nats=nats * factor, num_tokens=100, num_units=100) for nats in hard] for factor in (1, 1.01)
        )
        difference = paired_difference(two, one)
        assert difference.value == pytest.approx(bits_per_unit(two).value - bits_per_unit(one).value)
        assert 0 < difference.low < difference.value < difference.high
        assert difference.high - difference.low < (bits_per_unit(one).high - bits_per_unit(one).low) / 50

    def test_scores_of_other_documents_are_not_paired(self) -> None:
        one, other = ([DocumentScore(nats=1.0, num_tokens=3, num_units=units)] for units in (1, 2))
        with pytest.raises(AssertionError, match="not the same documents"):
            paired_difference(one, other)

    def test_depends_on_the_seed_alone(self) -> None:
        scores = [DocumentScore(nats=float(n * n), num_tokens=1, num_units=n) for n in range(1, 9)]
        assert bits_per_unit(scores, seed=3) == bits_per_unit(scores, seed=3)
        assert bits_per_unit(scores, seed=3) != bits_per_unit(scores, seed=4)

    def test_streams_add_up_to_the_whole(self) -> None:
        rng = np.random.default_rng(0)
        scores = [
            DocumentScore(nats=sum(nats), num_tokens=30, num_units=units, stream_nats=tuple(nats))
            for nats, units in zip(rng.uniform(1, 9, size=(6, 3)).tolist(), (1, 2, 0, 4, 5, 1), strict=True)
        ]
        streams = bits_per_unit_by_stream(scores)
        assert len(streams) == 3
        assert sum(stream.value for stream in streams) == pytest.approx(bits_per_unit(scores).value)
        assert all(stream.low < stream.value < stream.high for stream in streams)

    def test_documents_of_less_than_a_unit_are_resampled_like_others(self) -> None:
        """Such as words of a fifth of a second."""
        scores = [
            DocumentScore(nats=bits * math.log(2), num_tokens=4, num_units=0.2) for bits in (1.0, 1.0, 1.0, 1.0, 1.0)
        ]
        estimate = bits_per_unit(scores)
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((5.0, 5.0, 5.0))
        (one, two) = bits_per_unit(scores[:1]), bits_per_unit(scores[:2])
        assert (one.value, two.low, two.high) == pytest.approx((5.0, 5.0, 5.0))

    def test_documents_without_units_count_with_their_bits(self) -> None:
        scores = [
            DocumentScore(nats=4 * math.log(2), num_tokens=4, num_units=2),
            DocumentScore(nats=2 * math.log(2), num_tokens=2, num_units=0),
        ]
        estimate = bits_per_unit(scores)
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((3.0, 2.0, 3.0))


@pytest.mark.parametrize("recall", [None, Recall(frames=20, sharpness=5.0, likeness=2.0, record=1.0, bias=-1.0)])
@pytest.mark.parametrize("count", [1, 2, 10, 39, 40])
def test_what_is_given_is_read_and_not_scored(recall: Recall | None, count: int) -> None:
    model, (document,) = build((9, 5)), random_documents((9, 5), [40])
    (whole,) = score_documents(model, [document], TOKENIZER, recall=recall)
    (first,) = score_documents(model, [document[:, :count]], TOKENIZER, recall=recall)
    (second,) = score_documents(model, [document], TOKENIZER, recall=recall, given=[count])
    assert second.nats == pytest.approx(whole.nats - first.nats, rel=1e-4, abs=1e-6)
    assert second.num_tokens == whole.num_tokens - first.num_tokens
    if count > 1:
        assert second.num_units == whole.num_units - first.num_units
