"""Compose the example MIDI files: a song, a band piece, a waltz and a small training corpus.

Run `python examples/compose.py examples/` to write them again. The same bytes come out every time: the
hand-written music is fixed, and what is generated draws from seeded generators.

The music and this script were written for this project. Both are dedicated to the public domain under
CC0 1.0 (https://creativecommons.org/publicdomain/zero/1.0/). The notations are explained in `score.py`.
"""

import argparse
from pathlib import Path

import numpy as np
from corpus import make_corpus
from score import (
    COMMON,
    DRUM_CHANNEL,
    PAN,
    TICKS_PER_STEP,
    VOLUME,
    WALTZ,
    Metre,
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
    write,
)

PIANO = 0


def compose_song() -> Piece:
    """A pop song in G: a hook, its answer, and a rise that stops on the dominant seventh."""
    rng = np.random.default_rng(92)
    chords = parse_chords(
        """G | D/F# | Em7 | C | G | D/F# | Em7 | C D |
           C | G/B | Am7 | D7sus4 D7""",
        COMMON,
    )
    melody = """2 r G4 B4 D5 3 E5 D5 2 B4 | 6 A4 2 B4 8 A4 |
                2 r G4 B4 D5 3 E5 D5 2 G5 | 3 E5 D5 2 C5 8 D5 |
                2 r G4 B4 D5 3 E5 D5 2 B4 | 3 A4 B4 2 A4 8 F#4 |
                2 r E4 G4 B4 3 D5 B4 2 A4 | 6 G4 2 E4 4 F#4 2 A4 B4 |
                3 E5 D5 2 C5 r C5 D5 E5 | 3 G5 F#5 2 D5 8 B4 |
                2 r C5 E5 G5 3 A5 G5 2 E5 | 6 G5 2 E5 8 F#5"""
    answer = """16 r | 8 r 3 D5 F#5 2 A5 | 16 r | 8 r 3 G5 A5 2 G5 |
                16 r | 8 r 3 A5 F#5 2 D5 | 16 r | 8 r 4 A5 F#5 |
                12 G4 4 A4 | 8 B4 G4 | 8 A4 C5 | 6 C5 2 A4 8 C5"""
    low_bass, bass = ("B.......B.......", 36), ("B.....B.O...F...", 36)
    calm, moving, full = ("..0.1.2...1.2.1.", 50), ("..0.1.2.1.0.2.1.", 50), ("x..x..x.x..x..x.", 52)
    piano = play_layers(chords[:4], [low_bass, calm])
    piano += play_layers(chords[4:9], [low_bass, moving])
    piano += play_layers(chords[9:], [bass, full])
    return Piece(
        [
            Part("MELODY", 0, PIANO, shape(parse_line(melody, COMMON), 100, COMMON, rng)),
            Part("BRIDGE", 1, PIANO, shape(parse_line(answer, COMMON), 72, COMMON, rng)),
            Part("PIANO", 2, PIANO, shape(piano, 52, COMMON, rng), pedal(chords)),
        ],
        "G", 92, [(0, COMMON)],
    )  # fmt: skip


def compose_band() -> Piece:
    """A soul groove in D minor for twelve tracks: the sax leads, then the synthesizer, over a build."""
    rng = np.random.default_rng(112)
    chords = parse_chords("Dm7 | G7 | Dm7 | G7 | Bb | C | Gm7 | A7sus4 A7", COMMON)
    second_half = 4 * COMMON.bar_steps
    sax = """4 D5 2 r 1 C5 D5 3 F5 D5 2 C5 | 6 B4 2 r D5 C5 1 B4 C5 2 B4 | 4 D5 2 r 1 C5 D5 3 F5 G5 2 A5 |
             6 G5 2 F5 8 D5 | 16 r | 16 r | 16 r | 8 r 2 A4 C#5 E5 G5"""
    lead = "6 F5 2 A5 6 D6 2 C6 | 4 C6 2 Bb5 G5 8 E5 | 6 G5 2 Bb5 6 D6 2 C6 | 8 D6 C#6"
    strings = "16 A4 | B4 | A4 | B4 | D5 | E5 | F5 | E5"
    scoop_ticks = (second_half + 2 * COMMON.bar_steps + 8) * TICKS_PER_STEP
    scoop = [(scoop_ticks + 60 * index, 1024 * (index - 4)) for index in range(5)]
    kit = drum(
        {
            49: "X" + "." * 63,
            36: "X.....x.x.x.....X.....x.x....x..X.....x.x.x.....X.....x.x.......",
            38: "....X..o.o..X..o....X..o.o..X.......X..o.o..X..o....X..o....xxXx",
            42: "x.x.x.x.x.x.x.-.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.-.x.x.x.x.x.......",
            46: "..............x...............................x.................",
        },
        8,
    )
    hands = drum({70: "xoxoxoxoxoxoxoxo", 63: "......x.......xx", 64: "...x......x.....", 54: "....x.......x..."}, 8)
    bar = "-" * COMMON.bar_steps
    # Name, channel, program, volume, pan, level, notes.
    rows = [
        ("Bass", 0, 33, 104, 64, 90, play(chords, "B..B..O...F.B.O.B..B..O..-F.O...", 31)),
        ("Electric piano", 1, 5, 108, 48, 74, play(chords, "x..-..x-..x...-.", 55)),
        ("Muted guitar", 2, 28, 84, 24, 76, play(chords, "0-02-01-0-02-1--", 57)),
        ("Clean guitar", 3, 27, 88, 104, 72, play(chords, "----x-......x-.x", 62)),
        ("Organ", 4, 17, 92, 80, 72, play(chords[4:], "x...............", 60)),
        ("Strings", 5, 48, 100, 52, 76, parse_line(strings, COMMON)),
        ("Brass", 6, 61, 96, 76, 86, play(chords, f"{bar}------x.-.x.----{bar}--x-----x--x--x.", 58)),
        ("Sax", 7, 66, 108, 60, 96, parse_line(sax, COMMON)),
        ("Lead", 8, 81, 112, 68, 98, shift(parse_line(lead, COMMON), second_half)),
        ("Vibraphone", 10, 11, 88, 96, 76, play(chords, f"{bar}--------3..2..1.{bar}--------0.1.2.3.", 72)),
    ]
    parts = [Part("Drums", DRUM_CHANNEL, 0, kit, [(0, VOLUME, 96), (0, PAN, 64)])]
    for name, channel, program, volume, pan, level, notes in rows:
        bends = scoop if name == "Lead" else []
        controls = [(0, VOLUME, volume), (0, PAN, pan)]
        parts.append(Part(name, channel, program, shape(notes, level, COMMON, rng), controls, bends))
    parts.append(Part("Percussion", DRUM_CHANNEL, 0, hands))
    return Piece(parts, "Dm", 112, [(0, COMMON)], [(0, "Sax theme"), (second_half, "Synthesizer theme")])


def compose_waltz() -> Piece:
    """A piano waltz in F in one track; its upbeat is a bar of 1/4 of its own."""
    rng = np.random.default_rng(3)
    upbeat = Metre(1, 4)
    chords = parse_chords("F | Dm | Gm | C7 | F | D7/F# | Gm | C7 | F | Dm | Bb | Bbm | F/C | C7 | F | F", WALTZ)
    melody = """8 A5 2 G5 F5 | 8 F5 4 D5 | 8 Bb5 2 A5 G5 | 8 G5 4 E5 |
                4 F5 G5 A5 | 8 C6 2 Bb5 A5 | 4 Bb5 A5 G5 | 8 E5 2 C5 E5 |
                8 A5 2 G5 F5 | 8 F5 4 D5 | 8 D6 2 C6 Bb5 | 8 Db6 4 Bb5 |
                4 C6 A5 F5 | 6 Bb5 2 G5 4 E5 | 4 F5 C5 A4 | 8 F5 4 r"""
    inner = """12 C5 | A4 | D5 | C5 | A4 | D5 | D5 | 8 Bb4 4 r |
               12 C5 | A4 | F5 | F5 | 4 r F5 C5 | 12 C5 | 4 A4 r r | 8 A4 4 r"""
    left = play_layers(chords, [("B...........", 36), ("----x...x...", 53)])
    right = shape(parse_line(melody, WALTZ), 86, WALTZ, rng) + shape(parse_line(inner, WALTZ), 62, WALTZ, rng)
    opening = shape(parse_line("2 C5 E5", upbeat), 74, WALTZ, rng)
    notes = opening + shift(right + shape(left, 56, WALTZ, rng), upbeat.bar_steps)
    part = Part("PIANO", 0, PIANO, notes, pedal(chords, upbeat.bar_steps))
    return Piece([part], "F", 152, [(0, upbeat), (upbeat.bar_steps, WALTZ)])


def main() -> None:
    parser = argparse.ArgumentParser(description="Compose the example MIDI files.")
    parser.add_argument("folder", type=Path, help="where to write them")
    folder = parser.parse_args().folder
    write(folder / "song.mid", compose_song())
    write(folder / "band.mid", compose_band())
    write(folder / "waltz.mid", compose_waltz())
    for name, piece in make_corpus():
        write(folder / "corpus" / f"{name}.mid", piece)


if __name__ == "__main__":
    main()
