"""Frames with delayed streams: nothing lost, and predicted one by one as they are all together."""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
from voices import hum

from adaptgen.config import ModelConfig
from adaptgen.domains import get
from adaptgen.domains.speech.codecs import load_codec
from adaptgen.domains.speech.grammar import SpeechGrammar
from adaptgen.domains.speech.tokenizer import ABSENT, NUM_SPECIAL, SpeechTokenizer
from adaptgen.errors import RecipeError
from adaptgen.generation import generate
from adaptgen.model import Transformer, new_decoder
from adaptgen.sampling import Sampling

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def tokenizer() -> SpeechTokenizer:
    return SpeechTokenizer(load_codec())


def small_model(tokenizer: SpeechTokenizer, *, window: int = 32) -> Transformer:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = ModelConfig(num_layers=2, num_heads=2, model_dim=16, attention_window=window)
        model = Transformer(config, tokenizer.vocab_sizes).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
        return model


def test_delay_puts_each_stream_a_frame_later(tokenizer: SpeechTokenizer) -> None:
    codes = np.arange(30).reshape(10, 3)
    tokens = tokenizer.delay(codes)
    assert tokens.shape == (10, 12)
    for stream in range(10):
        assert (tokens[stream, stream : stream + 3] == codes[stream] + NUM_SPECIAL).all()
        assert (np.delete(tokens[stream], range(stream, stream + 3)) == ABSENT).all()
    assert (tokenizer.undelay(tokens) == codes).all()
    document = tokenizer.document(codes)
    assert (document[:, 0] == tokenizer.begin).all()
    assert tokenizer.count_units(document) == 3 / 25


def test_documents_fit_the_vocabulary_and_are_described(tokenizer: SpeechTokenizer) -> None:
    (document,) = get("speech").read_documents(EXAMPLES / "talk.wav", tokenizer, is_training=False)
    assert (document.max(axis=1) < tokenizer.vocab_sizes).all()
    assert tokenizer.count_units(document) == pytest.approx(3.17, abs=0.05)
    kinds = tokenizer.kinds_of(document)
    assert kinds[0] == "begin"
    assert kinds[-9:] == ["end"] * 9
    assert {"voiced", "unvoiced"} <= set(kinds)
    heights = tokenizer.heights_of(document)
    assert 45 < np.nanmedian(heights) < 70, "the pitch of a voice"
    assert (np.isfinite(heights) == (np.array(kinds) == "voiced")).all()
    image = tokenizer.image_of(document)
    assert image.shape[1] == document.shape[1]
    is_sound = np.isfinite(image).all(axis=0)
    assert (is_sound == np.isin(kinds, ("voiced", "unvoiced"))).all()
    loudness = image.mean(axis=0)
    is_voiced = np.isfinite(heights)
    assert loudness[is_voiced].mean() > loudness[is_sound & ~is_voiced].mean() + 0.5, "a voice is louder than pauses"
    assert len(tokenizer.describe(document)) == document.shape[1] == 90
    assert len(tokenizer.kinds_of(document[:, :5])) == 5, "a document cut short"


@pytest.mark.parametrize("num_codebooks", [1, 3, 10])
def test_drawing_through_the_cache_is_what_a_whole_forward_says(num_codebooks: int) -> None:
    """With greedy sampling each new frame is the likeliest legal one after all frames before it, read at once."""
    tokenizer = SpeechTokenizer(load_codec(), num_codebooks=num_codebooks)
    model = small_model(tokenizer)
    codes = tokenizer.encode(np.random.default_rng(0).standard_normal(640 * 12).astype(np.float32) * 0.1)
    prompt = tokenizer.document(codes)[:, :13]
    (drawn,) = generate(
        new_decoder(model), prompt, [SpeechGrammar(tokenizer, codes, 7)], Sampling(temperature=0), seed=0
    )
    assert drawn.shape == (num_codebooks, 7 + num_codebooks - 1)
    whole = np.concatenate([prompt, drawn], axis=1)
    with torch.no_grad():
        logits = model(torch.from_numpy(whole)[None])[0].numpy()
    grammar = SpeechGrammar(tokenizer, codes, 7)
    for place, frame in enumerate(drawn.T):
        legal = np.where(grammar.allowed(), logits[:, 12 + place], -np.inf)
        assert (legal.argmax(axis=1) == frame).all()
        grammar.accept(frame)
    both = tokenizer.undelay(whole[:, 1:])
    assert (both[:, :12] == codes).all(), "what the delay left over of the prompt has changed"
    assert (both >= 0).all()


def test_no_stream_holds_a_code_for_more_than_a_second(tokenizer: SpeechTokenizer) -> None:
    grammar = SpeechGrammar(tokenizer, tokenizer.encode(hum(0.4).astype(np.float32)), 80)
    frames = []
    while not grammar.is_done:
        frame = grammar.allowed().argmax(axis=1)
        frames.append(frame)
        grammar.accept(frame)
    codes = tokenizer.undelay(np.stack(frames[:-1], axis=1))
    assert codes.shape == (10, 80)
    for row in codes:
        changes = np.flatnonzero(np.diff(row)) + 1
        assert np.diff([0, *changes, len(row)]).max() <= 25


def test_what_is_quiet_can_be_told_of_the_first_stream(tokenizer: SpeechTokenizer) -> None:
    pause = np.random.default_rng(0).standard_normal(16_000) * 1e-4
    sound = np.concatenate([hum(1.0), pause, hum(1.0)]).astype(np.float32)
    is_quiet = tokenizer.codec.is_quiet[tokenizer.encode(sound)[0]]
    assert is_quiet[26:49].all()
    assert not is_quiet[:24].any()
    assert not is_quiet[51:].any()


@pytest.mark.parametrize(("pause_seconds", "most_frames"), [(0.0, 8), (0.6, 15), (3.0, 25)])
def test_a_pause_is_no_longer_than_the_prompts_and_ends_in_some_sound(
    tokenizer: SpeechTokenizer, pause_seconds: float, most_frames: int
) -> None:
    """Even from a model that would be silent for good, and also where the prompt ends in a pause."""
    is_quiet = tokenizer.codec.is_quiet
    parts = [hum(0.8), np.zeros(int(pause_seconds * 16_000)), hum(0.8), np.zeros(6400)]
    codes = tokenizer.encode(np.concatenate(parts).astype(np.float32))
    grammar = SpeechGrammar(tokenizer, codes, 100)
    drawn = []
    while not grammar.is_done:
        allowed = grammar.allowed()
        wanted = allowed.copy()
        wanted[0, NUM_SPECIAL : 1024 + NUM_SPECIAL] &= is_quiet
        frame = np.where(wanted.any(axis=1), wanted.argmax(axis=1), allowed.argmax(axis=1))
        drawn.append(frame[0])
        grammar.accept(frame)
    heard = is_quiet[np.concatenate([codes[0], np.array(drawn[:100]) - NUM_SPECIAL])]
    runs = [(quiet, len(list(run))) for quiet, run in groupby(heard)]
    place, new = 0, []
    for quiet, length in runs[:-1]:
        place += length
        if place > codes.shape[1]:
            new.append((quiet, length))
    at_the_join, *pauses = [length for quiet, length in new if quiet]
    assert at_the_join <= max(10, most_frames + 1)
    assert len(pauses) >= 2
    assert all(abs(length - most_frames) <= 1 for length in pauses)
    assert all(length >= 6 for quiet, length in new if not quiet)


def test_options_and_files_make_the_same_tokenizer(tmp_path: Path) -> None:
    tokenizer = SpeechTokenizer.from_options({"codec": "source_filter", "num_codebooks": 4})
    assert len(tokenizer.vocab_sizes) == 4
    tokenizer.save(tmp_path)
    again = SpeechTokenizer.load(tmp_path, tokenizer.to_options())
    assert again.fingerprint == tokenizer.fingerprint != SpeechTokenizer(load_codec()).fingerprint
    assert again.heard_codebooks == 4
    some_are_heard = SpeechTokenizer.load(tmp_path, {**tokenizer.to_options(), "heard_codebooks": 2})
    assert some_are_heard.fingerprint == tokenizer.fingerprint, "it reads and draws the same tokens"
    assert SpeechTokenizer.load(tmp_path, some_are_heard.to_options()).heard_codebooks == 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"codec": "mp3"}, "tokenizer.codec is 'mp3'"),
        ({"codecs": 1}, "unknown key 'tokenizer.codecs'"),
        ({"num_codebooks": 0}, "tokenizer.num_codebooks is 0"),
        ({"num_codebooks": 11}, "tokenizer.num_codebooks is 11"),
        ({"heard_codebooks": True}, "tokenizer.heard_codebooks is True"),
        ({"num_codebooks": 4, "heard_codebooks": 5}, "tokenizer.heard_codebooks is 5. There are 4"),
        ({"codec_weights": 3}, "tokenizer.codec_weights is 3"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], expected: str) -> None:
    with pytest.raises(RecipeError) as error:
        SpeechTokenizer.from_options(options)
    assert expected in str(error.value)


def test_training_hears_a_recording_in_other_ways_too(tokenizer: SpeechTokenizer) -> None:
    path = EXAMPLES / "talk.wav"
    (plain,) = get("speech").read_documents(path, tokenizer, is_training=False)
    first, *others = get("speech").read_documents(path, tokenizer, is_training=True)
    assert (first == plain).all()
    assert len(others) == 3
    for number, other in enumerate(others):
        assert abs(tokenizer.count_units(other) / tokenizer.count_units(plain) - 1) < 0.1
        length = min(other.shape[1], plain.shape[1])
        assert (other[0, :length] == plain[0, :length]).mean() < 0.5, "other codes"
        pitches = [np.nanmedian(tokenizer.heights_of(document)) for document in (plain, other)]
        assert abs(pitches[1] - pitches[0]) < 1.5, "the same voice, within a semitone and what rounding adds"
        assert not any(another.shape == other.shape and (another == other).all() for another in others[:number])
    again = get("speech").read_documents(path, tokenizer, is_training=True)
    assert all((one == two).all() for one, two in zip([first, *others], again, strict=True)), "always the same ones"


def test_a_file_name_need_not_be_text(tokenizer: SpeechTokenizer, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"gr\xfc\xdfe.wav")
    path.write_bytes((EXAMPLES / "talk.wav").read_bytes())
    plain, *others = get("speech").read_documents(path, tokenizer, is_training=True)
    assert (plain == get("speech").read_documents(EXAMPLES / "talk.wav", tokenizer, is_training=False)[0]).all()
    assert len(others) == 3
