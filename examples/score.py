"""A small score: notes, chords, their notations, accompaniment by layers, and the MIDI writer.

The music of `compose.py` and `corpus.py` is written with these means. The script was written for this
project and is dedicated to the public domain under CC0 1.0
(https://creativecommons.org/publicdomain/zero/1.0/).

Time is counted in steps; one step is a sixteenth note. Three notations keep the music readable:

* a melody, "4 C5 D5 8 r | 16 C5": a number sets the length in steps of what follows, `r` is a rest;
* chords, "C | Am F | G7": the chords of one bar share its beats (the first takes what is left over),
  `-` means no chord;
* a layer, "B...x.-.": one sign per step, repeated for as long as the music lasts. `B` is the bass of the
  chord, `O` the octave above it, `F` the fifth, a digit one tone of the voicing counted from below, `x` the
  whole voicing; `.` holds what sounds and `-` ends it. A new chord strikes again what is held, and its first
  bass note is always `B`.
"""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import mido
import numpy as np

TICKS_PER_QUARTER = 480
STEPS_PER_QUARTER = 4
TICKS_PER_STEP = TICKS_PER_QUARTER // STEPS_PER_QUARTER
PEDAL_LIFT_TICKS = 60
PHRASE_BARS = 4
VOLUME, PAN, PEDAL = 7, 10, 64
DRUM_CHANNEL = 9
PITCH_CLASSES = dict(zip(["C", "D", "E", "F", "G", "A", "B"], (0, 2, 4, 5, 7, 9, 11), strict=True))
ACCIDENTALS = {"": 0, "#": 1, "b": -1}
QUALITIES = {
    "": (0, 4, 7),
    "m": (0, 3, 7),
    "7": (0, 4, 7, 10),
    "m7": (0, 3, 7, 10),
    "7sus4": (0, 5, 7, 10),
}


@dataclass(frozen=True, order=True)
class Note:
    start_steps: int
    pitch: int
    length_steps: int
    velocity: int = 64


@dataclass(frozen=True)
class Chord:
    start_steps: int
    length_steps: int
    pitch_classes: tuple[int, ...]
    """Root first."""
    bass: int

    def voicing(self, low: int) -> list[int]:
        """Return the chord's tones in the octave from `low` up; near chords thus move by small steps."""
        return sorted(lift(pitch_class, low) for pitch_class in self.pitch_classes)


@dataclass(frozen=True)
class Metre:
    numerator: int
    denominator: int

    @property
    def bar_steps(self) -> int:
        return self.numerator * 4 * STEPS_PER_QUARTER // self.denominator

    @property
    def beat_steps(self) -> int:
        return 6 if self.denominator == 8 else STEPS_PER_QUARTER


COMMON, WALTZ, SIX_EIGHT = Metre(4, 4), Metre(3, 4), Metre(6, 8)
METRES = {"4/4": COMMON, "3/4": WALTZ, "6/8": SIX_EIGHT}


@dataclass(frozen=True)
class Part:
    """One track. `controls` holds (tick, controller, value), `bends` (tick, pitch wheel value)."""

    name: str
    channel: int
    program: int
    notes: list[Note]
    controls: list[tuple[int, int, int]] = field(default_factory=list)
    bends: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Piece:
    """`metres` and `markers` hold (step, value)."""

    parts: list[Part]
    key: str
    quarters_per_minute: int
    metres: list[tuple[int, Metre]]
    markers: list[tuple[int, str]] = field(default_factory=list)


# Notation


def parse_pitch_class(name: str) -> int:
    return (PITCH_CLASSES[name[0]] + ACCIDENTALS[name[1:]]) % 12


def lift(pitch_class: int, low: int) -> int:
    """Return the lowest pitch of this class that is not below `low`."""
    return low + (pitch_class - low) % 12


def parse_line(text: str, metre: Metre) -> list[Note]:
    """Read a melody and check that every bar is full."""
    notes, start, length = [], 0, 0
    for bar in text.split("|"):
        bar_end = start + metre.bar_steps
        for word in bar.split():
            if word.isdigit():
                length = int(word)
                continue
            if word != "r":
                pitch = 12 * (int(word[-1]) + 1) + PITCH_CLASSES[word[0]] + ACCIDENTALS[word[1:-1]]
                notes.append(Note(start, pitch, length))
            start += length
        assert start == bar_end, f"this bar is {start - bar_end} steps too long: {bar}"
    return notes


def parse_chord(symbol: str, semitones: int) -> tuple[tuple[int, ...], int]:
    """Read one symbol, such as Em7 or D/F#, into its pitch classes, root first, and its bass."""
    root_name, quality, bass_name = re.fullmatch(r"([A-G][#b]?)(\w*)/?(\S*)", symbol).groups()
    root = parse_pitch_class(root_name) + semitones
    bass = parse_pitch_class(bass_name) + semitones if bass_name else root
    return tuple((root + interval) % 12 for interval in QUALITIES[quality]), bass % 12


def parse_chords(text: str, metre: Metre, semitones: int = 0) -> list[Chord]:
    """Read chords and transpose them; a chord that is repeated within a bar becomes one longer chord."""
    chords: list[Chord] = []
    for index, bar in enumerate(text.split("|")):
        symbols = bar.split()
        slot_steps = metre.bar_steps // metre.beat_steps // len(symbols) * metre.beat_steps
        lengths = [metre.bar_steps - slot_steps * (len(symbols) - 1)] + [slot_steps] * (len(symbols) - 1)
        start = index * metre.bar_steps
        for symbol, slots in itertools.groupby(zip(symbols, lengths, strict=True), key=lambda slot: slot[0]):
            length = sum(length for _, length in slots)
            if symbol != "-":
                chords.append(Chord(start, length, *parse_chord(symbol, semitones)))
            start += length
    return chords


# Arranging


def play(chords: list[Chord], layer: str, low: int) -> list[Note]:
    """Play a layer over chords, in the octave from `low` up."""
    notes = []
    for chord in chords:
        voicing = chord.voicing(low)
        pitches = {str(digit): [voicing[digit % len(voicing)]] for digit in range(10)}
        bass = lift(chord.bass, low)
        fifth = lift(chord.pitch_classes[2], low)
        pitches |= {"B": [bass], "O": [bass + 12], "F": [fifth], "x": voicing, "-": []}
        end = chord.start_steps + chord.length_steps
        signs = "".join(layer[step % len(layer)] for step in range(end))
        held = signs[: chord.start_steps + 1].rstrip(".")[-1:] or "-"
        held = "B" if held in "OF" else held
        for match in re.finditer(r".\.*", held + signs[chord.start_steps + 1 :]):
            start = chord.start_steps + match.start()
            notes += [Note(start, pitch, len(match[0])) for pitch in pitches[match[0][0]]]
    return notes


def play_layers(chords: list[Chord], layers: Iterable[tuple[str, int]]) -> list[Note]:
    return [note for layer, low in layers for note in play(chords, layer, low)]


def drum(layers: dict[int, str], bars: int) -> list[Note]:
    """Play drum layers: `X` an accent, `x` a hit, `o` a ghost note."""
    velocities = {"X": 112, "x": 92, "o": 58}
    return [
        Note(step, pitch, 1, velocities[layer[step % len(layer)]])
        for pitch, layer in layers.items()
        for step in range(bars * COMMON.bar_steps)
        if layer[step % len(layer)] in velocities
    ]


def shape(notes: list[Note], level: int, metre: Metre, rng: np.random.Generator) -> list[Note]:
    """Give notes velocities around `level`: accents on the beats, one swell a phrase, a little unevenness."""
    shaped = []
    for note in notes:
        in_bar = note.start_steps % metre.bar_steps
        accent = 8 if in_bar == 0 else 4 if in_bar % metre.beat_steps == 0 else 0
        position = note.start_steps / (PHRASE_BARS * metre.bar_steps) % 1
        swell = round(36 * position * (1 - position)) - 5
        velocity = level + accent + swell + int(rng.integers(-3, 4))
        shaped.append(replace(note, velocity=min(max(velocity, 1), 127)))
    return shaped


def shift(notes: list[Note], steps: int, semitones: int = 0) -> list[Note]:
    return [replace(n, start_steps=n.start_steps + steps, pitch=n.pitch + semitones) for n in notes]


def pedal(chords: list[Chord], start_steps: int = 0) -> list[tuple[int, int, int]]:
    """Change the sustain pedal with every chord and lift it at the end."""
    controls = []
    for chord in chords:
        tick = (start_steps + chord.start_steps) * TICKS_PER_STEP
        controls += [(tick, PEDAL, 0), (tick + PEDAL_LIFT_TICKS, PEDAL, 127)]
    end = chords[-1].start_steps + chords[-1].length_steps + start_steps
    return [*controls, (end * TICKS_PER_STEP, PEDAL, 0)]


def untangle(notes: list[Note]) -> list[Note]:
    """Keep one of two notes that begin together on a pitch, and end each before the next one on its pitch."""
    clean, next_starts = [], {}
    unique = {(note.start_steps, note.pitch): note for note in sorted(notes)}
    for note in sorted(unique.values(), reverse=True):
        available = next_starts.get(note.pitch, np.inf) - note.start_steps
        clean.append(replace(note, length_steps=int(min(note.length_steps, available))))
        next_starts[note.pitch] = note.start_steps
    return clean[::-1]


def write(path: Path, piece: Piece) -> None:
    """Write one part as a format 0 file; several as format 1, after a track with the tempo and the metres."""
    meta, message = mido.MetaMessage, mido.Message
    events = [(0, 0, meta("set_tempo", tempo=mido.bpm2tempo(piece.quarters_per_minute)))]
    events += [(0, 0, meta("key_signature", key=piece.key))]
    for step, metre in piece.metres:
        signature = meta("time_signature", numerator=metre.numerator, denominator=metre.denominator)
        events.append((step * TICKS_PER_STEP, 0, signature))
    events += [(step * TICKS_PER_STEP, 0, meta("marker", text=text)) for step, text in piece.markers]
    tracks = [events]
    for part in piece.parts:
        channel = part.channel
        events = [(0, 0, meta("track_name", name=part.name))]
        events.append((0, 0, message("program_change", channel=channel, program=part.program)))
        for tick, control, value in part.controls:
            events.append((tick, 2, message("control_change", channel=channel, control=control, value=value)))
        for tick, bend in part.bends:
            events.append((tick, 2, message("pitchwheel", channel=channel, pitch=bend)))
        for note in untangle(part.notes):
            on = message("note_on", channel=channel, note=note.pitch, velocity=note.velocity)
            off = message("note_off", channel=channel, note=note.pitch, velocity=0)
            events.append((note.start_steps * TICKS_PER_STEP, 3, on))
            events.append(((note.start_steps + note.length_steps) * TICKS_PER_STEP, 1, off))
        tracks.append(events)
    if len(piece.parts) == 1:
        tracks = [tracks[0] + tracks[1]]
    midi = mido.MidiFile(type=min(len(tracks) - 1, 1), ticks_per_beat=TICKS_PER_QUARTER)
    for events in tracks:
        track, now = midi.add_track(), 0
        for tick, _, event in sorted(events, key=lambda event: event[:2]):
            track.append(event.copy(time=tick - now))
            now = tick
    path.parent.mkdir(parents=True, exist_ok=True)
    midi.save(path)
