"""What continuing a recording promises, whatever the model says: its samples stay, and exactly so many are added."""

from __future__ import annotations

import io
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from matplotlib.figure import Figure
from voices import hum, voice

from adaptgen.checkpoint import Checkpoint
from adaptgen.config import ModelConfig
from adaptgen.continuation import continue_file
from adaptgen.domains import get
from adaptgen.domains.base import ContinuationRequest
from adaptgen.domains.speech.codecs import load_codec
from adaptgen.domains.speech.sound import _name_of, loudness, open_sound
from adaptgen.domains.speech.tokenizer import SpeechTokenizer
from adaptgen.errors import InputFileError, UsageError
from adaptgen.model import Transformer
from adaptgen.sampling import Sampling

CORPORA = os.environ.get("ADAPTGEN_TEST_DATA")
FORMS = [
    # suffix, subtype, sample rate, channels
    (".wav", "PCM_16", 16_000, 1),
    (".wav", "PCM_16", 44_100, 2),
    (".wav", "PCM_U8", 8_000, 1),
    (".wav", "PCM_24", 48_000, 1),
    (".wav", "PCM_32", 22_050, 1),
    (".wav", "FLOAT", 192_000, 1),
    (".wav", "DOUBLE", 11_025, 2),
    (".wav", "ULAW", 8_000, 1),
    (".flac", "PCM_16", 44_100, 1),
    (".flac", "PCM_24", 32_000, 8),
    (".aiff", "PCM_S8", 16_000, 1),
    (".aiff", "PCM_16", 37_000, 1),
]


@cache
def random_speaker(window: int = 48) -> Checkpoint:
    """Random weights: every code is about as likely as any other."""
    tokenizer = SpeechTokenizer(load_codec())
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = ModelConfig(num_layers=2, num_heads=2, model_dim=16, attention_window=window)
        return Checkpoint(get("speech"), tokenizer, Transformer(config, tokenizer.vocab_sizes).eval())


def continued(
    path: Path, *, kind: str = ".wav", seed: int = 0, variations: int = 1, window: int = 48, **request: object
) -> list[bytes]:
    asked = ContinuationRequest(**request)
    results = continue_file(path, random_speaker(window), asked, Sampling(), seed=seed, variations=variations)
    return [result.files[kind] for result in results]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that would have been saved."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    return figures


def write(path: Path, samples: np.ndarray, rate: int, subtype: str | None = None) -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def read(data: bytes | Path, dtype: str = "int32") -> tuple[np.ndarray, soundfile.SoundFile]:
    with soundfile.SoundFile(io.BytesIO(data) if isinstance(data, bytes) else data) as file:
        return file.read(file.frames, dtype=dtype, always_2d=True), file


@pytest.mark.parametrize(("suffix", "subtype", "rate", "channels"), FORMS)
@pytest.mark.parametrize("seconds", [0.02, 0.5124])
def test_samples_stay_and_exactly_so_many_are_added(
    tmp_path: Path, suffix: str, subtype: str, rate: int, channels: int, seconds: float
) -> None:
    balance = np.linspace(1, 0.3, channels)
    path = write(tmp_path / f"talk{suffix}", voice(0.83, sample_rate_hz=rate)[:, None] * balance, rate, subtype)
    dtype = {"FLOAT": "float32", "DOUBLE": "float64"}.get(subtype, "int32")
    (result,) = continued(path, kind=suffix, seconds=seconds, seed=3)
    old, before = read(path, dtype)
    new, after = read(result, dtype)
    assert (after.samplerate, after.channels, after.subtype, after.format) == (
        rate,
        channels,
        subtype,
        before.format,
    )
    assert (new[: len(old)] == old).all()
    assert len(new) - len(old) == round(seconds * rate)
    (alone,) = continued(path, kind=suffix, seconds=seconds, seed=3, new_only=True)
    assert (read(alone, dtype)[0] == new[len(old) :]).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sound", [hum(1.0), voice(1.3), voice(2.0, seed=5)], ids=["hum", "short", "long"])
def test_the_join_does_not_click_and_the_level_stays(tmp_path: Path, sound: np.ndarray, seed: int) -> None:
    path = write(tmp_path / "talk.wav", sound, 16_000, "FLOAT")
    (result,) = continued(path, seconds=1.5, seed=seed)
    samples, _ = read(result, "float64")
    samples, join = samples[:, 0], len(sound)
    steps = np.abs(np.diff(samples))
    assert steps[join - 1 : join + 2].max() <= 1.05 * steps[:join].max()
    new = samples[join:]
    assert np.abs(new).max() <= 0.9901
    ratio = loudness(new, 16_000) / loudness(sound, 16_000)
    assert 0.45 < ratio < 2.2, "more than 6 dB from the recording"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "sound",
    [voice(1.3), voice(2.0, seed=5), np.tanh(10 * voice(1.3)), hum(1.01)],
    ids=["short", "long", "compressed", "hum"],
)
def test_a_recording_at_full_scale_goes_on_as_loud_as_a_soft_one(tmp_path: Path, sound: np.ndarray, seed: int) -> None:
    full_scale, ratios = sound / np.abs(sound).max(), []
    for scale in (0.1, 1.0):
        path = write(tmp_path / "talk.wav", scale * full_scale, 16_000, "FLOAT")
        samples = read(continued(path, seconds=2.0, seed=seed)[0], "float64")[0][:, 0]
        new = samples[len(sound) :]
        ratios.append(loudness(new, 16_000) / loudness(scale * full_scale, 16_000))
        assert np.abs(new).max() <= 1
        steps = np.abs(np.diff(samples))
        assert steps[len(sound) - 1 : len(sound) + 2].max() <= 1.05 * steps[: len(sound)].max()
    assert ratios[1] > 0.7 * ratios[0], "3 dB are lost to the peaks"


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_one_word_after_a_long_pause_goes_on_as_loud_as_it_is(tmp_path: Path, noise: float) -> None:
    word = 2 * voice(0.5)
    sound = np.concatenate([np.zeros(12 * 16_000), word, np.zeros(16_000)])
    sound += noise * np.random.default_rng(0).standard_normal(len(sound))
    path = write(tmp_path / "word.wav", sound, 16_000)
    samples, _ = read(continued(path, window=384, seconds=3.0)[0], "float64")
    ratio = loudness(samples[len(sound) :, 0], 16_000) / loudness(word, 16_000)
    assert 0.4 < ratio < 2.5, "more than 6 dB from the word, and what the pauses take of it"


@pytest.mark.parametrize(("offset", "scale"), [(0.3, 0.2), (0.8, 0.6), (-0.8, 0.6)])
def test_an_offset_is_no_loudness(tmp_path: Path, offset: float, scale: float) -> None:
    sound = scale * voice(1.3)
    path = write(tmp_path / "talk.wav", np.stack([sound + offset, 0.5 * sound], axis=1), 16_000, "FLOAT")
    samples, _ = read(continued(path, seconds=1.5)[0], "float64")
    old, new = samples[: len(sound)], samples[len(sound) :]
    assert np.abs(new).max() <= 0.9901
    steady = old.mean(axis=0)
    for channel in range(2):
        ratio = loudness((new - steady)[:, channel], 16_000) / loudness((old - steady)[:, channel], 16_000)
        assert 0.4 < ratio < 2.2, "more than 6 dB from the recording, and what the limit of the peak takes"
    assert new[-400:].mean(axis=0) == pytest.approx(steady, abs=0.05)


def test_the_end_does_not_click(tmp_path: Path) -> None:
    """Wherever it is cut, the sound ends at rest, which is where the recording's own offset is."""
    for seconds in (0.02, 0.5, 1.0):
        path = write(tmp_path / "talk.wav", hum(1.0) + 0.1, 16_000, "FLOAT")
        samples, _ = read(continued(path, seconds=seconds)[0], "float64")
        new = np.abs(samples[16_000:, 0] - samples[:16_000, 0].mean())
        assert new[-1] < 1e-3
        assert new[-16:].max() < 0.1 * new.max()
        assert new[: len(new) // 2].max() > 0.01, "all of it has faded"


def test_streams_that_are_not_heard_leave_no_trace(tmp_path: Path) -> None:
    path = write(tmp_path / "talk.wav", voice(1.0), 16_000)
    random = np.random.default_rng(0)
    for heard in (3, 10):
        tokenizer = SpeechTokenizer(load_codec(), heard_codebooks=heard)
        prompt = get("speech").read_prompt(path, tokenizer, ContinuationRequest(seconds=0.5), window=48)
        first, second = (
            np.stack([random.integers(size, size=prompt.num_frames) for size in tokenizer.codec.codebook_sizes])
            for _ in range(2)
        )
        second[:3] = first[:3]
        results = [prompt.complete(tokenizer.delay(codes)).files[".wav"] for codes in (first, second)]
        assert (results[0] == results[1]) == (heard == 3)


def test_channels_keep_their_balance(tmp_path: Path) -> None:
    sound = voice(1.5)
    for balance in ([1.0, 0.25], [0.0, 1.0], [1.0, -1.0], [-0.5, 1.0]):
        path = write(tmp_path / "talk.wav", sound[:, None] * np.array(balance), 16_000, "FLOAT")
        samples, _ = read(continued(path, seconds=1.0)[0], "float64")
        new = samples[len(sound) + 400 :]
        levels = np.sqrt((new**2).mean(axis=0)) * np.sign(new.T @ new[:, balance.index(1.0)])
        assert levels / levels.max() == pytest.approx(balance, abs=0.05), "or a channel has turned upside down"


def test_the_seed_decides(tmp_path: Path) -> None:
    path = write(tmp_path / "talk.wav", voice(1.0), 16_000)
    first = continued(path, seconds=1, seed=7, variations=3)
    assert first == continued(path, seconds=1, seed=7, variations=3)
    assert len(set(first)) == 3
    assert first[0] != continued(path, seconds=1, seed=8)[0]


def test_a_recording_can_be_cut_first(tmp_path: Path) -> None:
    path = write(tmp_path / "talk.wav", voice(2.0), 16_000)
    write(tmp_path / "cut.wav", soundfile.read(path, stop=12_000)[0], 16_000)
    assert continued(path, from_seconds=0.75, seconds=0.5) == continued(tmp_path / "cut.wav", seconds=0.5)


def test_more_than_the_window_goes_on(tmp_path: Path) -> None:
    """48 frames are 1.9 seconds; neither a longer recording nor a longer continuation is any different."""
    path = write(tmp_path / "talk.wav", voice(5.0, sample_rate_hz=8000), 8000)
    samples, _ = read(continued(path, seconds=4.0)[0])
    assert len(samples) == 9 * 8000
    assert np.abs(samples[5 * 8000 :]).max() > 0


@pytest.mark.parametrize("suffix", [".ogg", ".mp3"])
def test_lossy_files_are_not_coded_again(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"talk{suffix}", voice(1.0, sample_rate_hz=44_100), 44_100)
    old, _ = read(path, "float32")
    samples, result = read(continued(path, seconds=0.3)[0], "float32")
    assert (result.format, result.subtype) == ("WAV", "FLOAT")
    assert (samples[: len(old)] == old).all()
    assert len(samples) == len(old) + 13_230


def test_a_long_lossy_file_stays_to_its_last_sample(tmp_path: Path) -> None:
    """It is longer than what is read at once, and after a jump an MP3 decoder gives other samples."""
    path = write(tmp_path / "talk.mp3", voice(140.0, sample_rate_hz=8000), 8000)
    old, _ = read(path, "float32")
    samples, _ = read(continued(path, seconds=0.3)[0], "float32")
    assert (samples[: len(old)] == old).all()


def test_a_file_that_can_only_be_read_from_its_beginning_goes_on(tmp_path: Path) -> None:
    path = write(tmp_path / "call.wav", voice(5.0, sample_rate_hz=8000), 8000, "GSM610")
    old, _ = read(path, "float32")
    for request, kept in (({}, len(old)), ({"from_seconds": 3.0}, 24_000)):
        samples, _ = read(continued(path, seconds=0.3, **request)[0], "float32")
        assert (samples[:kept] == old[:kept]).all()
        assert len(samples) == kept + 2400


@pytest.mark.parametrize(("suffix", "title"), [(".wav", "A talk"), (".flac", "A talk"), (".au", ""), (".w64", "")])
def test_a_title_stays_where_the_format_has_one(tmp_path: Path, suffix: str, title: str) -> None:
    with soundfile.SoundFile(tmp_path / "talk.wav", "w", 16_000, 1, "PCM_16") as file:
        file.title = "A talk"
        file.write(voice(1.0))
    (result,) = continued(tmp_path / "talk.wav", kind=suffix, suffix=suffix, seconds=0.3)
    assert (read(result)[0][:16_000] == read(tmp_path / "talk.wav")[0]).all()
    with soundfile.SoundFile(io.BytesIO(result)) as file:
        assert file.title == title


def test_a_long_silence_at_the_end_is_named_with_the_place_before_it(tmp_path: Path) -> None:
    """48 frames are heard, 1.92 s."""
    sound = np.concatenate([voice(1.5), np.zeros(16_000 * 3)])
    path = write(tmp_path / "talk.wav", sound + 0.1, 16_000)
    with pytest.raises(InputFileError) as error:
        continued(path, seconds=0.3)
    assert "the last 1.9 s of" in str(error.value)
    assert "Give --from-seconds 1.50" in str(error.value)
    assert len(read(continued(path, seconds=0.3, from_seconds=1.5)[0])[0]) == 24_000 + 4800


@pytest.mark.parametrize("name", ["talk.wav", "$a_$b$.wav", "voix \u8a9e.wav", os.fsdecode(b"gr\xfc\xdfe.wav")])
def test_a_picture_is_drawn_whatever_the_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(write(tmp_path / "talk.wav", voice(1.0), 16_000).read_bytes())
    assert continued(tmp_path / name, kind=".png", seconds=0.3, picture=True)[0].startswith(b"\x89PNG")


@pytest.mark.parametrize(("new_only", "start", "join", "end"), [(False, 3.08, 5, 5.5), (True, 0, 0, 0.5)])
def test_a_picture_has_the_times_of_the_result(
    tmp_path: Path, drawn: list[Figure], new_only: bool, start: float, join: float, end: float
) -> None:
    """Of the 5 s that are there, 48 frames are heard and drawn, 1.92 s."""
    path = write(tmp_path / "talk.wav", voice(5.0, sample_rate_hz=8000), 8000)
    continued(path, kind=".png", seconds=0.5, picture=True, new_only=new_only)
    (axes,) = drawn[0].axes
    assert drawn[0].get_suptitle() == "talk.wav"
    assert axes.images[0].get_extent()[:2] == pytest.approx([start, end])
    assert axes.lines[0].get_xdata()[0] == pytest.approx(join)


def test_a_picture_shows_channels_that_cancel_each_other(tmp_path: Path, drawn: list[Figure]) -> None:
    path = write(tmp_path / "talk.wav", hum(1.0)[:, None] * [1.0, -1.0], 16_000, "FLOAT")
    continued(path, kind=".png", seconds=0.5, picture=True)
    (image,) = drawn[0].axes[0].images
    decibels = image.get_array()
    old = decibels[:, : decibels.shape[1] // 2]
    assert old.max() > image.get_clim()[1] - 12, "it is as bright as what is new"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"bars": 3}, "--bars says nothing about speech"),
        ({"words": 3}, "--words says nothing about speech"),
        ({"seconds": 0.0}, "--seconds is 0.0"),
        ({"seconds": float("nan")}, "--seconds is nan"),
        ({"seconds": 1e9}, "--seconds is 1000000000.0"),
        ({"seconds": 1e-9}, "less than a sample"),
        ({"from_seconds": 3.0}, "--from-seconds is 3.0"),
        ({"suffix": ".mp3"}, "a .mp3 file would not hold the recording as it is"),
        ({"suffix": ".flac"}, "cannot hold the samples"),
    ],
)
def test_senseless_requests_are_refused(tmp_path: Path, request_: dict[str, object], expected: str) -> None:
    path = write(tmp_path / "talk.wav", voice(1.0), 16_000, "FLOAT")
    with pytest.raises(UsageError) as error:
        continued(path, **request_)
    assert expected in str(error.value)


def bad_files(folder: Path) -> dict[str, str]:
    """Writes files that cannot be continued; what is said about each."""
    good = voice(1.0)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("This is no sound.\n" * 50)
    (folder / "folder.wav").mkdir()
    write(folder / "one.wav", good[:1], 16_000)
    write(folder / "none.wav", good[:0], 16_000)
    write(folder / "silent.wav", 0 * good, 16_000)
    write(folder / "offset.wav", 0 * good + 0.25, 16_000, "FLOAT")
    for name, value in (("nan", np.nan), ("infinite", np.inf)):
        spoiled = good.copy()
        spoiled[8000] = value
        write(folder / f"{name}.wav", spoiled, 16_000, "FLOAT")
    header = write(folder / "header.wav", good, 16_000).read_bytes()[:30]
    (folder / "header.wav").write_bytes(header)
    whole = write(folder / "cut.flac", good, 16_000).read_bytes()
    (folder / "cut.flac").write_bytes(whole[: len(whole) // 2])
    return {
        "missing.wav": "cannot be read: No such file",
        "empty.wav": "is empty",
        "text.wav": "is no sound that can be read",
        "folder.wav": "is a folder",
        "one.wav": "has 1 sample, less than 0.1 s",
        "none.wav": "has 0 samples, less than 0.1 s",
        "silent.wav": "is silent",
        "offset.wav": "is silent",
        "nan.wav": "has samples that are not numbers at 0.50 s",
        "infinite.wav": "has samples that are not numbers at 0.50 s",
        "header.wav": "is no sound that can be read",
        "cut.flac": "cut off or damaged",
    }


def test_bad_files_are_one_sentence(tmp_path: Path) -> None:
    for name, expected in bad_files(tmp_path).items():
        with pytest.raises(InputFileError) as error:
            continued(tmp_path / name, seconds=0.2)
        assert name in str(error.value)
        assert expected in str(error.value) or "cannot be read" in str(error.value), error.value


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "talk.wav", voice(0.2), 16_000)
    with soundfile.SoundFile(tmp_path / "huge.flac", "w", 16_000, 1) as file:
        for _ in range(15 * 60):
            file.write(np.zeros(16_000 * 17, dtype=np.int16))
    with pytest.raises(InputFileError, match=r"lasts 4\.2 hours, more than 4"):
        continued(tmp_path / "huge.flac", kind=".flac")
    assert path.exists()


def test_odd_recordings_go_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    good = voice(1.0)
    odd = {
        "clipped": np.clip(good * 20, -1, 1),
        "offset": good + 0.4,
        "noise": rng.uniform(-1, 1, 16_000),
        "soft": good * 1e-3,
        "click": np.eye(1, 16_000, 8000)[0],
    }
    for name, samples in odd.items():
        path = write(tmp_path / f"{name}.wav", samples, 16_000, "PCM_16")
        old, _ = read(path)
        new, _ = read(continued(path, seconds=0.4)[0])
        assert (new[:16_000] == old).all()
        assert len(new) == 16_000 + 6400


@pytest.mark.skipif(CORPORA is None, reason="ADAPTGEN_TEST_DATA names no folder of corpora")
@pytest.mark.parametrize("corpus", ["kathleen", "speechocean762", "asterisk_en", "fsdd", "ljspeech_sample"])
def test_held_out_recordings_go_on(corpus: str) -> None:
    for path in sorted((Path(CORPORA) / "speech" / corpus / "test").glob("*.flac"))[:2]:
        old, _ = read(path)
        new, _ = read(continued(path, kind=".flac", seconds=0.5)[0])
        assert (new[: len(old)] == old).all()
        assert len(new) == len(old) + 8000


def test_a_recording_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "\u58f0 \xe9.wav"
    soundfile.write(str(path), np.ones(16_000, dtype=np.float32) / 2, 16_000)
    assert len(open_sound(path).read_float()) == 16_000
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        name = _name_of(path)
    assert name == str(path)
