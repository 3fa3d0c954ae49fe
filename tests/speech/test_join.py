"""How new sound joins a recording, measured on a codec that loses nothing, so that what was drawn is known exactly."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from voices import hum, voice

from adaptgen.domains import get
from adaptgen.domains.base import ContinuationRequest
from adaptgen.domains.speech.codec import Codec
from adaptgen.domains.speech.prompt import SpeechPrompt
from adaptgen.domains.speech.sound import loudness, resample
from adaptgen.domains.speech.splice import best_lag, cross_fade, extend, fade_out, level_gain, limit
from adaptgen.domains.speech.tokenizer import SpeechTokenizer

RATE = 16_000
FRAME = 640
STEPS = 8192


class Samples(Codec):
    """Each sample of a frame is a code in a stream of its own."""

    name = "samples"
    sample_rate_hz = RATE
    frame_samples = FRAME
    codebook_sizes = (1 << 16,) * FRAME
    fingerprint = "samples"

    def encode(self, samples: np.ndarray) -> np.ndarray:
        padded = np.pad(samples, (0, -len(samples) % FRAME))
        return np.round(padded.reshape(-1, FRAME).T * STEPS).astype(np.int64) + (1 << 15)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return ((codes - (1 << 15)) / STEPS).T.ravel().astype(np.float32)

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Samples:
        raise NotImplementedError

    @classmethod
    def find_weights(cls) -> Path:
        raise NotImplementedError


TOKENIZER = SpeechTokenizer(Samples())


def prompt_of(path: Path, **request: object) -> SpeechPrompt:
    return get("speech").read_prompt(path, TOKENIZER, ContinuationRequest(**request), window=200)


def joined(
    folder: Path, old: np.ndarray, drawn: np.ndarray, *, seconds: float = 1.0, rate: int = RATE, subtype: str = "FLOAT"
) -> np.ndarray:
    """The new part, `[n]` or `[n, channels]`, where the model draws a sound `[m]` at 16 kHz as loud as the file's."""
    path = folder / "talk.wav"
    soundfile.write(path, old, rate, subtype=subtype)
    prompt = prompt_of(path, seconds=seconds, new_only=True)
    codes = TOKENIZER.encode(drawn[: prompt.num_frames * FRAME] * prompt.gain)
    assert codes.shape[1] == prompt.num_frames, "more has to be drawn"
    result = prompt.complete(TOKENIZER.delay(codes))
    return soundfile.read(io.BytesIO(result.files[".wav"]))[0]


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


@pytest.mark.parametrize("shift_ms", [-6, -5, -2, 0, 2, 5, 6])
def test_periods_meet(tmp_path: Path, shift_ms: float) -> None:
    """A low voice of 80 Hz, whose period is 12.5 ms, goes on in step wherever in its period the new sound begins."""
    shift, length = round(shift_ms * RATE / 1000), 16_208
    sound = hum(3.2, hz=80)
    old = sound[1000 : 1000 + length]
    new = joined(tmp_path, old, sound[1000 + length + shift :])
    wanted = sound[1000 + length :][: len(new)]
    assert likeness(new, wanted) > 0.9
    assert np.std(new[-600:-200]) > 0.95 * np.std(wanted[-600:-200]), "the end fades for 10 ms only"


@pytest.mark.parametrize("shift_ms", [-12, 12])
def test_new_sound_is_moved_by_no_more_than_8_ms(tmp_path: Path, shift_ms: float) -> None:
    """A hum of 40 Hz could be met by 12 ms."""
    shift = round(shift_ms * RATE / 1000)
    sound = 0.3 * hum(3.2, hz=40)
    drawn = sound[17_000 + shift :].copy()
    drawn[8000] = 0.9
    new = joined(tmp_path, sound[1000:17_000], drawn)
    assert abs(int(np.abs(new).argmax()) - 8000) <= 128


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100])
def test_new_sound_is_in_time_at_any_rate(tmp_path: Path, rate: int) -> None:
    old, drawn = hum(1.0, sample_rate_hz=rate), hum(3.0)[16_000:]
    new = joined(tmp_path, old, drawn, rate=rate)
    wanted = hum(2.0, sample_rate_hz=rate)[rate:]
    assert len(new) == rate
    assert likeness(new, wanted) > 0.97
    assert likeness(new[: rate // 50], wanted[: rate // 50]) > 0.98


def test_new_sound_comes_in_within_20_ms_at_equal_power(tmp_path: Path) -> None:
    sound = hum(3.0)
    tone = 0.01 * np.sin(2 * np.pi * 3000 * np.arange(3 * RATE) / RATE)
    old, new = np.split(sound, [RATE])
    new, other = (joined(tmp_path, old + tone[:RATE], new + tone[RATE:] * sign) for sign in (1, -1))
    levels = np.sqrt(((new - other)[: RATE // 40].reshape(-1, RATE // 400) ** 2).mean(axis=1) * 2) / 0.02
    places = np.minimum(1, (np.arange(10) + 0.5) / 8)
    assert levels == pytest.approx(np.sin(places * np.pi / 2), abs=0.05)


@pytest.mark.parametrize(("louder", "kept"), [(5.0, 2.0), (1.6, 1.6), (1.0, 1.0), (0.6, 0.6), (0.1, 0.5)])
def test_new_sound_is_within_6_db_of_the_recording(tmp_path: Path, louder: float, kept: float) -> None:
    sound = 0.3 * hum(3.0)
    new = joined(tmp_path, sound[:RATE], louder * sound[RATE:])
    assert loudness(new, RATE) / loudness(sound[:RATE], RATE) == pytest.approx(kept, rel=0.03)


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_U8", 8), ("PCM_16", 16), ("PCM_24", 24)])
def test_new_samples_are_rounded_and_never_wrap_around(tmp_path: Path, subtype: str, bits: int) -> None:
    """A recording that reaches -1, to where there is one value more than to +1, and a new part beyond both."""
    old = np.tile(np.repeat([127 / 128, -1, 0], [128, 127, 1]), 60)
    drawn = 3 * np.sin(2 * np.pi * 1000 * np.arange(2 * RATE) / RATE)
    exact = joined(tmp_path, old, drawn)
    assert exact.max() == pytest.approx(1)
    rounded = joined(tmp_path, old, drawn, subtype=subtype)
    step = 2.0 ** (1 - bits)
    assert np.abs(rounded - np.minimum(exact, 1 - step)).max() <= 0.5001 * step + 1e-7


def test_a_recording_is_cut_at_the_nearest_sample(tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    soundfile.write(path, voice(1.0), RATE)
    assert prompt_of(path, from_seconds=0.30004, seconds=1.0).end == 4801
    for seconds, num_new in ((0.57, 9120), (0.10004, 1601), (0.10003, 1600)):
        prompt = prompt_of(path, seconds=seconds, new_only=True)
        codes = np.full((FRAME, prompt.num_frames), 1 << 15)
        assert prompt.complete(TOKENIZER.delay(codes)).summary["samples"] == num_new


def test_five_seconds_are_added_if_nothing_is_said(tmp_path: Path) -> None:
    sound = hum(7.0)
    path = tmp_path / "talk.wav"
    soundfile.write(path, sound[:RATE], RATE)
    assert prompt_of(path).num_new == 5 * RATE


def test_a_recording_heard_from_its_beginning_begins_with_the_begin_token(tmp_path: Path) -> None:
    """200 frames are heard, which are 8 seconds."""
    path = tmp_path / "talk.wav"
    for seconds, begins in ((1.0, True), (8.0, True), (8.1, False)):
        soundfile.write(path, voice(seconds), RATE)
        prompt = prompt_of(path, seconds=1.0)
        assert (prompt.tokens[:, 0] == TOKENIZER.begin).all() == begins
        assert prompt.tokens.shape[1] == begins + prompt.codes.shape[1]


@pytest.mark.parametrize("noise", [0, 1e-4])
@pytest.mark.parametrize(("rate", "own_rate"), [(8000, 8000), (16_000, 16_000), (16_000, 8000), (48_000, 8000)])
def test_a_periodic_sound_is_extended_by_itself(rate: int, own_rate: int, noise: float) -> None:
    """Also where only the lower part of its band has anything in it, as after a telephone or in an MP3 file."""
    noises = noise * np.random.default_rng(0).standard_normal(2 * own_rate)
    sound = resample(hum(2.0, sample_rate_hz=own_rate) + noises, own_rate, rate)
    count = rate // 50
    rings = extend(sound[:rate].astype(np.float32), count, sample_rate_hz=rate)
    assert len(rings) == count
    assert likeness(rings, sound[rate : rate + count]) > 0.97


def test_noise_is_not_extended_to_more_than_there_was() -> None:
    noise = np.random.default_rng(0).standard_normal(RATE)
    assert np.abs(extend(noise, 8000, sample_rate_hz=RATE)).max() < np.abs(noise).max()
    assert (extend(np.zeros(RATE), 100, sample_rate_hz=RATE) == 0).all()


def test_the_lag_is_where_sounds_are_alike_however_loud() -> None:
    random = np.random.default_rng(0)
    wanted = random.standard_normal(200)
    for place in (0, 37, 100):
        sound = 3 * random.standard_normal(300)
        sound[place : place + 200] = 0.1 * wanted
        assert best_lag(wanted, sound) == place
        sound[place : place + 200] *= -1
        assert best_lag(wanted, sound) != place, "upside down is not alike"
    assert best_lag(wanted, np.zeros(300)) in range(101)


def test_a_cross_fade_keeps_the_power_of_sounds_that_have_nothing_in_common() -> None:
    ones, zeros = np.ones((320, 2)), np.zeros((320, 2))
    before, after = cross_fade(ones, zeros), cross_fade(zeros, ones)
    assert before**2 + after**2 == pytest.approx(ones)
    assert after == pytest.approx(before[::-1]), "it is the same backwards"
    assert (np.diff(after, axis=0) > 0).all()
    assert after[[0, -1], 0] == pytest.approx([0, 1], abs=0.01)
    assert cross_fade(np.full(9, 2.0), np.full(9, 2.0))[4] == pytest.approx(2 * np.sqrt(2))


def test_a_fade_ends_in_nothing_and_leaves_what_is_before() -> None:
    samples = np.ones((1000, 2))
    fade_out(samples, 160)
    assert (samples[:840] == 1).all()
    assert samples[-1] == pytest.approx(0)
    assert (np.diff(samples[839:], axis=0) < 0).all()
    assert samples[919] == pytest.approx(0.5, abs=0.02)


def test_the_level_is_that_of_the_channel_in_which_the_recording_is_loudest() -> None:
    sound = voice(1.0)
    old = np.stack([0.1 * sound, sound], axis=1)
    for new, gain in [((0.1, 1), 1), ((9, 1), 1), ((1, 4), 0.5), ((1, 0.125), 4)]:
        assert level_gain(sound[:, None] * np.array(new), old, sample_rate_hz=RATE) == pytest.approx(gain, rel=0.01)


class TestLimit:
    """A tone of which 5 ms are too loud, in one channel; what it is multiplied by is seen in the other, a constant."""

    @staticmethod
    def gains(loud_from: int, *, peak: float = 2.0) -> np.ndarray:
        samples = np.full((4000, 2), 0.25)
        samples[loud_from : loud_from + 80, 0] = peak
        loud = samples[:, 0].copy()
        limit(samples, np.array([1.0, 0.5]), sample_rate_hz=RATE)
        assert np.abs(samples[:, 0]).max() <= 1
        gains = samples[:, 1] / 0.25
        if loud_from > 200:
            assert samples[:, 0] == pytest.approx(gains * loud), "channels differ, or what was too loud is cut off"
        return gains

    def test_it_turns_down_what_is_around_a_peak_and_little_else(self) -> None:
        gains = self.gains(2000)
        assert gains[2000:2080].max() <= 0.5
        assert gains.min() == pytest.approx(0.5, abs=0.02)
        assert (gains[: 2000 - 240] == 1).all()
        assert (gains[2080 + 240 :] == 1).all()

    def test_it_does_so_smoothly(self) -> None:
        gains = self.gains(2000)
        assert np.abs(np.diff(gains)).max() < 0.008
        assert np.abs(gains[2040 - 300 : 2040] - gains[2040 : 2040 + 300][::-1]).max() < 0.06, "ahead as behind"

    def test_it_sets_in_gradually_after_the_join(self) -> None:
        gains = self.gains(32)
        assert gains[:8] == pytest.approx(1)
        assert np.abs(np.diff(gains)).max() < 0.02
        assert gains[48:112].max() < 0.6

    def test_what_has_room_stays(self) -> None:
        assert (self.gains(2000, peak=0.99) == 1).all()
