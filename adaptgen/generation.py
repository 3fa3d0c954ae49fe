"""Drawing new frames: prefill the prompt, then one frame at a time under each continuation's grammar.

Knows token ids only. Tokens that a grammar forbids get no probability, so whatever is drawn is legal; nothing is
ever drawn twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from adaptgen.domains.base import Grammar
from adaptgen.model import Decoder
from adaptgen.recall import Past, Recall
from adaptgen.sampling import Sampling

__all__ = ["generate"]


def generate(
    decoder: Decoder,
    prompt: np.ndarray,
    grammars: Sequence[Grammar],
    sampling: Sampling,
    *,
    seed: int,
    recall: Recall | None = None,
    on_frame: Callable[[], None] = lambda: None,
) -> list[np.ndarray]:
    """Continue one prompt in several ways at once.

    Args:
        decoder: of a model, as `adaptgen.model.new_decoder` makes it.
        prompt: int64 `[K, T]`, T >= 1.
        grammars: one per continuation; each is told its frames until it is done.
        sampling: how to draw.
        seed: with a continuation's index, decides its draws.
        recall: how earlier frames, of the prompt and of the continuation, count beside the model's prediction; not at
            all if not given.
        on_frame: called after each frame, before the next; may raise to stop.

    Returns:
        int64 `[K, n]` of each continuation.
    """
    randoms = [np.random.default_rng((seed, index)) for index in range(len(grammars))]
    frames: list[list[np.ndarray]] = [[] for _ in grammars]
    rows = list(range(len(grammars)))
    logits = decoder.start(prompt, len(rows))
    past = None
    if recall is not None:
        past = Past(recall, prompt, decoder.prompt_states, decoder.prompt_likelihoods, len(rows))
    while True:
        if past is not None:
            logits = past.mix(logits)
        # The filters of all rows at once: for sixteen rows they would else take as long as the model.
        probabilities = sampling.probabilities(_legal(logits, [grammars[row] for row in rows]))
        for row, of_streams in zip(rows, probabilities, strict=True):
            frame = _draw(of_streams, randoms[row])
            grammars[row].accept(frame)
            if not grammars[row].is_done:
                frames[row].append(frame)
        on_frame()
        unfinished = [place for place, row in enumerate(rows) if not grammars[row].is_done]
        if not unfinished:
            break
        if len(unfinished) < len(rows):
            decoder.keep(unfinished)
            rows = [rows[place] for place in unfinished]
            if past is not None:
                past.keep(unfinished)
        drawn = np.stack([frames[row][-1] for row in rows])
        logits = decoder.step(drawn)
        if past is not None:
            past.add(drawn, decoder.states)
    empty = np.zeros((prompt.shape[0], 0), dtype=np.int64)
    return [np.stack(row, axis=1) if row else empty for row in frames]


def _legal(logits: np.ndarray, grammars: Sequence[Grammar]) -> np.ndarray:
    """Logits `[B, K, V]` of the tokens that each row's grammar allows, -inf for all others."""
    allowed = np.stack([grammar.allowed() for grammar in grammars])
    assert allowed.any(axis=-1).all(), "a grammar always leaves a way on"
    legal = np.where(allowed, logits, -np.inf)
    for row, grammar in enumerate(grammars):
        for stand_in in grammar.stand_ins():
            wanted = [stand_in.token, *stand_in.others]
            legal[row, stand_in.stream, stand_in.token] = np.logaddexp.reduce(logits[row, stand_in.stream, wanted])
    return legal


def _draw(probabilities: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One frame int64 `[K]` from probabilities `[K, V]`, by inversion of the cumulative distribution."""
    frame = np.empty(len(probabilities), dtype=np.int64)
    for stream, row in enumerate(probabilities):
        cumulative = row.cumsum()
        index = int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right"))
        frame[stream] = min(index, int(np.flatnonzero(row)[-1]))
    return frame
