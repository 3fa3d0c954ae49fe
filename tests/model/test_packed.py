"""A model packed for generating predicts what the model itself does."""

from __future__ import annotations

import pytest
import torch
from test_transformer import (
    FOUR_STREAMS,
    ONE_STREAM,
    WINDOW,
    all_streams,
    all_variants,
    build_variant,
    finite,
    in_chunks,
    random_tokens,
)

from adaptgen.model import pack_weights


@all_variants
@all_streams
@torch.no_grad()
def test_same_logits_from_weights_as_checkpoints_hold_them(variant: str, vocab_sizes: tuple[int, ...]) -> None:
    """Weights of eight significant bits go through float16 unchanged; what is left is the order of additions."""
    model = build_variant(variant, vocab_sizes)
    for parameter in model.parameters():
        parameter.copy_(parameter.bfloat16())
    packed, tokens = pack_weights(model), random_tokens(vocab_sizes, 3 * WINDOW)
    wanted = finite(model(tokens))
    torch.testing.assert_close(
        finite(in_chunks(packed, tokens, [WINDOW, *[1] * (2 * WINDOW)])), wanted, atol=1e-4, rtol=0
    )
    torch.testing.assert_close(finite(packed(tokens)), wanted, atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_model_itself_is_left_as_it_was() -> None:
    model, tokens = build_variant("add-linear"), random_tokens(ONE_STREAM, WINDOW)
    before = model(tokens)
    pack_weights(model)
    assert torch.equal(model(tokens), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes_are_not_packed(dtype: torch.dtype) -> None:
    model = build_variant("plain", FOUR_STREAMS).to(dtype)
    assert pack_weights(model) is model
