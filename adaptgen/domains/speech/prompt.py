"""A recording to be continued: reading it, and joining what was drawn to what was there."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import soundfile

from adaptgen.domains.base import Continuation, ContinuationRequest, Prompt
from adaptgen.domains.speech.codec import Codec
from adaptgen.domains.speech.codecs import load_codec
from adaptgen.domains.speech.grammar import SpeechGrammar
from adaptgen.domains.speech.sound import (
    SHORTEST_SECONDS,
    SoundFile,
    heard_channel,
    mix_down,
    open_sound,
    read_mono,
    resample,
)
from adaptgen.domains.speech.splice import best_lag, cross_fade, extend, fade_out, level_gain, limit
from adaptgen.domains.speech.timbre import match_timbre
from adaptgen.domains.speech.tokenizer import SpeechTokenizer
from adaptgen.errors import CheckpointError, InputFileError, UsageError
from adaptgen.paths import printable

__all__ = ["SpeechPrompt", "result_suffix"]

KNOWN = ("seconds", "from_seconds", "picture", "codec")
DEFAULT_SECONDS = 5.0
MAX_SECONDS = 3600.0
FADE_SECONDS = 0.02
LAST_FADE_SECONDS = 0.01
"""Of the result, which may end in the middle of a vowel."""
LAG_SECONDS = 0.008
"""How far new sound may be moved so that its periods meet the recording's: half a period of a low voice."""
PEAK = 0.99
"""What new sound stays below where the recording does; full scale is 1."""
RUN_UP_SECONDS = 0.05
"""Of the codec's sound before the join, resampled with the rest, since resamplers begin softly."""
LARGEST_BYTES = 700_000_000
"""Of the samples of a recording and its continuation: an hour of 16 bits in stereo at 48 kHz."""
FORMATS = {".wav": "WAV", ".flac": "FLAC", ".aif": "AIFF", ".aiff": "AIFF", ".aifc": "AIFF", ".au": "AU"}
FORMATS |= {".caf": "CAF", ".w64": "W64"}
"""What can hold samples as they are, by suffix."""
PRECISIONS = {"int16": "PCM_16", "int32": "PCM_24", "float32": "FLOAT", "float64": "DOUBLE"}
STEPS = {"PCM_S8": 1 << 8, "PCM_U8": 1 << 8, "PCM_24": 1 << 8, "ALAC_24": 1 << 8, "ALAC_20": 1 << 12}
"""How far apart the values of a sample type are in soundfile's next larger one."""
CHANNEL_FLOOR = 1e-4


def result_suffix(path: Path, request: ContinuationRequest) -> str:
    """Suffix of the result: the recording's own, or .wav where that stands for lossy formats.

    Raises:
        UsageError: the user named a format that changes what it holds.
    """
    if request.suffix is not None and request.suffix not in FORMATS:
        raise UsageError(
            f"a {request.suffix} file would not hold the recording as it is", f"Give one of {', '.join(FORMATS)}"
        )
    return request.suffix or (path.suffix if path.suffix.lower() in FORMATS else ".wav")


class SpeechPrompt(Prompt):
    """One recording and what is to be added to it.

    Args:
        path: the file.
        tokenizer: of the model.
        request: how much to add, from where.
        window: how many of the prompt's last frames will be looked at.
    """

    def __init__(self, path: Path, tokenizer: SpeechTokenizer, request: ContinuationRequest, *, window: int) -> None:
        self.tokenizer, self.request = tokenizer, request
        self.codec = tokenizer.codec if request.codec is None else _another(tokenizer.codec, request.codec)
        self.suffix = result_suffix(path, request)
        self.seconds = _seconds(request)
        self.sound = open_sound(path)
        self.end = _end(self.sound, request)
        self.num_new = round(self.seconds * self.sound.sample_rate_hz)
        if self.num_new < 1:
            raise UsageError(f"--seconds is {self.seconds}, less than a sample", "Give more")
        self.subtype = _subtype(self.sound, self.suffix)
        _check_size(self.sound, 0 if request.new_only else self.end, self.num_new)
        self.sound.check(self.end)
        heard = math.ceil(window * self.codec.frame_samples / self.codec.sample_rate_hz * self.sound.sample_rate_hz)
        self.start = max(0, self.end - heard)
        samples, self.gain = read_mono(
            self.sound, sample_rate_hz=self.codec.sample_rate_hz, start=self.start, stop=self.end
        )
        # Frames are counted back from the join, so that new ones begin there.
        lacking = -len(samples) % self.codec.frame_samples
        self.samples = np.concatenate([np.zeros(lacking, dtype=np.float32), samples])
        self.codes = tokenizer.encode(self.samples)
        # One more than is asked for, out of which the join is moved.
        self.num_frames = 1 + math.ceil(self.seconds * self.codec.frames_per_second)

    @property
    def tokens(self) -> np.ndarray:
        whole = self.tokenizer.document(self.codes)
        length = 1 + self.codes.shape[1]
        return whole[:, 0 if self.start == 0 else 1 : length]

    def new_grammar(self) -> SpeechGrammar:
        return SpeechGrammar(self.tokenizer, self.codes, self.num_frames)

    def complete(self, new_tokens: np.ndarray, *, seed: Sequence[int] = (0, 0)) -> Continuation:
        codes = self.tokenizer.undelay(new_tokens)
        before = self.sound.read_float(self.start, self.end)
        new = self._new_sound(codes, before)
        content = self._write(new)
        files = {self.suffix: content}
        if self.request.picture:
            files[".png"] = self._draw(before, new)
        return Continuation(
            files=files,
            summary={
                "seconds": len(new) / self.sound.sample_rate_hz,
                "samples": len(new),
                "sample_rate_hz": self.sound.sample_rate_hz,
                "channels": self.sound.num_channels,
                "sample_format": self.subtype,
            },
        )

    def _draw(self, before: np.ndarray, new: np.ndarray) -> bytes:
        """A picture of `[n, channels]` which was heard and `[m, channels]` which is new, or of the latter alone."""
        from adaptgen.domains.speech.picture import draw_spectrogram

        shown, start, join = np.concatenate([before, new]), self.start, self.end
        if self.request.new_only:
            shown, start, join = new, 0, 0
        return draw_spectrogram(
            mix_down(shown, heard_channel([before])),
            self.sound.sample_rate_hz,
            start_seconds=start / self.sound.sample_rate_hz,
            join_seconds=join / self.sound.sample_rate_hz,
            title=printable(self.sound.path.name),
        )

    def _new_sound(self, codes: np.ndarray, before: np.ndarray) -> np.ndarray:
        """What comes after the join, float64 `[num_new, channels]`, for `before` `[n, channels]` which it follows."""
        rate, own_rate = self.codec.sample_rate_hz, self.sound.sample_rate_hz
        heard = np.concatenate([self.codes, codes], axis=1)[: self.tokenizer.heard_codebooks]
        decoded = self.codec.decode(heard)
        join, margin = len(self.samples), int(LAG_SECONDS * rate)
        run_up = min(join - margin, int(RUN_UP_SECONDS * rate))
        ringing = extend(self.samples, int(FADE_SECONDS * rate), sample_rate_hz=rate)
        lag = best_lag(ringing, decoded[join - margin : join + margin + len(ringing)])
        start = join - margin + lag
        matched = match_timbre(decoded, join, self.samples, sample_rate_hz=rate).astype(np.float32)
        mono = resample(matched[start - run_up :], rate, own_rate)[round(run_up * own_rate / rate) :]
        assert len(mono) >= self.num_new, "a frame more was drawn than is needed"
        mono = mono[: self.num_new].astype(np.float64) / self.gain
        offsets = before.mean(axis=0, dtype=np.float64)
        old = before - offsets
        new = mono[:, None] * self._balance(old, heard_channel([before]))
        fade_out(new, min(self.num_new // 2, int(LAST_FADE_SECONDS * own_rate)))
        fade = min(self.num_new, int(FADE_SECONDS * own_rate))
        nothing = np.zeros(fade)
        new[:fade] = cross_fade(nothing[:, None], new[:fade])
        new *= level_gain(new, old, sample_rate_hz=own_rate)
        for channel in range(self.sound.num_channels):
            rings = extend(old[:, channel], fade, sample_rate_hz=own_rate)
            new[:fade, channel] += cross_fade(rings, nothing)
        room = np.maximum(PEAK, np.abs(before).max(axis=0)) - np.abs(offsets)
        limit(new, np.maximum(room, CHANNEL_FLOOR), sample_rate_hz=own_rate)
        # What is steady in a channel goes on in it.
        return new + offsets

    def _balance(self, old: np.ndarray, channel: int | None) -> np.ndarray:
        """How loud each channel `[n, channels]` without its offset is, as a share of what the codec heard.

        It is negative where a channel goes down as `channel`, or the mean of all, goes up.
        """
        heard = np.sqrt((self.samples.astype(np.float64) ** 2).sum() / self.codec.sample_rate_hz) / self.gain
        powers = np.sqrt((old**2).sum(axis=0) / self.sound.sample_rate_hz)
        signs = np.where(mix_down(old, channel) @ old < 0, -1, 1)
        return signs * powers / max(heard, CHANNEL_FLOOR)

    def _write(self, new: np.ndarray) -> bytes:
        """The bytes of the result: the recording's samples as they are, then the new ones in the same form."""
        buffer = io.BytesIO()
        with soundfile.SoundFile(
            buffer,
            "w",
            samplerate=self.sound.sample_rate_hz,
            channels=self.sound.num_channels,
            format=FORMATS[self.suffix.lower()],
            subtype=self.subtype,
        ) as file:
            for name, value in self.sound.metadata.items():
                # Some formats, such as AU, hold no text.
                with suppress(soundfile.LibsndfileError):
                    setattr(file, name, value)
            if not self.request.new_only:
                for samples in self.sound.blocks(0, self.end):
                    file.write(samples)
            file.write(_as_type(new, self.sound.dtype, self.subtype))
        return buffer.getvalue()


def _another(codec: Codec, weights: Path) -> Codec:
    """A codec of the same codes."""
    another = load_codec(codec.name, weights=weights)
    if another.fingerprint != codec.fingerprint:
        raise CheckpointError(
            f"the codec in {weights} has other codes than the checkpoint has learned",
            "Fit it with `adaptgen codec fit --keep-books`",
        )
    return another


def _seconds(request: ContinuationRequest) -> float:
    request.refuse_others("speech", known=KNOWN, remedy="Give --seconds")
    seconds = DEFAULT_SECONDS if request.seconds is None else request.seconds
    if not (math.isfinite(seconds) and 0 < seconds <= MAX_SECONDS):
        raise UsageError(f"--seconds is {seconds}", f"Give a number above 0 and up to {MAX_SECONDS:.0f}")
    return seconds


def _end(sound: SoundFile, request: ContinuationRequest) -> int:
    """The frame of the file at which the new part begins."""
    if request.from_seconds is None:
        return sound.num_frames
    if not SHORTEST_SECONDS <= request.from_seconds <= sound.seconds:
        raise UsageError(
            f"--from-seconds is {request.from_seconds}, and {sound.path} lasts {sound.seconds:.2f} s",
            f"Give a time from {SHORTEST_SECONDS} on",
        )
    return min(sound.num_frames, round(request.from_seconds * sound.sample_rate_hz))


def _subtype(sound: SoundFile, suffix: str) -> str:
    """How samples are written so that they stay what they are.

    Raises:
        UsageError: that kind of file has no way to.
    """
    is_kept = sound.subtype.startswith(("PCM_", "ALAC_")) or sound.subtype in ("FLOAT", "DOUBLE", "ULAW", "ALAW")
    fits = [sound.subtype] if is_kept else []
    fits += [PRECISIONS[sound.dtype]] if sound.subtype not in ("PCM_32", "ALAC_32") else ["PCM_32"]
    for subtype in fits:
        if soundfile.check_format(FORMATS[suffix.lower()], subtype):
            return subtype
    raise UsageError(
        f"a {suffix} file cannot hold the samples of {sound.path} ({sound.subtype}) as they are", "Use -o with a .wav"
    )


def _check_size(sound: SoundFile, num_old: int, num_new: int) -> None:
    size = (num_old + num_new) * sound.num_channels * np.dtype(sound.dtype).itemsize
    if size > LARGEST_BYTES:
        raise InputFileError(
            f"{sound.path} and its continuation hold {size / 1e9:.1f} GB of samples, more than "
            f"{LARGEST_BYTES / 1e9:.1f}",
            "Cut the file, or give --new-only",
        )


def _as_type(samples: np.ndarray, dtype: str, subtype: str) -> np.ndarray:
    """Float samples rounded to what a subtype holds."""
    if dtype.startswith("float"):
        return samples.astype(dtype)
    bits = 8 * np.dtype(dtype).itemsize
    step = STEPS.get(subtype, 1)
    scale = 2 ** (bits - 1) // step
    return (np.clip(np.round(samples * scale), -scale, scale - 1) * step).astype(dtype)
