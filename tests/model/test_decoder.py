"""Frame by frame, every decoder predicts what the model does when it is given the whole sequence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_transformer import (
    FOUR_STREAMS,
    ONE_STREAM,
    WINDOW,
    all_streams,
    all_variants,
    build,
    build_variant,
    finite,
    random_tokens,
)

from adaptgen.config import ShortcutConfig
from adaptgen.model import Decoder, ForwardDecoder, Transformer, compiling, new_decoder
from adaptgen.model.fast_decoder import FastDecoder

NEW_FRAMES = 5 * WINDOW
SLOW = ("denseformer", "attention_residual")
"""Variants that the fast decoder does not know."""
all_prompts = pytest.mark.parametrize("prompt_frames", [1, WINDOW - 1, WINDOW, 2 * WINDOW + 3])
all_rows = pytest.mark.parametrize("num_rows", [1, 3])


def decode(decoder: Decoder, prompt: np.ndarray, rows: np.ndarray) -> torch.Tensor:
    """Logits `[B, K, T + 1, V]` of the frames after the prompt and after each of the rows' own `[B, K, T]`."""
    logits = [decoder.start(prompt, len(rows))]
    logits += [decoder.step(frames) for frames in rows.transpose(2, 0, 1)]
    return torch.from_numpy(np.stack(logits, axis=2))


def check(decoder: Decoder, model: Transformer, prompt_frames: int, num_rows: int, *, tolerance: float) -> None:
    prompt = random_tokens(model.vocab_sizes, prompt_frames, batch_size=1)
    rows = random_tokens(model.vocab_sizes, NEW_FRAMES, batch_size=num_rows, seed=2)
    with torch.no_grad():
        whole = model(torch.cat((prompt.expand(num_rows, -1, -1), rows), dim=2))[:, :, prompt_frames - 1 :]
    found = decode(decoder, prompt[0].numpy(), rows.numpy())
    assert torch.equal(found == -torch.inf, whole == -torch.inf)
    torch.testing.assert_close(finite(found), finite(whole), atol=tolerance, rtol=0)


@pytest.fixture(params=["float16", "float32"])
def tolerance(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Both ways to hold weights: some processors have the second alone."""
    if request.param == "float32":
        monkeypatch.setattr(compiling, "has_half_conversion", lambda: False)
        return 1e-4
    if not compiling.has_half_conversion():
        pytest.skip("this processor does not convert float16")
    return 0.02


@all_variants
@all_streams
@all_prompts
@all_rows
def test_forward_decoder(variant: str, vocab_sizes: tuple[int, ...], prompt_frames: int, num_rows: int) -> None:
    model = build_variant(variant, vocab_sizes)
    check(ForwardDecoder(model), model, prompt_frames, num_rows, tolerance=1e-4)


@pytest.mark.parametrize("variant", sorted({*all_variants.args[1]} - {*SLOW}))
@all_streams
@all_prompts
@all_rows
def test_fast_decoder(
    variant: str, vocab_sizes: tuple[int, ...], prompt_frames: int, num_rows: int, tolerance: float
) -> None:
    model = build_variant(variant, vocab_sizes)
    check(FastDecoder(model), model, prompt_frames, num_rows, tolerance=tolerance)


@pytest.mark.parametrize("place", ["add", "replace"])
@pytest.mark.parametrize("depths", [(0,), (1,), (0, 1)])
@all_rows
def test_fast_decoder_reads_the_depths_that_the_shortcut_reads(
    place: str, depths: tuple[int, ...], num_rows: int, tolerance: float
) -> None:
    model = build(ShortcutConfig(place=place, depths=depths), FOUR_STREAMS)
    check(FastDecoder(model), model, WINDOW - 2, num_rows, tolerance=tolerance)


@pytest.mark.parametrize("num_threads", [1, 2, 3, 8])
def test_rows_are_dealt_out_among_threads(num_threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: num_threads)
    model = build_variant("add-linear", FOUR_STREAMS)
    check(FastDecoder(model), model, WINDOW - 2, 7, tolerance=0.02)


@pytest.mark.parametrize("decoder_type", [FastDecoder, ForwardDecoder])
@pytest.mark.parametrize("variant", ["plain", "add-linear", "replace-mlp"])
@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("ended", [0, 1])
def test_rows_that_are_kept_go_on(
    decoder_type: type[Decoder], variant: str, num_threads: int, ended: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: num_threads)
    model = build_variant(variant, FOUR_STREAMS)
    prompt = random_tokens(FOUR_STREAMS, WINDOW - 2, batch_size=1)[0].numpy()
    rows = random_tokens(FOUR_STREAMS, NEW_FRAMES, batch_size=4).numpy()
    whole = decode(decoder_type(model), prompt, rows)
    decoder, kept = decoder_type(model), [0, 1, 2, 3]
    decoder.start(prompt, 4)
    for number, frames in enumerate(rows.transpose(2, 0, 1), 1):
        # Before the window is full, while the buffer is, and when it has been moved to its front.
        if number in (2, WINDOW + 3, 3 * WINDOW):
            kept.pop(ended)
            decoder.keep([place for place in range(len(kept) + 1) if place != ended])
        found = torch.from_numpy(decoder.step(frames[kept]))
        torch.testing.assert_close(finite(found), finite(whole[kept, :, number]), atol=2e-3, rtol=0)


def test_started_again_it_has_forgotten_what_was_before() -> None:
    decoder = FastDecoder(build_variant("add-linear"))
    prompt, other = (random_tokens(ONE_STREAM, 2 * WINDOW, batch_size=1, seed=seed)[0].numpy() for seed in (1, 2))
    rows = random_tokens(ONE_STREAM, NEW_FRAMES).numpy()
    before = decode(decoder, prompt, rows)
    decode(decoder, other, rows[:1])
    assert torch.equal(decode(decoder, prompt, rows), before)


def test_the_model_itself_is_left_as_it_was() -> None:
    model, tokens = build_variant("add-mlp"), random_tokens(ONE_STREAM, WINDOW)
    with torch.no_grad():
        before = model(tokens)
        decode(FastDecoder(model), tokens[0].numpy(), tokens.numpy())
        assert torch.equal(model(tokens), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes_are_left_to_the_model(dtype: torch.dtype) -> None:
    decoder = new_decoder(build_variant("plain", FOUR_STREAMS).to(dtype))
    assert isinstance(decoder, ForwardDecoder)
    tokens = random_tokens(FOUR_STREAMS, WINDOW).numpy()
    assert decode(decoder, tokens[0], tokens).dtype == torch.float32


@pytest.mark.parametrize("variant", SLOW)
def test_what_mixes_depths_is_left_to_the_model(variant: str) -> None:
    assert isinstance(new_decoder(build_variant(variant)), ForwardDecoder)


@pytest.mark.parametrize("option", ["place", "feature_map"])
def test_a_shortcut_that_the_loops_do_not_know_is_left_to_the_model(option: str) -> None:
    model = build_variant("add-linear")
    shortcut = model.config.shortcut.model_copy(update={option: "new"})
    model.config = model.config.model_copy(update={"shortcut": shortcut})
    assert isinstance(new_decoder(model), ForwardDecoder)


def test_loops_that_are_not_compiled_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(new_decoder(build_variant("plain")), FastDecoder)
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert isinstance(new_decoder(build_variant("plain")), ForwardDecoder)
