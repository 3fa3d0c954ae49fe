"""Arrange public-domain tunes and seeded melodies in several styles: the training corpus of compose.py.

The generated music and this script were written for this project. Both are dedicated to the public domain
under CC0 1.0 (https://creativecommons.org/publicdomain/zero/1.0/). The notations are explained in `score.py`.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from score import (
    COMMON,
    DRUM_CHANNEL,
    METRES,
    SIX_EIGHT,
    WALTZ,
    Chord,
    Metre,
    Note,
    Part,
    Piece,
    drum,
    parse_chords,
    parse_line,
    pedal,
    play,
    play_layers,
    shape,
    shift,
)
from tunes import TUNES, Tune

PIANO, GUITAR, FLUTE, OBOE, BASSOON, CHURCH_ORGAN, VOICE = 0, 24, 73, 68, 70, 19, 53
FINGERED_BASS, ELECTRIC_PIANO = 33, 4
MAJOR_SCALE = frozenset({0, 2, 4, 5, 7, 9, 11})
MAJOR_KEYS = ["C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"]
MINOR_KEYS = ["Am", "Bbm", "Bm", "Cm", "C#m", "Dm", "Ebm", "Em", "Fm", "F#m", "Gm", "G#m"]
PHRASE_BARS = 4
MELODY_LOW, MELODY_HIGH = 60, 79
ALTO_RANGE, TENOR_RANGE, BASS_LOW = range(55, 72), range(48, 66), 38
TURN_PROBABILITY = 0.3


@dataclass(frozen=True)
class Sketch:
    """A melody with chords, which the style functions arrange."""

    key: str
    metre: Metre
    quarters_per_minute: int
    melody: list[Note]
    chords: list[Chord]
    rng: np.random.Generator

    def arrange(self, parts: list[Part]) -> Piece:
        return Piece(parts, self.key, self.quarters_per_minute, [(0, self.metre)])


ACCOMPANIMENTS = {
    COMMON: [("B.......F.......", 40), ("----x...----x...", 52)],
    WALTZ: [("B...........", 40), ("----x...x...", 52)],
    SIX_EIGHT: [("B.....F.....", 40), ("----x.----x.", 52)],
}
ROLLED = {
    COMMON: [("B.......F.......", 38), ("--0.1.2.--1.2.1.", 52)],
    WALTZ: [("B...........", 38), ("--0.1.2.1.0.", 52)],
    SIX_EIGHT: [("B...........", 38), ("--0.1.2.1.0.", 52)],
}
BEATS = {
    "rock": {36: "X.......x.x.....", 38: "....X.......X...", 42: "x.x.x.x.x.x.x.x."},
    "funk": {36: "X..x......x..x..", 38: "....X..o.o..X..o", 42: "xoxoxoxoxoxoxoxo"},
    "half_time": {36: "X.....x.......x.", 38: "........X.......", 51: "x...x...x...x..."},
}
FILL = {36: "X.......X.......", 38: "....X...X.xxX.xx", 42: "x.x.x.x.", 45: "..........x...x."}


def arrange_pop(sketch: Sketch) -> Piece:
    """Melody, answering figure and broken chords for piano, in three tracks."""
    piano = play_layers(sketch.chords, ROLLED[sketch.metre])
    silence = "-" * 24
    answer = play(sketch.chords, f"{silence}0..1..2.{silence}2..1..0.", 72)
    return sketch.arrange(
        [
            Part("MELODY", 0, PIANO, shape(sketch.melody, 90, sketch.metre, sketch.rng)),
            Part("BRIDGE", 1, PIANO, shape(answer, 64, sketch.metre, sketch.rng)),
            Part("PIANO", 2, PIANO, shape(piano, 62, sketch.metre, sketch.rng), pedal(sketch.chords)),
        ]
    )


def arrange_folk(sketch: Sketch) -> Piece:
    """A flute tune with bass notes and chords on a guitar."""
    guitar = play_layers(sketch.chords, ACCOMPANIMENTS[sketch.metre])
    return sketch.arrange(
        [
            Part("TUNE", 0, FLUTE, shape(sketch.melody, 90, sketch.metre, sketch.rng)),
            Part("GUITAR", 1, GUITAR, shape(guitar, 66, sketch.metre, sketch.rng)),
        ]
    )


def arrange_voice(sketch: Sketch) -> Piece:
    """A voice with rolled piano chords."""
    piano = play_layers(sketch.chords, ROLLED[sketch.metre])
    return sketch.arrange(
        [
            Part("VOICE", 0, VOICE, shape(sketch.melody, 92, sketch.metre, sketch.rng)),
            Part("PIANO", 1, PIANO, shape(piano, 62, sketch.metre, sketch.rng), pedal(sketch.chords)),
        ]
    )


def arrange_canon(sketch: Sketch) -> Piece:
    """Three winds that follow each other at two bars' distance; the last one plays an octave lower."""
    end = max(note.start_steps + note.length_steps for note in sketch.melody)
    parts, winds = [], [("FLUTE", FLUTE, 12), ("OBOE", OBOE, 0), ("BASSOON", BASSOON, -12)]
    for index, (name, program, semitones) in enumerate(winds):
        entry = shift(sketch.melody, index * 2 * sketch.metre.bar_steps, semitones)
        notes = [note for note in entry if note.start_steps + note.length_steps <= end]
        parts.append(Part(name, index, program, shape(notes, 84, sketch.metre, sketch.rng)))
    return sketch.arrange(parts)


def add_inner_voices(chord: Chord, outer: tuple[int, int], previous: tuple[int, int]) -> tuple[int, int]:
    """Choose the alto and tenor pitches between bass and soprano that complete the chord and move little."""
    bass, soprano = outer
    alto, tenor = ([p for p in voice if p % 12 in chord.pitch_classes] for voice in (ALTO_RANGE, TENOR_RANGE))

    def cost(pair: tuple[int, int]) -> int:
        missing = set(chord.pitch_classes) - {pitch % 12 for pitch in (*pair, *outer)}
        return abs(pair[0] - previous[0]) + abs(pair[1] - previous[1]) + 12 * len(missing)

    return min((pair for pair in itertools.product(alto, tenor) if bass < pair[1] < pair[0] < soprano), key=cost)


def arrange_chorale(sketch: Sketch) -> Piece:
    """Four organ voices, of which the lower three move with the chords."""
    alto, tenor, bass = [], [], play(sketch.chords, "B" + "." * (sketch.metre.bar_steps - 1), BASS_LOW)
    pair = (64, 57)
    for chord, low in zip(sketch.chords, bass, strict=True):
        start, end = chord.start_steps, chord.start_steps + chord.length_steps
        above = [n.pitch for n in sketch.melody if n.start_steps < end and n.start_steps + n.length_steps > start]
        pair = add_inner_voices(chord, (low.pitch, min(above)), pair)
        alto.append(Note(start, pair[0], chord.length_steps))
        tenor.append(Note(start, pair[1], chord.length_steps))
    voices = [("SOPRANO", sketch.melody, 80), ("ALTO", alto, 68), ("TENOR", tenor, 68), ("BASS", bass, 74)]
    return sketch.arrange(
        [
            Part(name, channel, CHURCH_ORGAN, shape(notes, level, sketch.metre, sketch.rng))
            for channel, (name, notes, level) in enumerate(voices)
        ]
    )


def arrange_groove(sketch: Sketch, *, beat: str) -> Piece:
    """A drum pattern with a fill in every fourth bar, bass and electric piano."""
    end = sketch.chords[-1].start_steps + sketch.chords[-1].length_steps
    silence = "-" * COMMON.bar_steps
    layers = {}
    for pitch in BEATS[beat] | FILL:
        steady, fill = (pattern.get(pitch, silence) for pattern in (BEATS[beat], FILL))
        layers[pitch] = steady * (PHRASE_BARS - 1) + (fill * 2)[: COMMON.bar_steps]
    bass = play(sketch.chords, "B..B..O...F.B.O.B.....B..-F.O...", 31)
    keys = play(sketch.chords, "x..-..x-....x-..", 57)
    return sketch.arrange(
        [
            Part("DRUMS", DRUM_CHANNEL, 0, drum(layers, end // COMMON.bar_steps)),
            Part("BASS", 0, FINGERED_BASS, shape(bass, 84, COMMON, sketch.rng)),
            Part("KEYS", 1, ELECTRIC_PIANO, shape(keys, 68, COMMON, sketch.rng)),
        ]
    )


STYLES: dict[str, Callable[[Sketch], Piece]] = {
    "pop": arrange_pop,
    "folk": arrange_folk,
    "voice": arrange_voice,
    "canon": arrange_canon,
    "chorale": arrange_chorale,
} | {beat: functools.partial(arrange_groove, beat=beat) for beat in BEATS}

# The generated part of the corpus

RHYTHMS = {
    COMMON: [(4, 4, 4, 4), (6, 2, 4, 4), (3, 3, 2, 4, 4), (4, 2, 2, 8), (2, 2, 4, 2, 2, 4), (8, 4, 4)],
    WALTZ: [(4, 4, 4), (8, 4), (6, 2, 4), (4, 2, 2, 4)],
    SIX_EIGHT: [(4, 2, 4, 2), (6, 4, 2), (2, 2, 2, 6), (3, 1, 2, 4, 2), (2, 2, 2, 4, 2)],
}
# Four bars for each letter of a form, in C major or A minor.
PROGRESSIONS = {
    "axis": {"A": "C | G/B | Am | F", "B": "F | C/E | Dm7 | G7sus4 G7", "C": "F | G7 | C | C"},
    "fifties": {"A": "C | Am | F | G7", "B": "F | Fm | C | D7 G7", "C": "Dm7 | G7 | C F | C"},
    "hymn": {"A": "C | F C | Dm G | C", "B": "Am Em | F C | D7 | G", "C": "C F | C G | F G7 | C"},
    "reel": {"A": "C | F C | C | G7", "B": "Am | F | C | G7", "C": "C | F C | G7 | C"},
    "lament": {"A": "Am | G | F | E7", "B": "Dm | Am | F | E7", "C": "Dm | E7 | Am | Am"},
    "circle": {"A": "Am Dm | G C | F Dm | E7", "B": "C | G | Am | E7", "C": "F Dm | Am E7 | Am | Am"},
    "dorian": {"A": "Am7 | D7 | Am7 | D7", "B": "F | G | Am7 | E7", "C": "F | G | Am7 | Am7"},
}
# Style, progression, metre, semitones above C or A minor, tempo, form.
GENERATED = [
    ("pop", "axis", "4/4", 2, 84, "AABC"),
    ("pop", "fifties", "4/4", -2, 76, "AABAAC"),
    ("pop", "lament", "4/4", -5, 92, "AABABC"),
    ("pop", "circle", "4/4", 3, 100, "AABBAC"),
    ("folk", "reel", "6/8", 2, 108, "AABBAC"),
    ("folk", "reel", "4/4", -5, 120, "AABBAABC"),
    ("folk", "circle", "3/4", -3, 126, "AABBAC"),
    ("folk", "lament", "6/8", 5, 96, "AABBAC"),
    ("chorale", "hymn", "4/4", -2, 72, "AABC"),
    ("chorale", "hymn", "3/4", 4, 80, "ABAABC"),
    ("chorale", "circle", "4/4", 1, 66, "ABAC"),
    ("rock", "axis", "4/4", 4, 124, "AABBAC"),
    ("funk", "dorian", "4/4", 0, 104, "AABAAC"),
    ("half_time", "lament", "4/4", 7, 140, "AABC"),
    ("voice", "axis", "6/8", -3, 72, "AABC"),
    ("voice", "fifties", "3/4", 5, 96, "AABAAC"),
]


def local_scale(chord: Chord, scale: frozenset[int]) -> set[int]:
    """Return the scale and the chord's tones, without scale tones a semitone from an altered chord tone."""
    altered = set(chord.pitch_classes) - scale
    return set(chord.pitch_classes) | {p for p in scale if all((p - a) % 12 not in (1, 11) for a in altered)}


def improvise(chords: list[Chord], form: str, metre: Metre, scale: frozenset[int], seed: int) -> list[Note]:
    """Write a melody in four-bar phrases; equal letters of the form share their rhythm and direction.

    Beats take chord tones, what lies between moves by step, and each phrase rests on a root or third.
    """
    notes, step = [], 0
    for letter in form:
        rng = np.random.default_rng([seed, ord(letter)])
        opening, answer = (RHYTHMS[metre][rng.integers(len(RHYTHMS[metre]))] for _ in range(2))
        cadence = metre.bar_steps - metre.beat_steps
        pitch, direction = MELODY_LOW + int(rng.integers(4, 12)), 1
        for length in [*opening, *answer, *opening, cadence]:
            chord = next(c for c in chords if c.start_steps <= step < c.start_steps + c.length_steps)
            allowed = local_scale(chord, scale)
            if step % metre.beat_steps == 0:
                allowed = set(chord.pitch_classes[: 2 if length == cadence else 3])
            ladder = [p for p in range(MELODY_LOW, MELODY_HIGH + 1) if p % 12 in allowed and p != pitch]
            if rng.random() < TURN_PROBABILITY or not ladder[0] < pitch < ladder[-1]:
                direction = 1 if pitch < ladder[len(ladder) // 2] else -1
            onward = [p for p in ladder if (p - pitch) * direction > 0]
            pitch = min(onward or ladder, key=lambda p: abs(p - pitch))
            notes.append(Note(step, pitch, length))
            step += length
        step += metre.beat_steps
    return notes


def generate_sketch(row: tuple[str, str, str, int, int, str], seed: int) -> Sketch:
    """Make the sketch of one row of `GENERATED`."""
    _, progression, metre_name, semitones, tempo, form = row
    metre, phrases = METRES[metre_name], PROGRESSIONS[progression]
    keys = MINOR_KEYS if phrases["C"].endswith(("Am", "Am7")) else MAJOR_KEYS
    chords = parse_chords(" | ".join(phrases[letter] for letter in form), metre, semitones)
    scale = frozenset((pitch_class + semitones) % 12 for pitch_class in MAJOR_SCALE)
    melody = improvise(chords, form, metre, scale, seed)
    return Sketch(keys[semitones % 12], metre, tempo, melody, chords, np.random.default_rng(seed))


def make_tune_sketch(tune: Tune, seed: int) -> Sketch:
    """Make the sketch of a tune entered by hand."""
    metre = METRES[tune.metre]
    melody, chords = parse_line(tune.melody, metre), parse_chords(tune.chords, metre)
    return Sketch(tune.key, metre, tune.quarters_per_minute, melody, chords, np.random.default_rng(seed))


def make_corpus() -> Iterator[tuple[str, Piece]]:
    """Yield the name and the music of every piece of the corpus."""
    for seed, tune in enumerate(TUNES):
        yield tune.name, STYLES[tune.style](make_tune_sketch(tune, seed))
    for seed, row in enumerate(GENERATED):
        style, progression, *_ = row
        yield f"{style}_{progression}_{seed + 1:02}", STYLES[style](generate_sketch(row, seed))
