"""The cache: bounded memory, and views that hold exactly the frames in sight."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptgen.config import ModelConfig, ShortcutConfig
from adaptgen.model import Transformer
from adaptgen.model.cache import KeyValueStore

WINDOW = 6


def new_store() -> KeyValueStore:
    return KeyValueStore((1, 1, 1, 1), window=WINDOW, dtype=torch.float32, device=torch.device("cpu"))


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, WINDOW), min_size=1, max_size=20))
def test_view_holds_what_the_new_frames_see(lengths: list[int]) -> None:
    """From the first frame that the first new one sees, up to the last new one; keys as they were put in."""
    store, total = new_store(), 0
    for length in lengths:
        frames = torch.arange(total, total + length, dtype=torch.float32)
        total += length
        keys, values = store.append(frames.view(1, 1, -1, 1, 1), -frames.view(1, 1, -1, 1, 1))
        first = max(0, total - length - WINDOW + 1)
        assert keys.flatten().tolist() == list(range(first, total))
        assert values.flatten().tolist() == [-frame for frame in range(first, total)]


def test_more_than_a_window_at_once_is_refused() -> None:
    with pytest.raises(AssertionError, match="pieces"):
        new_store().append(torch.zeros(1, 1, WINDOW + 1, 1, 1), torch.zeros(1, 1, WINDOW + 1, 1, 1))


@pytest.mark.parametrize(
    ("shortcut", "num_stores"),
    [
        (None, 3),
        (ShortcutConfig(place="add"), 3 + 2),
        (ShortcutConfig(place="add", depths=(1,)), 3 + 1),
        (ShortcutConfig(place="replace"), 2 + 3),
    ],
)
def test_memory_is_constant_and_what_it_should_be(shortcut: ShortcutConfig | None, num_stores: int) -> None:
    """Keys and values of two windows for every layer and every depth that is read, and never more."""
    torch.manual_seed(0)
    config = ModelConfig(num_layers=3, num_heads=2, model_dim=16, attention_window=WINDOW, shortcut=shortcut)
    model, batch_size = Transformer(config, (11,)), 3
    cache = model.new_cache(batch_size)
    stores = [store for store in (*cache.blocks, cache.shortcut) if store is not None]
    places = [(store.keys.data_ptr(), store.values.data_ptr()) for store in stores]
    expected = num_stores * 2 * batch_size * 2 * WINDOW * 16 * 4
    assert cache.num_bytes == expected
    with torch.no_grad():
        for _ in range(10):
            model(torch.randint(11, (batch_size, 1, 7)), cache)
    assert cache.num_bytes == expected
    assert [(store.keys.data_ptr(), store.values.data_ptr()) for store in stores] == places


def test_one_past_serves_several_futures() -> None:
    """After `repeat` each row goes on from the same past, by itself."""
    torch.manual_seed(0)
    config = ModelConfig(num_layers=3, num_heads=2, model_dim=16, attention_window=WINDOW)
    model = Transformer(config, (11,)).eval()
    past, future = torch.randint(11, (1, 1, 10)), torch.randint(11, (3, 1, 15))
    with torch.no_grad():
        whole = model(torch.cat([past.expand(3, -1, -1), future], dim=2))[:, :, 10:]
        cache = model.new_cache(1)
        model(past, cache)
        cache.repeat(3)
        pieces = [model(piece, cache) for piece in future.split(4, dim=2)]
    torch.testing.assert_close(torch.cat(pieces, dim=2), whole, atol=1e-4, rtol=0)
