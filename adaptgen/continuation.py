"""From a file to its continuations: read, adapt, generate, complete."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from adaptgen import adaptation
from adaptgen.adaptation import Adapted, adapt_checkpoint
from adaptgen.checkpoint import Checkpoint
from adaptgen.domains.base import MAX_VARIATIONS, Continuation, ContinuationRequest
from adaptgen.errors import UsageError
from adaptgen.generation import generate
from adaptgen.model import new_decoder
from adaptgen.sampling import Sampling

__all__ = ["continue_file"]


def continue_file(
    path: str | Path,
    checkpoint: Checkpoint,
    request: ContinuationRequest,
    sampling: Sampling,
    *,
    variations: int = 1,
    seed: int = 0,
    is_recalling: bool = True,
    is_adapting: bool | None = None,
    on_adapting: Callable[[float], None] = lambda share: None,
    on_adapted: Callable[[Adapted], None] = lambda adapted: None,
    on_progress: Callable[[float], None] = lambda share: None,
    on_text: Callable[[str], None] = lambda text: None,
    on_compiling: Callable[[], None] = lambda: None,
) -> list[Continuation]:
    """Continue a file.

    Args:
        path: of the checkpoint's domain.
        checkpoint: the model.
        request: how much, from where.
        sampling: how tokens are drawn.
        variations: how many different continuations, drawn as one batch.
        seed: with the same input, checkpoint, number of variations and threads, gives the same bytes.
        is_recalling: go by what followed earlier passages, if the checkpoint does that.
        is_adapting: let the model learn the file before it goes on with it; as is best for the domain if not given. The
            checkpoint's own model stays as it is.
        on_adapting: called while it learns, with the share that is done.
        on_adapted: called with what it has learned.
        on_progress: called after each frame with the share that is done.
        on_text: called with what the first continuation reads like, piece by piece, where that is text.
        on_compiling: called some times before the first frame if decoding must be compiled for this processor.

    Returns:
        The continuations, each complete, with nothing written to disk.

    Raises:
        AdaptgenError: the file or the request cannot be used.
    """
    if not 1 <= variations <= MAX_VARIATIONS:
        raise UsageError(f"--variations is {variations}", f"Give a whole number from 1 to {MAX_VARIATIONS}")
    if seed < 0:
        raise UsageError(f"--seed is {seed}", "Give a whole number from 0 up")
    window, recall = checkpoint.model.config.attention_window, checkpoint.recall if is_recalling else None
    if recall is not None:
        window = max(window, recall.frames)
    if is_adapting is None:
        is_adapting = checkpoint.domain.adapts
    read = max(window, adaptation.MAX_FRAMES) if is_adapting else window
    prompt = checkpoint.domain.read_prompt(Path(path), checkpoint.tokenizer, request, window=read)
    model, gain = checkpoint.model, {}
    if is_adapting:
        adapted = adapt_checkpoint(
            checkpoint, prompt.tokens, is_recalling=is_recalling, seed=seed, on_progress=on_adapting
        )
        on_adapted(adapted)
        model, gain = adapted.model, _gain(adapted, checkpoint)
    grammars = [prompt.new_grammar() for _ in range(variations)]

    def on_frame() -> None:
        on_progress(sum(grammar.progress for grammar in grammars) / variations)
        on_text(grammars[0].take_text())

    decoder = new_decoder(model, on_compiling=on_compiling)
    started = time.perf_counter()
    tokens = generate(
        decoder, prompt.tokens[:, -window:], grammars, sampling, seed=seed, recall=recall, on_frame=on_frame
    )
    seconds = time.perf_counter() - started
    speed = round(sum(drawn.shape[1] for drawn in tokens) / seconds, 1)
    results = [prompt.complete(drawn, seed=(seed, variation)) for variation, drawn in enumerate(tokens)]
    for result, drawn in zip(results, tokens, strict=True):
        result.summary.update(gain, tokens=drawn.shape[1], tokens_per_second=speed)
    return results


def _gain(adapted: Adapted, checkpoint: Checkpoint) -> dict[str, str]:
    """What a summary says of it."""
    tokenizer = checkpoint.tokenizer
    units = tokenizer.count_units(adapted.held_out)
    if not units:
        return {"adapted": "no: the file is too short"}
    if not adapted.num_steps:
        return {"adapted": "no: what it learns of the file helps it no further"}
    before, after = (nats / math.log(2) / units for nats in (adapted.nats_before, adapted.nats_after))
    unit = tokenizer.unit_name
    return {"adapted": f"{before:.2f} to {after:.2f} bits per {unit} of the last {units:,.0f} {unit}s, held out"}
