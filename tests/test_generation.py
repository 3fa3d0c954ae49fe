"""Drawing frames under a grammar, with two token streams and rules that the model knows nothing of."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from adaptgen.config import ModelConfig
from adaptgen.domains.base import Grammar, StandIn
from adaptgen.generation import generate
from adaptgen.model import Decoder, Transformer, new_decoder
from adaptgen.sampling import Sampling

VOCAB_SIZES = (7, 5)
PROMPT = np.array([[1, 2, 3], [0, 1, 4]])


class Stairs(Grammar):
    """The first stream may only go up by 1 or 2 modulo 7, the second must be of the first's parity; `length` frames."""

    def __init__(self, length: int) -> None:
        self.length, self.frames = length, [PROMPT[:, -1]]

    @property
    def is_done(self) -> bool:
        return len(self.frames) > self.length + 1

    @property
    def progress(self) -> float:
        return (len(self.frames) - 1) / (self.length + 1)

    def allowed(self) -> np.ndarray:
        assert not self.is_done, "a grammar that is done is not asked"
        last = self.frames[-1][0]
        mask = np.zeros((2, 7), dtype=bool)
        mask[0, [(last + 1) % 7, (last + 2) % 7]] = True
        mask[1, last % 2 : 5 : 2] = True
        return mask

    def accept(self, frame: np.ndarray) -> None:
        assert self.allowed()[np.arange(2), frame].all(), "a forbidden frame was drawn"
        self.frames.append(frame.copy())


@pytest.fixture(scope="module")
def model() -> Transformer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = ModelConfig(num_layers=2, num_heads=2, model_dim=16, attention_window=8)
        return Transformer(config, VOCAB_SIZES).eval()


def drawn(
    model: Transformer, lengths: list[int], sampling: Sampling | None = None, *, seed: int = 0
) -> list[np.ndarray]:
    return generate(
        new_decoder(model), PROMPT, [Stairs(length) for length in lengths], sampling or Sampling(), seed=seed
    )


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0), Sampling(temperature=50, top_k=2)])
def test_every_frame_is_legal_in_both_streams(model: Transformer, sampling: Sampling) -> None:
    results = drawn(model, [40, 3, 17], sampling)
    assert [result.shape for result in results] == [(2, 40), (2, 3), (2, 17)]
    assert all(result.dtype == np.int64 for result in results)


def test_the_frame_that_ends_it_is_not_part_of_it(model: Transformer) -> None:
    grammar = Stairs(5)
    (result,) = generate(new_decoder(model), PROMPT, [grammar], Sampling(), seed=0)
    assert np.array_equal(result, np.stack(grammar.frames[1:-1], axis=1))


def test_nothing_is_drawn_where_one_frame_ends_it(model: Transformer) -> None:
    (result,) = drawn(model, [0])
    assert result.shape == (2, 0)


def test_a_seed_decides_everything(model: Transformer) -> None:
    first, again, other = (drawn(model, [30, 30], seed=seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    assert not np.array_equal(*first), "two continuations of one prompt should differ"


def test_a_continuation_does_not_hang_on_its_neighbours(model: Transformer) -> None:
    (alone,) = drawn(model, [25])
    beside, _, _ = drawn(model, [25, 2, 40])
    assert np.array_equal(alone, beside)


def test_frames_come_from_the_prediction_for_the_past_that_was_drawn(model: Transformer) -> None:
    """Greedy decoding by hand, the whole past at once and without a cache, gives the same."""
    (result,) = drawn(model, [20], Sampling(temperature=0))
    grammar, past = Stairs(20), PROMPT
    for _ in range(20):
        with torch.inference_mode():
            logits = model(torch.from_numpy(past)[None])[0, :, -1]
        frame = logits.masked_fill(torch.from_numpy(~grammar.allowed()), -torch.inf).argmax(-1).numpy()
        grammar.accept(frame)
        past = np.concatenate([past, frame[:, None]], axis=1)
    assert np.array_equal(result, past[:, PROMPT.shape[1] :])


class Certain(Decoder):
    """Predicts the same two distributions always."""

    def __init__(self, probabilities: list[list[float]]) -> None:
        with np.errstate(divide="ignore"):
            self.logits = np.log(probabilities)[None]

    def start(self, prompt: np.ndarray, num_rows: int) -> np.ndarray:
        return self.logits.repeat(num_rows, axis=0)

    def step(self, frames: np.ndarray) -> np.ndarray:
        return self.logits.repeat(len(frames), axis=0)

    def keep(self, rows: Sequence[int]) -> None:
        """All rows are alike."""


class Free(Grammar):
    """A given number of frames under one mask."""

    def __init__(self, length: int, mask: list[list[bool]]) -> None:
        self.length, self.mask, self.counts = length, np.array(mask), np.zeros((2, 4))

    @property
    def is_done(self) -> bool:
        return self.counts[0].sum() > self.length

    @property
    def progress(self) -> float:
        return 0.0

    def allowed(self) -> np.ndarray:
        return self.mask

    def accept(self, frame: np.ndarray) -> None:
        self.counts[np.arange(2), frame] += 1


def test_tokens_come_as_often_as_they_are_likely_among_the_legal() -> None:
    decoder = Certain([[0.5, 0.3, 0.0, 0.2], [0.6, 0.1, 0.2, 0.1]])
    grammar = Free(4000, [[True, True, True, False], [False, True, True, True]])
    generate(decoder, PROMPT, [grammar], Sampling(), seed=1)
    shares = grammar.counts / grammar.counts.sum(-1, keepdims=True)
    assert shares == pytest.approx(np.array([[0.625, 0.375, 0, 0], [0, 0.25, 0.5, 0.25]]), abs=0.03)
    assert grammar.counts[0, 2:].sum() == 0, "neither what the model nor what the grammar excludes may come"


def test_a_stand_in_takes_over_what_others_would_have_had() -> None:
    class Leading(Free):
        def stand_ins(self) -> list[StandIn]:
            return [StandIn(0, 1, np.array([0, 3]))]

    decoder = Certain([[0.5, 0.1, 0.2, 0.2], [0.25, 0.25, 0.25, 0.25]])
    grammar = Leading(4000, [[False, True, True, False], [True, True, False, False]])
    generate(decoder, PROMPT, [grammar], Sampling(), seed=1)
    shares = grammar.counts / grammar.counts.sum(-1, keepdims=True)
    assert shares == pytest.approx(np.array([[0, 0.8, 0.2, 0], [0.5, 0.5, 0, 0]]), abs=0.03)


@pytest.mark.parametrize(("draw", "token"), [(0.0, 1), (0.49, 1), (0.51, 3), (1 - 2**-53, 3)])
def test_the_ends_of_the_distribution_are_tokens_that_can_come(
    draw: float, token: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens without probability before, between and behind the others are not drawn, not even by a draw of 0."""
    monkeypatch.setattr(np.random, "default_rng", lambda seed: SimpleNamespace(random=lambda: draw))
    grammar = Free(1, [[True] * 4] * 2)
    generate(Certain([[0, 0.5, 0, 0.5]] * 2), PROMPT, [grammar], Sampling(), seed=0)
    assert grammar.counts[:, token].tolist() == [2, 2]


def test_progress_is_told_after_each_frame_and_may_stop_it(model: Transformer) -> None:
    class Stop(Exception):  # noqa: N818 - no error
        pass

    grammars, seen = [Stairs(6), Stairs(2)], []

    def on_frame() -> None:
        seen.append([len(grammar.frames) for grammar in grammars])
        if len(seen) == 5:
            raise Stop

    with pytest.raises(Stop):
        generate(new_decoder(model), PROMPT, grammars, Sampling(), seed=0, on_frame=on_frame)
    assert seen == [[2, 2], [3, 3], [4, 4], [5, 4], [6, 4]]
