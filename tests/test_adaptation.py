"""Learning a document before going on with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adaptgen.adaptation import MIN_FRAMES, adapt
from adaptgen.config import ModelConfig
from adaptgen.model import Transformer

RATE = 1e-2
PHRASE = np.array([[1, 3, 2, 0, 4], [0, 4, 1, 2, 3]])
SONG = np.tile(PHRASE, 600)


@pytest.fixture
def model() -> Transformer:
    torch.manual_seed(0)
    config = ModelConfig(num_layers=2, num_heads=2, model_dim=32, attention_window=64)
    return Transformer(config, (5, 5)).eval()


def weights(model: Transformer) -> list[np.ndarray]:
    return [tensor.clone().numpy() for tensor in model.state_dict().values()]


def test_what_repeats_is_expected_to_go_on(model: Transformer) -> None:
    before = weights(model)
    adapted = adapt(model, SONG, learning_rate=RATE)
    assert adapted.num_steps > 0
    assert adapted.nats_after < 0.9 * adapted.nats_before
    with torch.no_grad():
        logits = adapted.model(torch.from_numpy(SONG[None, :, :60]))[0, :, -1]
    assert logits.argmax(dim=-1).tolist() == PHRASE[:, 0].tolist()
    assert not adapted.model.training
    assert all(map(np.array_equal, weights(model), before)), "the model itself was changed"


def test_what_does_not_help_leaves_the_model_as_it_is(model: Transformer) -> None:
    adapted = adapt(model, SONG, learning_rate=100.0)
    assert adapted.model is model
    assert adapted.num_steps == 0
    assert adapted.nats_after == adapted.nats_before > 0


def test_a_seed_decides_everything(model: Transformer) -> None:
    first, again, other = (weights(adapt(model, SONG, seed=seed).model) for seed in (1, 1, 2))
    assert all(map(np.array_equal, first, again))
    assert not all(map(np.array_equal, first, other))


def test_a_document_of_a_few_frames_teaches_nothing(model: Transformer) -> None:
    for length in (1, 2, MIN_FRAMES - 1):
        adapted = adapt(model, SONG[:, :length])
        assert adapted.model is model
        assert adapted.held_out.shape == (2, 0)
    assert adapt(model, SONG[:, :MIN_FRAMES]).held_out.shape[1] > 0


def test_progress_comes_to_its_end_and_can_be_stopped(model: Transformer) -> None:
    shares: list[float] = []
    adapt(model, SONG, on_progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0

    def stop(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt(model, SONG, on_progress=stop)
