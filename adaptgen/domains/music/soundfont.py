"""Read SoundFont 2 instruments and play single notes of them with numpy.

symusic brings a synthesiser, but it plays every velocity equally loud, knows neither filters nor release,
lets a piano of the default sound font end in half a second, and reads fonts in C++ that can end the process.
This module knows samples with their loops, key and velocity ranges, tuning, attenuation, pan, volume and
modulation envelopes, a two-pole low-pass filter and exclusive classes. It leaves out vibrato and tremolo, the
font's own modulators (velocity follows the standard's curve), reverb and chorus.

Source: SoundFont Technical Specification 2.04; initial attenuation counts 0.4 of what is written, as on the
hardware the fonts were made for and in FluidSynth. SF3 is SF2 with Ogg Vorbis samples (MuseScore).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from adaptgen.errors import InputFileError

__all__ = ["SoundFont", "Zone"]

_REMEDY = "Give a General MIDI sound font in SF2 or SF3 format, or leave the option out for the built-in one"
_DRUM_BANK = 128
_MIN_RELEASE_SECONDS, _MAX_RELEASE_SECONDS = 0.06, 8.0  # shorter clicks, longer is a mistake of the font
_LEAST_OFFSET = 0.02  # share of a sample's peak: less than this costs nothing
_OFFSET_SECONDS = 0.03  # in which an offset is taken away, for samples begin at zero

# Generator numbers of the specification (section 8.1.2).
_START, _END, _LOOP_START, _LOOP_END = 0, 1, 2, 3
_START_COARSE, _END_COARSE, _LOOP_START_COARSE, _LOOP_END_COARSE = 4, 12, 45, 50
_ENV_TO_PITCH, _CUTOFF, _RESONANCE, _ENV_TO_CUTOFF, _PAN = 7, 8, 9, 11, 17
_MOD_ENV, _VOL_ENV = 25, 33  # delay; attack, hold, decay, sustain, release, key to hold, key to decay follow
_INSTRUMENT, _KEY_RANGE, _VELOCITY_RANGE, _FIXED_KEY, _FIXED_VELOCITY = 41, 43, 44, 46, 47
_ATTENUATION, _COARSE_TUNE, _FINE_TUNE, _SAMPLE, _SAMPLE_MODES = 48, 51, 52, 53, 54
_SCALE_TUNING, _EXCLUSIVE, _ROOT_KEY, _NUM_GENERATORS = 56, 57, 58, 61
_NOT_ADDED = {_FIXED_KEY, _FIXED_VELOCITY, _SAMPLE_MODES, _EXCLUSIVE, _ROOT_KEY, _SAMPLE, _INSTRUMENT}

_DEFAULTS = np.zeros(_NUM_GENERATORS, dtype=np.int64)
_DEFAULTS[[21, 23, 25, 26, 27, 28, 30, 33, 34, 35, 36, 38]] = -12_000
_DEFAULTS[[_CUTOFF, _SCALE_TUNING]] = 13_500, 100
_DEFAULTS[[_FIXED_KEY, _FIXED_VELOCITY, _ROOT_KEY]] = -1

_HEADER = np.dtype([("name", "S20"), ("preset", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("unused", "S12")])
_INSTRUMENT_HEADER = np.dtype([("name", "S20"), ("bag", "<u2")])
_BAG = np.dtype([("generator", "<u2"), ("modulator", "<u2")])
_GENERATOR = np.dtype([("number", "<u2"), ("amount", "<i2")])
_SAMPLE_HEADER = np.dtype("S20, <u4, <u4, <u4, <u4, <u4, u1, i1, <u2, <u2")
_SAMPLE_HEADER.names = (
    "name",
    "start",
    "end",
    "loop_start",
    "loop_end",
    "rate",
    "key",
    "correction",
    "link",
    "kind",
)


@dataclass(frozen=True)
class _Envelope:
    """Delay, attack, hold, decay, release in seconds; sustain as the share of the way down (0 = none)."""

    delay: float
    attack: float
    hold: float
    decay: float
    sustain: float
    release: float


@dataclass(frozen=True, eq=False)
class Zone:
    """One sample of an instrument, with how it is to be played.

    `keys` and `velocities` are inclusive ranges. Loops are positions in `samples`, or None.
    """

    keys: tuple[int, int]
    velocities: tuple[int, int]
    samples: np.ndarray  # float32 [n]
    rate_hz: int
    loop: tuple[int, int] | None
    generators: np.ndarray  # int64 [61]
    root_key: int
    correction_cents: int

    @property
    def exclusive_class(self) -> int:
        """Notes of the same class (not 0) cut each other off, as a closed hi-hat does the open one."""
        return int(self.generators[_EXCLUSIVE])

    @property
    def pan(self) -> float:
        """-0.5 (left) to 0.5 (right)."""
        return float(np.clip(self.generators[_PAN] / 1000, -0.5, 0.5))

    def envelope(self, first: int, key: int) -> _Envelope:
        delay, attack, hold, decay, sustain, release, key_to_hold, key_to_decay = (
            int(value) for value in self.generators[first : first + 8]
        )
        return _Envelope(
            _seconds(delay),
            max(_seconds(attack), 0.001),
            _seconds(hold + key_to_hold * (60 - key)),
            max(_seconds(decay + key_to_decay * (60 - key)), 0.001),
            min(max(sustain, 0), 1000) / 1000,
            min(max(_seconds(release), _MIN_RELEASE_SECONDS), _MAX_RELEASE_SECONDS),
        )

    def gain(self, velocity: int) -> float:
        """Amplitude of a note of this velocity: 40 log10(velocity / 127) dB less the zone's attenuation."""
        fixed = int(self.generators[_FIXED_VELOCITY])
        velocity = fixed if 0 < fixed < 128 else velocity
        return float((velocity / 127) ** 2 * 10 ** (-0.4 * max(self.generators[_ATTENUATION], 0) / 200))

    def ratio(self, key: int, sample_rate: int) -> float:
        """How many samples of the zone one output sample moves on."""
        fixed = int(self.generators[_FIXED_KEY])
        key = fixed if 0 <= fixed < 128 else key
        cents = (key - self.root_key) * self.generators[_SCALE_TUNING] + self.correction_cents
        cents += 100 * self.generators[_COARSE_TUNE] + self.generators[_FINE_TUNE]
        return float(2 ** (np.clip(cents, -9600, 9600) / 1200) * self.rate_hz / sample_rate)

    def volume(self, times: np.ndarray, held_seconds: float, key: int) -> np.ndarray:
        """Volume envelope [n] at times [n] after the start of a note held for `held_seconds`."""
        env = self.envelope(_VOL_ENV, key)
        peak = env.delay + env.attack + env.hold
        # Decay and release fall 100 dB in their time, in a straight line of decibels.
        held = np.minimum(times, held_seconds)
        fall_db = np.minimum(np.maximum(held - peak, 0) / env.decay, env.sustain) * 100
        fall_db = fall_db + np.maximum(times - held_seconds, 0) / env.release * 100
        rise = np.clip((held - env.delay) / env.attack, 0, 1)
        return np.where(fall_db < 100, rise * 10 ** (-fall_db / 20), 0)

    def modulation(self, times: np.ndarray, held_seconds: float, key: int) -> np.ndarray:
        """Modulation envelope [n], 0 to 1, at times [n]."""
        env = self.envelope(_MOD_ENV, key)
        held = np.minimum(times, held_seconds)
        rise = np.clip((held - env.delay) / env.attack, 0, 1)
        fall = np.minimum(np.maximum(held - env.delay - env.attack - env.hold, 0) / env.decay, env.sustain)
        return rise * (1 - fall) * np.clip(1 - np.maximum(times - held_seconds, 0) / env.release, 0, 1)

    def sounding_seconds(self, held_seconds: float, key: int, sample_rate: int) -> float:
        """How long a note held for `held_seconds` is heard, release included."""
        env = self.envelope(_VOL_ENV, key)
        seconds = held_seconds + env.release
        if env.sustain >= 1:
            seconds = min(seconds, env.delay + env.attack + env.hold + env.decay)
        if self.loop is None:
            seconds = min(seconds, (len(self.samples) - 1) / self.ratio(key, sample_rate) / sample_rate)
        return seconds

    @property
    def cents_by_envelope(self) -> int:
        return int(self.generators[_ENV_TO_PITCH])

    def cutoffs_hz(self) -> tuple[float, float]:
        """Cutoff of the low-pass filter where the modulation envelope is 0 and where it is 1."""
        closed = int(self.generators[_CUTOFF])
        opened = closed + int(self.generators[_ENV_TO_CUTOFF])
        return _cutoff_hz(closed), _cutoff_hz(opened)

    def filtered(self, cutoff_hz: float) -> tuple[np.ndarray, int, tuple[int, int] | None]:
        """The sample, filtered and oversampled for interpolation.

        Args:
            cutoff_hz: as heard at the sample's own rate; infinite for no filter.

        Returns:
            Samples float32 [m], the factor of oversampling, and the loop in positions of the result.
        """
        factor, source, loop = 2, self.samples, self.loop
        if loop is not None:
            # The filter reaches into the loop: repeat it and take a later round, where it has settled.
            start, end = loop
            rounds = 1 + -(-2_000 // (end - start))
            source = np.concatenate([source[:end], np.tile(source[start:end], rounds + 1)])
            loop = (end + (rounds - 1) * (end - start), end + rounds * (end - start))
        size = 1 << int(np.ceil(np.log2(len(source) + 512)))
        spectrum = np.fft.rfft(source, size)
        if np.isfinite(cutoff_hz):
            relative = np.fft.rfftfreq(size, 1 / self.rate_hz) / cutoff_hz
            quality = 10 ** ((np.clip(self.generators[_RESONANCE], 0, 960) / 10 - 3.01) / 20)
            spectrum = spectrum / (1 - relative**2 + 1j * relative / quality)
        samples = np.fft.irfft(spectrum, size * factor)[: len(source) * factor] * factor
        return samples.astype(np.float32), factor, loop and (loop[0] * factor, loop[1] * factor)


class SoundFont:
    """The instruments of a sound font.

    Args:
        path: an SF2 or SF3 file.

    Raises:
        InputFileError: the file does not exist or is not a sound font.
    """

    def __init__(self, path: Path) -> None:
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise InputFileError(f"Sound font {path} cannot be read: {error.strerror}", _REMEDY) from error
        if data[:4] != b"RIFF" or data[8:12] != b"sfbk":
            raise InputFileError(f"{path} is not a sound font: it has no RIFF/sfbk header", _REMEDY)
        try:
            self._read(data)
        except (ValueError, IndexError, KeyError, struct.error) as error:
            raise InputFileError(f"Sound font {path} is damaged: {error}", _REMEDY) from error
        if not self._presets:
            raise InputFileError(f"Sound font {path} has no instrument", _REMEDY)
        self._path = path
        self._zones: dict[int, tuple[Zone, ...]] = {}

    def _read(self, data: bytes) -> None:
        chunks = dict(_chunks(data, 12, len(data)))
        missing = {"smpl", "phdr", "pbag", "pgen", "inst", "ibag", "igen", "shdr"} - chunks.keys()
        if missing:
            raise ValueError(f"chunk {min(missing)} is missing")
        self._data = data
        self._offset, self._num_bytes = chunks["smpl"]

        def table(name: str, dtype: np.dtype) -> np.ndarray:
            offset, size = chunks[name]
            return np.frombuffer(data, dtype, size // dtype.itemsize, offset)

        self._headers = table("phdr", _HEADER)
        self._tables = {
            "preset": (table("pbag", _BAG), table("pgen", _GENERATOR), _INSTRUMENT),
            "instrument": (table("ibag", _BAG), table("igen", _GENERATOR), _SAMPLE),
        }
        self._instruments = table("inst", _INSTRUMENT_HEADER)
        self._sample_headers = table("shdr", _SAMPLE_HEADER)
        self._presets = {(int(h["bank"]), int(h["preset"])): i for i, h in enumerate(self._headers[:-1])}
        self._samples: dict[int, np.ndarray] = {}

    def zones(self, program: int, is_drum: bool) -> tuple[Zone, ...]:
        """The zones of a General MIDI program or drum kit.

        A program that the font lacks is played by program 0, a drum kit by kit 0.

        Args:
            program: 0-127.
            is_drum: of the drum bank.

        Returns:
            The zones for all keys and velocities; empty if the font has nothing of the kind.

        Raises:
            InputFileError: the font is damaged.
        """
        bank = _DRUM_BANK if is_drum else 0
        choices = [(bank, program), (bank, 0), *sorted(key for key in self._presets if key[0] == bank)]
        index = next((self._presets[key] for key in choices if key in self._presets), None)
        if index is None:
            return ()
        if index not in self._zones:
            try:
                self._zones[index] = tuple(self._preset_zones(index))
            except (ValueError, IndexError, KeyError, RuntimeError) as error:
                raise InputFileError(f"Sound font {self._path} is damaged: {error}", _REMEDY) from error
        return self._zones[index]

    def _preset_zones(self, index: int) -> list[Zone]:
        zones = []
        bags = range(int(self._headers[index]["bag"]), int(self._headers[index + 1]["bag"]))
        for preset in self._layers("preset", bags):
            number = int(preset[_INSTRUMENT])
            first, last = int(self._instruments[number]["bag"]), int(self._instruments[number + 1]["bag"])
            for layer in self._layers("instrument", range(first, last)):
                generators = _DEFAULTS.copy()
                for key, amount in layer.items():
                    generators[key] = amount
                for key, amount in preset.items():
                    if key not in _NOT_ADDED and key not in (_KEY_RANGE, _VELOCITY_RANGE):
                        generators[key] += amount
                keys, velocities = (
                    _intersection(preset.get(which), layer.get(which)) for which in (_KEY_RANGE, _VELOCITY_RANGE)
                )
                zone = self._zone(generators, keys, velocities, int(layer[_SAMPLE]))
                if zone is not None:
                    zones.append(zone)
        return zones

    def _layers(self, level: str, bags: range) -> list[dict[int, int]]:
        """Generators of each zone of a preset or instrument, the global zone's filled in."""
        bag_table, generator_table, terminal = self._tables[level]
        common: dict[int, int] = {}
        layers = []
        for bag in bags:
            first, last = int(bag_table[bag]["generator"]), int(bag_table[bag + 1]["generator"])
            own = {
                int(number): int(amount)
                for number, amount in generator_table[first:last].tolist()
                if number < _NUM_GENERATORS
            }
            if terminal in own:
                layers.append(common | own)
            elif bag == bags.start:
                common = own
        return layers

    def _zone(
        self, generators: np.ndarray, keys: tuple[int, int], velocities: tuple[int, int], number: int
    ) -> Zone | None:
        header = self._sample_headers[number]
        if header["kind"] & 0x8000 or not header["rate"]:  # in the ROM of a sound card
            return None
        samples = self._sample(number)
        base = 0 if header["kind"] & 0x10 else int(header["start"])
        start = generators[_START] + 32_768 * generators[_START_COARSE]
        end = len(samples) + generators[_END] + 32_768 * generators[_END_COARSE]
        start, end = (int(np.clip(value, 0, len(samples))) for value in (start, end))
        loop_start = int(header["loop_start"]) - base - start
        loop_end = int(header["loop_end"]) - base - start
        loop_start += int(generators[_LOOP_START] + 32_768 * generators[_LOOP_START_COARSE])
        loop_end += int(generators[_LOOP_END] + 32_768 * generators[_LOOP_END_COARSE])
        is_looped = generators[_SAMPLE_MODES] & 1 and loop_start >= 0 and loop_start + 4 <= loop_end <= end - start
        if end - start < 8:
            return None
        root = int(generators[_ROOT_KEY])
        samples, loop = samples[start:end], (loop_start, loop_end) if is_looped else None
        return Zone(
            keys,
            velocities,
            samples if loop is None else _without_offset(samples, loop, int(header["rate"])),
            int(header["rate"]),
            loop,
            generators,
            root if 0 <= root < 128 else min(int(header["key"]), 127),
            int(header["correction"]),
        )

    def _sample(self, number: int) -> np.ndarray:
        if number not in self._samples:
            header = self._sample_headers[number]
            start, end = int(header["start"]), int(header["end"])
            if header["kind"] & 0x10:  # SF3: positions count bytes of an Ogg Vorbis stream
                stream = io.BytesIO(self._data[self._offset + start : self._offset + end])
                samples = soundfile.read(stream, dtype="float32", always_2d=True)[0][:, 0]
            else:
                count = min(end, self._num_bytes // 2) - start
                if count < 0:
                    raise ValueError(f"sample {number} lies outside its data")
                samples = np.frombuffer(self._data, "<i2", count, self._offset + 2 * start) / np.float32(32_768)
            self._samples[number] = np.ascontiguousarray(samples, dtype=np.float32)
        return self._samples[number]


def _without_offset(samples: np.ndarray, loop: tuple[int, int], rate_hz: int) -> np.ndarray:
    """A sample whose loop has no mean to speak of: held, that would be heard at the ends only, and take up headroom."""
    offset = samples[loop[0] : loop[1]].mean(dtype=np.float64)
    if abs(offset) < _LEAST_OFFSET * np.abs(samples).max():
        return samples
    share = np.ones(len(samples), dtype=np.float32)
    num_rising = min(loop[0], int(_OFFSET_SECONDS * rate_hz))
    share[:num_rising] = np.linspace(0, 1, num_rising, dtype=np.float32)
    return samples - np.float32(offset) * share


def _chunks(data: bytes, start: int, end: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """Name, offset and size of every RIFF chunk that is not a list."""
    while start + 8 <= end:
        name, size = struct.unpack_from("<4sI", data, start)
        size = min(size, end - start - 8)
        if name == b"LIST":
            yield from _chunks(data, start + 12, start + 8 + size)
        else:
            yield name.decode("latin-1"), (start + 8, size)
        start += 8 + size + size % 2


def _intersection(first: int | None, second: int | None) -> tuple[int, int]:
    """Overlap of two ranges packed as low byte and high byte; the whole range where one is missing."""
    ranges = [(value & 0xFF, value >> 8 & 0xFF) for value in (first, second) if value is not None]
    return max([0, *(low for low, _ in ranges)]), min([127, *(high for _, high in ranges)])


def _seconds(timecents: int) -> float:
    return 0.0 if timecents <= -12_000 else float(2 ** (min(timecents, 8_000) / 1200))


def _cutoff_hz(cents: int) -> float:
    """Absolute cents to Hz; from 13,500 (20 kHz) upwards the filter is open."""
    return float("inf") if cents >= 13_500 else float(8.176 * 2 ** (max(cents, 1500) / 1200))
