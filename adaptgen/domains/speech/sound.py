"""Sound files: what they hold, read as they are, and what a model wants of them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from adaptgen.errors import InputFileError

__all__ = [
    "NOMINAL_LEVEL",
    "SHORTEST_SECONDS",
    "SUFFIXES",
    "SoundFile",
    "heard_channel",
    "loudness",
    "mix_down",
    "open_sound",
    "read_mono",
    "resample",
]

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64")
SHORTEST_SECONDS = 0.1
LONGEST_SECONDS = 4 * 3600
BLOCK_FRAMES = 1 << 20
HIGHEST_RATE_HZ = 768_000
SILENCE = 1e-5
"""-100 dBFS: a file that never gets louder holds nothing."""
NOMINAL_LEVEL = 0.12
"""Of the loudest twentieth of a recording, where the model and the codec want it; full scale is 1."""
LEVEL_SECONDS = 0.02
LOUD_SHARE, LOUD_SHARE_OF_SPEECH = 0.05, 0.25
"""Of all frames, and of those that are no pause, which decides where speech fills less than a fifth of a recording."""
PAUSE_POWER = 0.1
"""Of the mean power, that is 10 dB below it: what is softer is a pause, as for the relative gate of ITU-R BS.1770."""
LEAST_LOUD_FRAMES = 6
"""A bump at the microphone lasts no longer."""
LEAST_MONO_SHARE = 0.1
"""If the mean of all channels has less of the loudest one's power, they cancel each other."""


@dataclass(frozen=True)
class SoundFile:
    """What a file's header says.

    Attributes:
        path: of the file.
        sample_rate_hz, num_channels, num_frames: of its samples; a frame is one sample of each channel.
        format, subtype: soundfile's names of how it is written, such as WAV and PCM_16.
        dtype: numpy's name of what its samples fit into without loss.
        metadata: title, artist and the like.
    """

    path: Path
    sample_rate_hz: int
    num_channels: int
    num_frames: int
    format: str
    subtype: str
    dtype: str
    metadata: dict[str, str]

    @property
    def seconds(self) -> float:
        return self.num_frames / self.sample_rate_hz

    def read_float(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Samples float32 `[n, channels]`, full scale 1, all of them finite.

        Raises:
            InputFileError: as of `blocks`, or a sample is not a number.
        """
        return np.concatenate(list(self.float_blocks(start, stop)))

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Samples `[n, channels]` of `dtype`, as they are, a little at a time.

        Raises:
            InputFileError: the file ends before, or is damaged there.
        """
        return self._blocks(start, stop, self.dtype)

    def float_blocks(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """What `read_float` gives, a little at a time."""
        for samples in self._blocks(start, stop, "float32"):
            bad = ~np.isfinite(samples).all(axis=1)
            if bad.any():
                place = (start + int(bad.argmax())) / self.sample_rate_hz
                raise InputFileError(
                    f"{self.path} has samples that are not numbers at {place:.2f} s", "Export it again"
                )
            yield samples
            start += len(samples)

    def check(self, stop: int | None = None) -> None:
        """Read everything once, so that what is wrong with the file is found before any work is done.

        Raises:
            InputFileError: as of `read_float`.
        """
        for _ in self.float_blocks(0, stop):
            pass

    def _blocks(self, start: int, stop: int | None, dtype: str) -> Iterator[np.ndarray]:
        stop = self.num_frames if stop is None else stop
        try:
            with _Reader(_name_of(self.path)) as file:
                place = file.jump(start) if start else 0
                while place < stop:
                    until = start if place < start else stop
                    samples = file.read(min(BLOCK_FRAMES, until - place), dtype=dtype, always_2d=True)
                    if not len(samples):
                        seconds = place / self.sample_rate_hz
                        raise InputFileError(f"{self.path} is cut off or damaged at {seconds:.2f} s", "Export it again")
                    place += len(samples)
                    if place > start:
                        yield samples
        except (OSError, RuntimeError) as error:
            raise InputFileError(f"{self.path} cannot be read: {_reason(error)}", "Export it again") from None


class _Reader(soundfile.SoundFile):
    """A file that is read on from where it is.

    soundfile seeks after each read of a file that can, and then the decoder of MP3 is not exact.
    """

    def seekable(self) -> bool:
        return False

    def jump(self, place: int) -> int:
        """Go to a frame if the file can, and tell at which one it is then."""
        return self.seek(place) if super().seekable() else 0


def open_sound(path: Path) -> SoundFile:
    """Read the header of a sound file.

    Raises:
        InputFileError: it cannot be read, is no sound, is empty, too short or too large.
    """
    try:
        if path.is_dir():
            raise InputFileError(f"{path} is a folder", "Give a sound file")
        with path.open("rb") as file:
            is_empty = not file.read(1)
    except OSError as error:
        raise InputFileError(f"{path} cannot be read: {error.strerror}", "Check the name and its permissions") from None
    if is_empty:
        raise InputFileError(f"{path} is empty", "Give a sound file")
    try:
        with soundfile.SoundFile(_name_of(path)) as file:
            found = SoundFile(
                path=path,
                sample_rate_hz=file.samplerate,
                num_channels=file.channels,
                num_frames=file.frames,
                format=file.format,
                subtype=file.subtype,
                dtype=_dtype(file.subtype),
                metadata=file.copy_metadata(),
            )
    except (OSError, RuntimeError, TypeError) as error:
        raise InputFileError(f"{path} is no sound that can be read: {_reason(error)}", "Export it as WAV") from None
    if not 1_000 <= found.sample_rate_hz <= HIGHEST_RATE_HZ:
        raise InputFileError(f"{path} has {found.sample_rate_hz} samples a second", "Resample it")
    if found.num_frames < SHORTEST_SECONDS * found.sample_rate_hz:
        count = f"{found.num_frames:,} sample{'s' * (found.num_frames != 1)}"
        raise InputFileError(f"{path} has {count}, less than {SHORTEST_SECONDS} s", "Give a longer recording")
    if found.seconds > LONGEST_SECONDS:
        hours = f"{found.seconds / 3600:.1f} hours"
        raise InputFileError(f"{path} lasts {hours}, more than {LONGEST_SECONDS // 3600}", "Cut it into shorter ones")
    return found


def _name_of(path: Path) -> str | bytes:
    """A path as soundfile opens it, whatever is in it.

    Text goes to Windows as it is, where bytes are taken for the system's code page; elsewhere soundfile encodes text,
    which fails for a name that is none.
    """
    return str(path) if os.name == "nt" else os.fsencode(path)


def _dtype(subtype: str) -> str:
    if subtype in ("PCM_24", "PCM_32", "ALAC_20", "ALAC_24", "ALAC_32"):
        return "int32"
    if subtype == "DOUBLE":
        return "float64"
    is_integer = subtype in ("PCM_S8", "PCM_U8", "PCM_16", "ALAC_16", "ULAW", "ALAW")
    return "int16" if is_integer else "float32"


def _reason(error: Exception) -> str:
    """What libsndfile says, without the file's name and its full stop."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return text.rstrip(".")


def read_mono(
    sound: SoundFile, *, sample_rate_hz: int, start: int = 0, stop: int | None = None
) -> tuple[np.ndarray, float]:
    """One channel of a stretch of a file, at another rate and at the level that codecs are made for.

    That channel is as `heard_channel` says.

    Args:
        sound: the file.
        sample_rate_hz: wanted.
        start, stop: the stretch, in frames of the file.

    Returns:
        Samples float32 `[n]`, and what they were multiplied by.

    Raises:
        InputFileError: the file cannot be read, a sample is not a number, or there is nothing but silence.
    """
    channel = heard_channel(sound.float_blocks(start, stop))
    resampler = soxr.ResampleStream(sound.sample_rate_hz, sample_rate_hz, 1, dtype="float32")
    pieces = []
    for samples in sound.float_blocks(start, stop):
        mono = mix_down(samples, channel)
        pieces.append(mono if sound.sample_rate_hz == sample_rate_hz else resampler.resample_chunk(mono))
    if sound.sample_rate_hz != sample_rate_hz:
        pieces.append(resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True))
    mono = np.concatenate(pieces)
    mono -= mono.mean()
    if not len(mono) or np.abs(mono).max() < SILENCE:
        raise _silence(sound, start, stop)
    gain = NOMINAL_LEVEL / loudness(mono, sample_rate_hz)
    return mono * np.float32(gain), gain


def _silence(sound: SoundFile, start: int, stop: int | None) -> InputFileError:
    """What to say of a silent stretch, and where the last sound before it is, if any."""
    stop = sound.num_frames if stop is None else stop
    final, last, first = sound.read_float(stop - 1, stop), 0, 0
    for samples in sound.float_blocks(0, start):
        differing = np.flatnonzero((np.abs(samples - final) > SILENCE).any(axis=1))
        if len(differing):
            last = first + int(differing[-1]) + 1
        first += len(samples)
    if not last:
        return InputFileError(f"{sound.path} is silent", "Give a recording of a voice")
    from_seconds = max(SHORTEST_SECONDS, math.ceil(100 * last / sound.sample_rate_hz) / 100)
    return InputFileError(
        f"the last {(stop - start) / sound.sample_rate_hz:.1f} s of {sound.path} are silent",
        f"Give --from-seconds {from_seconds:.2f}, which is after its last sound",
    )


def heard_channel(blocks: Iterable[np.ndarray]) -> int | None:
    """The loudest channel of samples `[n, channels]`, in blocks, if all cancel each other; None to take their mean."""
    powers, power = 0.0, 0.0
    for samples in blocks:
        powers = powers + (samples.astype(np.float64) ** 2).sum(axis=0)
        power += float((samples.mean(axis=1).astype(np.float64) ** 2).sum())
    return int(np.argmax(powers)) if power < LEAST_MONO_SHARE * np.max(powers) else None


def mix_down(samples: np.ndarray, channel: int | None) -> np.ndarray:
    """Samples `[n]` of one channel of `[n, channels]`, or the mean of all if it is None."""
    return samples.mean(axis=1) if channel is None else np.ascontiguousarray(samples[:, channel])


def resample(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Samples `[n]` or `[n, channels]` at another rate, by the SoX resampler."""
    return samples if from_hz == to_hz else soxr.resample(samples, from_hz, to_hz).astype(samples.dtype)


def loudness(samples: np.ndarray, sample_rate_hz: int) -> float:
    """RMS that the loudest twentieth of frames of 20 ms exceeds, of samples `[n]`; never zero.

    Where nearly all of them are pauses, it is what the loudest quarter of the others exceeds.
    """
    size = max(1, int(LEVEL_SECONDS * sample_rate_hz))
    whole = samples[: len(samples) // size * size] if len(samples) >= size else samples
    frames = whole.reshape(-1, size if len(samples) >= size else len(samples)).astype(np.float64)
    powers = (frames**2).mean(axis=1)
    num_speech = int((powers > PAUSE_POWER * powers.mean()).sum())
    num_loud = max(LEAST_LOUD_FRAMES, LOUD_SHARE_OF_SPEECH * num_speech)
    return float(np.quantile(np.sqrt(powers), 1 - min(LOUD_SHARE, num_loud / len(powers)))) + SILENCE
