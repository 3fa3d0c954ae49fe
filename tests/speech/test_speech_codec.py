"""The shipped codec: any length, always the same, and still the same voice afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from voices import hum, voice

from adaptgen.domains.speech.codecs import load_codec
from adaptgen.domains.speech.fitting import IntelligibilityLoss, fit_codec
from adaptgen.domains.speech.metrics import compare
from adaptgen.domains.speech.pitch import NUM_CODES, dequantize_pitch, quantize_pitch, track_pitch
from adaptgen.domains.speech.quantizer import ResidualQuantizer
from adaptgen.domains.speech.sound import SILENCE, loudness, open_sound, read_mono
from adaptgen.domains.speech.source_filter import HOP, NUM_BANDS, SourceFilterCodec
from adaptgen.domains.speech.splice import best_lag, cross_fade, extend, limit
from adaptgen.domains.speech.synthesis import Synthesizer
from adaptgen.errors import CheckpointError, InputFileError, UsageError

EXAMPLES = Path(__file__).parents[2] / "examples"
CORPORA = os.environ.get("ADAPTGEN_TEST_DATA")
RATE = 16_000


@pytest.fixture(scope="module")
def codec() -> SourceFilterCodec:
    return load_codec()


@pytest.mark.parametrize("length", [1, 2, 319, 640, 641, 1279, 16_000, 31_337])
def test_any_length_goes_through(codec: SourceFilterCodec, length: int) -> None:
    samples = voice(2)[:length].astype(np.float32)
    codes = codec.encode(samples)
    assert codes.shape == (10, -(-length // codec.frame_samples))
    assert codes.dtype == np.int64
    assert (codes >= 0).all()
    assert (codes.max(axis=1) < codec.codebook_sizes).all()
    decoded = codec.decode(codes)
    assert decoded.dtype == np.float32
    assert len(decoded) == codes.shape[1] * codec.frame_samples
    assert np.isfinite(decoded).all()


def test_the_same_sound_gives_the_same_codes_and_they_the_same_sound(codec: SourceFilterCodec) -> None:
    samples = voice(1.5).astype(np.float32)
    codes = codec.encode(samples)
    assert (codec.encode(samples.copy()) == codes).all()
    assert (codec.decode(codes) == codec.decode(codes.copy())).all()


@pytest.mark.parametrize("sound", [np.zeros(5000), np.ones(5000), np.random.default_rng(0).uniform(-1, 1, 5000)])
def test_what_is_no_voice_still_goes_through(codec: SourceFilterCodec, sound: np.ndarray) -> None:
    decoded = codec.decode(codec.encode(sound.astype(np.float32)))
    assert np.isfinite(decoded).all()
    assert np.abs(decoded).max() < 4


def test_long_sound_is_decoded_in_blocks_without_a_seam(
    codec: SourceFilterCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = codec.encode(voice(6).astype(np.float32))
    whole = codec.decode(codes)
    monkeypatch.setattr("adaptgen.domains.speech.source_filter.BLOCK_FRAMES", 40)
    assert np.abs(codec.decode(codes) - whole).max() < 1e-4


def test_every_number_of_streams_can_be_decoded(codec: SourceFilterCodec) -> None:
    codes = codec.encode(voice(1).astype(np.float32))
    for count in range(1, 11):
        assert np.isfinite(codec.decode(codes[:count])).all()


def test_bits_are_those_of_the_streams_that_are_taken(codec: SourceFilterCodec) -> None:
    assert codec.bits_per_second(1) == 25 * 10
    assert codec.bits_per_second(10) == pytest.approx(2450, abs=1)


def test_a_voice_is_still_itself(codec: SourceFilterCodec) -> None:
    samples, _ = read_mono(open_sound(EXAMPLES / "talk.wav"), sample_rate_hz=RATE)
    figures = compare(samples, codec.decode(codec.encode(samples))[: len(samples)], sample_rate_hz=RATE)
    assert figures["mel_distance_db"] < 3.5
    assert figures["pitch_error_semitones"] < 0.6
    coarse = compare(samples, codec.decode(codec.encode(samples)[:3])[: len(samples)], sample_rate_hz=RATE)
    assert coarse["mel_distance_db"] > figures["mel_distance_db"]


@pytest.mark.skipif(CORPORA is None, reason="ADAPTGEN_TEST_DATA names no folder of corpora")
@pytest.mark.parametrize(("corpus", "least_stoi"), [("kathleen", 0.9), ("speechocean762", 0.84)])
def test_held_out_speech_can_be_understood(codec: SourceFilterCodec, corpus: str, least_stoi: float) -> None:
    pytest.importorskip("pystoi")
    folder = Path(CORPORA) / "speech" / corpus / "test"
    if not folder.is_dir():
        pytest.skip(f"ADAPTGEN_TEST_DATA has no {corpus}")
    paths = sorted(folder.glob("*.flac"))[::12]
    values = []
    for path in paths:
        samples, _ = read_mono(open_sound(path), sample_rate_hz=RATE)
        values.append(
            compare(samples, codec.decode(codec.encode(samples))[: len(samples)], sample_rate_hz=RATE)["stoi"]
        )
    assert np.mean([value for value in values if value is not None]) > least_stoi


def test_pitch_is_found_and_coded() -> None:
    for hz in (75.0, 110.0, 233.0, 390.0):
        found, strength = track_pitch(hum(0.5, hz=hz).astype(np.float32), hop=320, sample_rate_hz=RATE)
        assert np.abs(12 * np.log2(found[3:-3] / hz)).max() < 0.2
        assert (strength[3:-3] > 0.8).all()
        codes = quantize_pitch(found, strength)
        assert (codes < NUM_CODES).all()
        coded, _ = dequantize_pitch(codes)
        assert np.abs(12 * np.log2(coded[3:-3] / found[3:-3])).max() < 0.15
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    assert (track_pitch(noise, hop=320, sample_rate_hz=RATE)[1] > 0).mean() < 0.2


def test_more_books_leave_less(codec: SourceFilterCodec) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3000, 8)).astype(np.float32) + 5
    quantizer = ResidualQuantizer.fit(vectors, num_books=4, size=32, seed=0)
    codes = quantizer.encode(vectors)
    left = [float(((vectors - quantizer.decode(codes[:count])) ** 2).mean()) for count in range(1, 5)]
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.3
    again = ResidualQuantizer.fit(vectors, num_books=4, size=32, seed=0)
    assert (again.books == quantizer.books).all()


@pytest.mark.parametrize("network_steps", [0, 2])
def test_a_codec_is_fitted_stored_and_read(tmp_path: Path, network_steps: int) -> None:
    paths = sorted((EXAMPLES / "speech" / "train").glob("*.ogg"))[:3]
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    skipped = []
    fitted = fit_codec(
        [*paths, tmp_path / "bad.wav"],
        seed=1,
        network_steps=network_steps,
        num_books=2,
        book_size=32,
        on_skipped=lambda path, reason: skipped.append(path.name),
    )
    assert skipped == ["bad.wav"]
    fitted.save(tmp_path)
    read = SourceFilterCodec.load(tmp_path)
    assert read.fingerprint == fitted.fingerprint
    assert read.about["network_steps"] == network_steps
    samples = voice(1).astype(np.float32)
    codes = fitted.encode(samples)
    assert codes.shape[0] == 4
    assert (read.encode(samples) == codes).all()
    assert (read.decode(codes) == fitted.decode(codes)).all()


def test_with_its_books_kept_a_codec_is_trained_further(codec: SourceFilterCodec) -> None:
    paths = sorted((EXAMPLES / "speech" / "train").glob("*.ogg"))[:2]
    further, kept = (fit_codec(paths, seed=1, network_steps=steps, keep_books_of=codec) for steps in (2, 0))
    bare = SourceFilterCodec(
        codec.quantizer, Synthesizer(num_bands=NUM_BANDS, hop=HOP, sample_rate_hz=RATE, has_network=False)
    )
    assert further.fingerprint == kept.fingerprint == bare.fingerprint == codec.fingerprint
    assert further.about["network_steps"] == codec.about["network_steps"] + 2
    assert kept.about["network_steps"] == codec.about["network_steps"]
    codes = codec.encode(voice(1).astype(np.float32))
    before, after, same, without = (each.decode(codes) for each in (codec, further, kept, bare))
    assert 0 < np.abs(after - before).max() < 0.1 * np.abs(without - before).max()
    assert (same == before).all(), "no step was asked for, and the network is another one"


def test_the_loss_rises_as_speech_is_blurred() -> None:
    """How loud it is counts for nothing; that levels rise and fall too late, or not at all, does."""
    speech = voice(1.0)
    tail = np.exp(-np.arange(RATE // 2) / (0.1 * RATE)) * np.random.default_rng(0).standard_normal(RATE // 2)
    heard = {
        "as it is": speech,
        "softer": 0.3 * speech,
        "in a hall": np.convolve(speech, tail / np.abs(tail).sum() * 3)[: len(speech)],
        "backwards": speech[::-1].copy(),
    }
    loss = IntelligibilityLoss()
    target = torch.from_numpy(speech).float()[None]
    losses = {name: float(loss(target, torch.from_numpy(sound).float()[None])) for name, sound in heard.items()}
    assert losses["as it is"] == pytest.approx(0, abs=0.02)
    assert losses["softer"] == pytest.approx(losses["as it is"], abs=0.02)
    assert losses["softer"] + 0.1 < losses["in a hall"] < losses["backwards"]


def test_too_little_to_fit_is_said() -> None:
    with pytest.raises(InputFileError, match="less than the 41 s that 1024 codes need"):
        fit_codec([EXAMPLES / "talk.wav"], seed=0, network_steps=0)


@pytest.mark.parametrize("keep_books", [False, True])
def test_a_folder_without_a_recording_is_refused(tmp_path: Path, codec: SourceFilterCodec, keep_books: bool) -> None:
    (tmp_path / "notes.wav").write_text("This is no sound.")
    with pytest.raises(InputFileError, match="no recording that can be used among 1 file"):
        fit_codec([tmp_path / "notes.wav"], seed=0, network_steps=0, keep_books_of=codec if keep_books else None)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"codec\.safetensors cannot be used"):
        load_codec(weights=tmp_path)
    (tmp_path / "codec.safetensors").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(CheckpointError, match=r"codec\.safetensors cannot be used"):
        load_codec(weights=tmp_path)
    with pytest.raises(UsageError, match="there is no codec 'mp4'"):
        load_codec("mp4")


def test_a_tone_rings_on() -> None:
    tone = hum(0.5, hz=500)
    ringing = extend(tone[:7000], 320, sample_rate_hz=RATE)
    assert np.abs(ringing - tone[7000:7320])[:80].max() < 0.03
    assert np.abs(ringing).max() < 0.6
    noise = np.random.default_rng(0).standard_normal(400)
    assert best_lag(noise[40:360], noise) == 40
    assert np.isfinite(extend(np.zeros(1600), 320, sample_rate_hz=RATE)).all()
    ones = np.ones((320, 2))
    faded = cross_fade(ones, 0 * ones) ** 2 + cross_fade(0 * ones, ones) ** 2
    assert np.allclose(faded, 1)


@pytest.mark.parametrize("rate", [8000, 44_100])
def test_a_limiter_is_smooth_and_leaves_what_fits(rate: int) -> None:
    """One syllable of a tone is four times as loud as there is room for, in one of two channels."""
    time = np.arange(rate) / rate
    tone = np.sin(2 * np.pi * 200 * time)[:, None] * [1.0, 0.5]
    loud = tone * np.where((time > 0.5) & (time < 0.6), 2.0, 0.4)[:, None]
    limited = loud.copy()
    limit(limited, np.array([0.5, 0.9]), sample_rate_hz=rate)
    assert np.abs(limited).max(axis=0) == pytest.approx([0.5, 0.25], abs=0.01)
    assert np.abs(limited[:, 0]).max() <= 0.5
    is_far = np.abs(time - 0.55) > 0.07
    assert (limited[is_far] == loud[is_far]).all()
    gains = limited[1:-1, 0] / np.where(np.abs(loud[1:-1, 0]) < 1e-3, np.nan, loud[1:-1, 0])
    assert np.nanmax(np.abs(np.diff(gains))) < 500 / rate, "it takes less than 2 ms to turn down"


@pytest.mark.parametrize("noise", [0.0, 1e-4, 1e-3])
@pytest.mark.parametrize("place", [3, 12])
def test_a_word_among_pauses_is_as_loud_as_it_is_alone(noise: float, place: int) -> None:
    word = 2 * voice(0.5)
    sound = noise * np.random.default_rng(0).standard_normal(15 * RATE)
    sound[place * RATE :][: len(word)] += word
    assert loudness(sound, RATE) == pytest.approx(loudness(word, RATE), rel=0.4), "more than 3 dB from it"


def test_pauses_of_ordinary_speech_change_nothing() -> None:
    """The shipped codec and model have learned at the level of the loudest twentieth of all frames."""
    samples, _ = read_mono(open_sound(EXAMPLES / "talk.wav"), sample_rate_hz=RATE)
    for sound in (samples, np.concatenate([samples, np.zeros(2 * len(samples))])):
        levels = np.sqrt((sound[: len(sound) // 320 * 320].reshape(-1, 320).astype(np.float64) ** 2).mean(axis=1))
        assert loudness(sound, RATE) == np.quantile(levels, 0.95) + SILENCE


def test_one_bang_is_no_loudness() -> None:
    soft = 0.05 * voice(10.0)
    bang = soft.copy()
    bang[80_000:81_600] += 0.5 * np.random.default_rng(0).uniform(-1, 1, 1600)
    assert loudness(bang, RATE) == pytest.approx(loudness(soft, RATE), rel=0.4)
