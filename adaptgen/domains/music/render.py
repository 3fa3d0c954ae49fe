"""Turn a MIDI file into sound: `render` makes the samples, `encode_wav` a WAV file of them.

Honoured: velocity, program changes anywhere in a track, drums on channel 10, tempo changes, sustain pedal
(CC 64), channel volume (CC 7), expression (CC 11), pan (CC 10), pitch bend with its range, all-notes-off,
all-sound-off, reset-all-controllers, hi-hats that choke each other. Ignored: modulation wheel and vibrato,
aftertouch, sostenuto and soft pedal, portamento, bank select, reverb and chorus, system exclusive messages.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections import defaultdict
from dataclasses import replace
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import mido
import numpy as np
import soundfile

from adaptgen.domains.music.performance import (
    Controllers,
    SoundingNote,
    read_controllers,
    sounding_notes,
)
from adaptgen.domains.music.song import DRUM_CHANNEL, GENERAL_MIDI_DRUMS
from adaptgen.domains.music.soundfont import SoundFont, Zone
from adaptgen.errors import InputFileError

__all__ = ["check_sound", "default_soundfont", "encode_wav", "render"]

_SAMPLE_RATE_HZ = 44_100
_PEAK = 10 ** (-3 / 20)  # of what `render` returns: -3 dBFS
_PEAK_LIMIT = 10 ** (-1.01 / 20)  # of what `encode_wav` gives: strictly below -1 dBFS after rounding
_INAUDIBLE = 1e-5  # -100 dBFS
_MAX_SECONDS = 2 * 3600
_MAX_NOTE_SECONDS = 120.0  # a note held longer fades out: no tune needs it, and odd files stay affordable
_MAX_VOICE_SECONDS = 200_000  # sum over notes; a dense hour of piano has about 50,000
_MIN_NOTE_SECONDS = 0.03  # notes without length, as drum tracks have them, sound this long
_TAIL_SECONDS = 0.25
_FADE_SECONDS = 0.02
_CHOKE_SECONDS = 0.03
_CONTROL_FRAMES = 32  # envelopes and controllers are computed this often and interpolated between

_NO_WAV = "Leave the sound out with --no-wav, or cut the file"


def render(midi: mido.MidiFile, *, soundfont: Path | None = None) -> np.ndarray:
    """Play a MIDI file with the instruments of a sound font.

    The loudest sample of every rendering lies at -3 dBFS, so quiet and loud files come out at a common level;
    one factor scales the whole, nothing is limited or clipped. Time 0 of the sound is time 0 of the file.
    After the last note its release rings out, and at most half a second of silence follows. The same file
    gives the same samples. Two hours of sound take 2.5 GB of memory.

    Args:
        midi: a parsed file with `ticks_per_beat` of at least 1.
        soundfont: an SF2 or SF3 file; None for TimGM6mb, which comes with pretty_midi.

    Returns:
        float32 [2, samples] at 44,100 Hz, left and right; a quarter of a second of silence if the file has no note.

    Raises:
        InputFileError: the sound font cannot be used, or the music lasts longer than two hours or is so dense
            that playing it would take many minutes.

    Source: General MIDI Level 1; SoundFont Technical Specification 2.04 (see `soundfont`).
    """
    font = _open_font(soundfont)
    notes = sounding_notes(midi)
    if not notes:
        return np.zeros((2, int(_TAIL_SECONDS * _SAMPLE_RATE_HZ)), dtype=np.float32)
    _check_size(notes, max(note.end for note in notes))
    notes = [_with_a_zone(note, font) for note in notes]
    controllers = read_controllers(midi)
    cuts = _choke_times(notes, font)
    last = max(min(note.end, note.start + _MAX_NOTE_SECONDS) for note in notes)
    mix = np.zeros((2, int((last + 10) * _SAMPLE_RATE_HZ)), dtype=np.float32)

    # One key of one instrument at a time: its notes share the resampled sound, longest first.
    def instrument(note: SoundingNote) -> tuple[int, bool, int]:
        return note.program, note.channel == DRUM_CHANNEL, note.pitch

    ordered = sorted(notes, key=lambda note: (instrument(note), note.start - note.end, note))
    for (program, is_drum, _), same_key in groupby(ordered, key=instrument):
        tones: dict[Zone, _Tone] = {}
        for note in same_key:
            for zone in _zones_of(font.zones(program, is_drum), note):
                if zone not in tones:
                    tones[zone] = _Tone(zone, note.pitch)
                _add_voice(mix, note, tones[zone], controllers, cuts.get(note, np.inf))
    return _finish(mix)


def check_sound(midi: mido.MidiFile, *, end_seconds: float, soundfont: Path | None = None) -> None:
    """Refuse beforehand what `render` would refuse once all notes are there.

    Args:
        midi: a parsed file with the notes that are there already.
        end_seconds: when the last note to come ends.
        soundfont: as of `render`.

    Raises:
        InputFileError: as of `render`; not for what only the notes to come, or a pedal, make too dense.
    """
    _open_font(soundfont)
    # What is to come may raise a pedal that is down.
    _check_size(sounding_notes(midi, use_pedal=False), end_seconds)


def encode_wav(samples: np.ndarray) -> bytes:
    """Sound as the bytes of a 16-bit PCM WAV file.

    Args:
        samples: float [2, samples] at 44,100 Hz, full scale at 1; scaled down as a whole if its peak is not below
            -1 dBFS.
    """
    peak = _peak(samples)
    scale = np.float32(min(1.0, _PEAK_LIMIT / peak if peak else 1.0))
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", _SAMPLE_RATE_HZ, len(samples), subtype="PCM_16", format="WAV") as sound:
        for start in range(0, samples.shape[1], 1 << 20):
            sound.write((samples[:, start : start + (1 << 20)] * scale).T)
    return buffer.getvalue()


def default_soundfont() -> Path:
    """The General MIDI sound font TimGM6mb, found inside pretty_midi without importing that."""
    spec = find_spec("pretty_midi")
    assert spec is not None, "pretty_midi is a dependency"
    assert spec.origin is not None
    return Path(spec.origin).with_name("TimGM6mb.sf2")


def _open_font(path: Path | None) -> SoundFont:
    return SoundFont(default_soundfont() if path is None else path)


class _Tone:
    """The endless sound of one key in one zone, before any envelope."""

    def __init__(self, zone: Zone, pitch: int) -> None:
        self.zone, self.pitch = zone, pitch
        self._ratio = zone.ratio(pitch, _SAMPLE_RATE_HZ)
        shift = self._ratio * _SAMPLE_RATE_HZ / zone.rate_hz
        cutoffs = [cutoff / shift for cutoff in zone.cutoffs_hz()]
        self._sources = [zone.filtered(cutoff) for cutoff in dict.fromkeys(cutoffs)]
        self._straight = [np.zeros(0, dtype=np.float32) for _ in self._sources]

    def __call__(self, num_frames: int, openness: np.ndarray, cents: np.ndarray) -> np.ndarray:
        """The sound.

        Args:
            num_frames: length n.
            openness: modulation envelope at control times, which opens the filter.
            cents: deviation of pitch at control times.

        Returns:
            float32 [n]
        """
        if cents.any():
            steps = _between(2 ** (cents / 1200) * self._ratio, num_frames)
            positions = np.cumsum(steps, dtype=np.float64)
            sounds = [_read_at(source, positions) for source in self._sources]
        else:
            if len(self._straight[0]) < num_frames:
                positions = np.arange(num_frames) * self._ratio
                self._straight = [_read_at(source, positions) for source in self._sources]
            sounds = [sound[:num_frames] for sound in self._straight]
        if len(sounds) == 1:
            return sounds[0]
        closed, opened = sounds
        return closed + (opened - closed) * _between(openness, num_frames)


def _read_at(source: tuple[np.ndarray, int, tuple[int, int] | None], positions: np.ndarray) -> np.ndarray:
    """Interpolate a sample [m] at positions [n], going round its loop; silence beyond its end."""
    samples, factor, loop = source
    places = positions * factor
    if loop is not None:
        start, end = loop
        places = np.where(places < end, places, start + (places - start) % (end - start))
        following = samples[start]
    else:
        places = np.minimum(places, len(samples))
        following = np.float32(0)
    samples = np.append(samples, [following, np.float32(0)])
    whole = places.astype(np.int64)
    share = (places - whole).astype(np.float32)
    left = samples[whole]
    return left + (samples[whole + 1] - left) * share


def _between(values: np.ndarray, num_frames: int) -> np.ndarray:
    """Straight lines between values at control times, as float32 [num_frames]."""
    values = values.astype(np.float32)
    ramp = np.arange(_CONTROL_FRAMES, dtype=np.float32) / _CONTROL_FRAMES
    return (values[:-1, None] + np.diff(values)[:, None] * ramp).reshape(-1)[:num_frames]


def _add_voice(mix: np.ndarray, note: SoundingNote, tone: _Tone, controllers: Controllers, cut_seconds: float) -> None:
    """Add one note in one zone to the mix [2, samples]; it is choked at `cut_seconds`."""
    zone, rate = tone.zone, _SAMPLE_RATE_HZ
    held = min(max(note.end - note.start, _MIN_NOTE_SECONDS), _MAX_NOTE_SECONDS)
    seconds = min(zone.sounding_seconds(held, note.pitch, rate), max(0.0, cut_seconds - note.start) + _CHOKE_SECONDS)
    first = round(note.start * rate)
    num_frames = min(int(seconds * rate), mix.shape[1] - first)
    if num_frames <= 0:
        return
    times = np.arange(num_frames // _CONTROL_FRAMES + 2) * (_CONTROL_FRAMES / rate)
    openness = zone.modulation(times, held, note.pitch)
    part = (note.track, note.channel)
    cents = controllers.bend_cents(note.start + times, *part) + zone.cents_by_envelope * openness
    volume = zone.volume(times, held, note.pitch) * controllers.gain(note.start + times, *part)
    volume *= zone.gain(note.velocity) * np.clip((cut_seconds - note.start - times) / _CHOKE_SECONDS + 1, 0, 1)
    volume *= np.clip((seconds - times) / _FADE_SECONDS, 0, 1)
    pan = (np.clip(zone.pan + controllers.pan(note.start + times, *part), -0.5, 0.5) + 0.5) * (np.pi / 2)
    sound = tone(num_frames, openness, cents)
    if np.ptp(pan) == 0:
        sound = sound * _between(volume, num_frames)
        for side, share in enumerate((np.cos(pan[0]), np.sin(pan[0]))):
            if share > 1e-6:
                mix[side, first : first + num_frames] += sound * np.float32(share)
    else:
        for side, share in enumerate((np.cos(pan), np.sin(pan))):
            mix[side, first : first + num_frames] += sound * _between(volume * share, num_frames)


def _zones_of(zones: tuple[Zone, ...], note: SoundingNote) -> list[Zone]:
    return [
        zone
        for zone in zones
        if zone.keys[0] <= note.pitch <= zone.keys[1] and zone.velocities[0] <= note.velocity <= zone.velocities[1]
    ]


def _with_a_zone(note: SoundingNote, font: SoundFont) -> SoundingNote:
    """The note; of a drum that the font lacks, the sound that General MIDI has for it."""
    other = GENERAL_MIDI_DRUMS.get(note.pitch)
    if note.channel != DRUM_CHANNEL or other is None or _zones_of(font.zones(note.program, True), note):
        return note
    return replace(note, pitch=other)


def _choke_times(notes: list[SoundingNote], font: SoundFont) -> dict[SoundingNote, float]:
    """When a note is cut off by a later one of its exclusive class."""
    members: dict[tuple[int, int, int, int], list[SoundingNote]] = defaultdict(list)
    for note in notes:
        zones = _zones_of(font.zones(note.program, note.channel == DRUM_CHANNEL), note)
        for exclusive in {zone.exclusive_class for zone in zones} - {0}:
            members[note.track, note.channel, note.program, exclusive].append(note)
    cuts: dict[SoundingNote, float] = {}
    for group in members.values():
        starts = [note.start for note in group]
        for note in group:
            following = bisect_right(starts, note.start)
            if following < len(group):
                cuts[note] = min(starts[following], cuts.get(note, np.inf))
    return cuts


def _check_size(notes: list[SoundingNote], seconds: float) -> None:
    """Refuse what would take hours or more memory than a computer has; `seconds` is when the last note ends."""
    if seconds > _MAX_SECONDS:
        raise InputFileError(
            f"The music lasts {seconds / 3600:.1f} hours, too long to be played ({_MAX_SECONDS // 3600} at most)",
            _NO_WAV,
        )
    voices = sum(min(note.end - note.start, _MAX_NOTE_SECONDS) + 1 for note in notes)
    if voices > _MAX_VOICE_SECONDS:
        raise InputFileError(
            f"The {len(notes):,} notes sound for {voices:,.0f} seconds together, too much to be played "
            f"({_MAX_VOICE_SECONDS:,} at most)",
            _NO_WAV,
        )


def _finish(mix: np.ndarray) -> np.ndarray:
    """Trim the silence at the end and bring the peak to its level."""
    peak = _peak(mix)
    tail = int(_TAIL_SECONDS * _SAMPLE_RATE_HZ)
    if peak < _INAUDIBLE:
        return mix[:, :tail] * np.float32(0)
    mix *= np.float32(_PEAK / peak)
    end = mix.shape[1]
    while end > tail and _peak(mix[:, end - tail : end]) < _INAUDIBLE:
        end -= tail
    mix = mix[:, : min(mix.shape[1], end + tail)]
    fade = min(int(_FADE_SECONDS * _SAMPLE_RATE_HZ), mix.shape[1])
    mix[:, mix.shape[1] - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return mix


def _peak(samples: np.ndarray) -> float:
    return float(max(samples.max(), -samples.min())) if samples.size else 0.0
