"""The map is of the attention that the model computes with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_transformer import FOUR_STREAMS, ONE_STREAM, SHORTCUTS, WINDOW, build, random_tokens

from adaptgen.config import ShortcutConfig
from adaptgen.model import map_attention


@pytest.mark.parametrize("shortcut", SHORTCUTS.values(), ids=SHORTCUTS)
@pytest.mark.parametrize("vocab_sizes", [ONE_STREAM, FOUR_STREAMS], ids=["K1", "K4"])
@torch.no_grad()
def test_weights_are_those_by_which_values_are_mixed(shortcut: ShortcutConfig, vocab_sizes: tuple[int, ...]) -> None:
    """With links to all frames, values weighed by them are the shortcut's output; costs are the model's own."""
    model, length, read = build(shortcut, vocab_sizes), 3 * WINDOW + 2, []
    tokens = random_tokens(vocab_sizes, length, batch_size=1)[0]
    found = map_attention(model, tokens.numpy(), num_links=WINDOW, on_progress=read.append)
    assert (len(read) > 1, sum(read)) == (True, length - 1)
    assert found.depths == model.blocks[-1].shortcut.depths
    np.testing.assert_allclose(found.depth_shares[1:].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found.link_weights[1:].sum(axis=1), 1, atol=1e-5)
    logits = model(tokens[None, :, :-1])[0].log_softmax(-1)
    costs = -logits.gather(2, tokens[:, 1:, None]).sum(dim=(0, 2))
    np.testing.assert_allclose(found.nats[1:], costs.numpy(), atol=1e-4)
    assert np.isnan(found.nats[0])
    for row in range(1, length):
        links = found.link_frames[row][found.link_frames[row] >= 0]
        seen = range(max(0, row - (shortcut.window or WINDOW)), row)
        assert sorted(links) == list(seen), "the frames that the query can see"


@torch.no_grad()
def test_attention_is_summed_by_how_far_back_it_goes() -> None:
    length = 90
    model = build(SHORTCUTS["add-linear"], window=80)
    found = map_attention(model, random_tokens(ONE_STREAM, length, batch_size=1)[0].numpy(), num_links=80)
    for row in range(1, length):
        back, weights = row - 1 - found.link_frames[row], found.link_weights[row] * (found.link_frames[row] >= 0)
        for share, near, far in zip(found.distance_shares[row], (0, 1, 8, 64), (0, 7, 63, length), strict=True):
            assert share == pytest.approx(weights[(back >= near) & (back <= far)].sum(), abs=1e-5)


@torch.no_grad()
def test_a_depth_whose_keys_are_wanted_gets_all_attention() -> None:
    model = build(SHORTCUTS["add-linear"])
    tokens = random_tokens(ONE_STREAM, 12, batch_size=1)[0].numpy()
    shortcut = model.blocks[-1].shortcut
    seen = []
    hook = shortcut.query.register_forward_hook(lambda module, args, output: torch.ones_like(output))
    shortcut.key_bias.zero_()
    for wanted in range(len(shortcut.depths)):
        shortcut.key_bias.zero_()
        # Rotation turns a constant query and key against each other by the distance, so only the frame's own is sure.
        shortcut.key_bias[wanted] = 100.0
        found = map_attention(model, tokens, num_links=1)
        seen.append(found.depth_shares[1:, wanted].min())
        assert (found.link_depths[1:, 0] == shortcut.depths[wanted]).all()
    hook.remove()
    assert min(seen) > 0.99
