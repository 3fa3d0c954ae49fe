"""MIDI files as training documents, and how they are varied."""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path

import numpy as np

from adaptgen.domains.music.grid import STEPS_PER_BEAT, Grid, estimate_phase
from adaptgen.domains.music.retime import retime
from adaptgen.domains.music.song import PIANO_PITCHES, Part, Song, read_song
from adaptgen.domains.music.tokenizer import DRUMS, NUM_PROGRAMS, MusicTokenizer, PartNames, VoicedNote
from adaptgen.errors import InputFileError

__all__ = ["augment", "check_roundtrip", "grid_of", "read_documents", "tokenize_bars", "transposed"]

MAX_DOCUMENT_BARS = 20_000
"""From the first note of a file to the last; one with more is not read."""
FILES_PER_MERGED = 3
"""Of so many files with several parts of one program, chosen by their names, one is also learned with those parts
merged into one, as a pianist's single track is."""
LARGEST_SHIFT = 6
NEW_PROGRAMS_SHARE = 0.25
"""How often the programs of a training document are exchanged for random ones, so that the model reads a program
token as a part's name and meets all of them."""
NEW_DRUMS_SHARE = 0.2
"""How often the drums of a training document are exchanged for random ones in the same order, low to high, so that the
model reads from a pattern what a drum does, and goes on with drums that few songs have."""
DRUM_PITCHES = range(27, 88)
"""Drums of General MIDI 2."""
FEWER_PARTS_SHARE = 0.25
"""How often parts of a training document are left out, so that the model hears how a few parts of a band go together,
and more bars of them at once."""
ADDED_DRUMS_SHARE = 0.25
"""How often a training document without drums gets another one's."""


def grid_of(song: Song, *, anchor: int | None = None) -> Grid:
    """The song's bars in steps, shifted to where its notes stand; `anchor` as of `Grid`."""
    starts = [note.start for part in song.parts for note in part.notes]
    return Grid(song.bars, phase=estimate_phase(starts, song.bars), anchor=anchor)


def tokenize_bars(
    parts: list[Part], grid: Grid, tokenizer: MusicTokenizer, *, first_bar: int, stop_bar: int
) -> np.ndarray:
    """Tokens `[1, T]` of a range of bars of some parts, without the begin token."""
    names = PartNames(parts)
    notes = {token: [] for token in names.tokens}
    for part, token in zip(parts, names.token_of, strict=True):
        notes[token].extend(note._replace(pitch=part.sound_of(note.pitch)) for note in part.notes)
    voices = [(token, grid.quantize(notes[token])) for token in names.tokens]
    return tokenizer.encode(voices, grid=grid, first_bar=first_bar, stop_bar=stop_bar)


def read_documents(path: Path, tokenizer: MusicTokenizer, *, is_training: bool) -> list[np.ndarray]:
    """The song of a file as tokens; for training sometimes a second time with parts merged."""
    song = _read_in_time(path, tokenizer)
    grid = grid_of(song)
    first_bar, stop_bar = _bar_range(song, grid, path)
    variants = [song.parts]
    if is_training:
        merged = _merge_same_programs(song.parts)
        digest = hashlib.sha256(os.fsencode(path.name)).digest()
        if len(merged) < len(song.parts) and digest[0] % FILES_PER_MERGED == 0:
            variants.append(merged)
    begin = np.array([[tokenizer.begin]], dtype=np.int64)
    documents = [tokenize_bars(parts, grid, tokenizer, first_bar=first_bar, stop_bar=stop_bar) for parts in variants]
    return [np.concatenate([begin, tokens], axis=1) for tokens in documents]


def check_roundtrip(path: Path, tokenizer: MusicTokenizer) -> dict[str, int | float]:
    """Compare each of a file's notes with one that its tokens say: of the same part and pitch, of nearest onset."""
    song = _read_in_time(path, tokenizer)
    grid = grid_of(song)
    first_bar, stop_bar = _bar_range(song, grid, path)
    tokens = tokenize_bars(song.parts, grid, tokenizer, first_bar=first_bar, stop_bar=stop_bar)
    cells = [(cell.first_bar, cell.first_step) for cell in grid.layout(first_bar, stop_bar)]
    decoded: dict[tuple[int, int], list[VoicedNote]] = {}
    for note in tokenizer.decode(tokens):
        decoded.setdefault((note.program, note.pitch), []).append(note)
    step = song.ticks_per_beat / STEPS_PER_BEAT
    onset_errors, duration_errors, velocity_errors = [], [], []
    for part, token in zip(song.parts, PartNames(song.parts).token_of, strict=True):
        for note in part.notes:
            pitch = part.sound_of(note.pitch)
            candidates = decoded.get((token, pitch), [])
            found = [
                (abs(grid.tick(bar, offset + other.position) - note.start), other)
                for other in candidates
                for bar, offset in [cells[other.cell]]
            ]
            error, nearest = min(found, key=lambda item: item[0], default=(math.inf, None))
            if nearest is None or error > step:
                continue
            candidates.remove(nearest)
            onset_errors.append(error / song.ticks_per_beat)
            velocity_errors.append(abs(nearest.velocity - note.velocity))
            if token != DRUMS:
                duration_errors.append(abs(nearest.duration * step - (note.end - note.start)) / song.ticks_per_beat)
    return {
        "notes": song.num_notes,
        "notes_lost": song.num_notes - len(onset_errors),
        "tokens": tokens.shape[1],
        "tokens_per_note": round(tokens.shape[1] / song.num_notes, 2),
        "grid_shift_beats": round(grid.phase, 4),
        "onset_error_beats_mean": round(float(np.mean(onset_errors or [0])), 4),
        "onset_error_beats_max": round(max(onset_errors, default=0.0), 4),
        "duration_error_beats_mean": round(float(np.mean(duration_errors or [0])), 4),
        "velocity_error_mean": round(float(np.mean(velocity_errors or [0])), 2),
    }


def _read_in_time(path: Path, tokenizer: MusicTokenizer) -> Song:
    """The song of a file, on beats that are found in it where it has none of its own."""
    song = read_song(path)
    retimed = retime(song) if tokenizer.find_beats else None
    return retimed.song if retimed else song


def _bar_range(song: Song, grid: Grid, path: Path) -> tuple[int, int]:
    """The first bar of a file in which a note begins, and the bar after the last."""
    starts = [grid.place(note.start)[0] for part in song.parts for note in part.notes]
    first_bar, stop_bar = min(starts), max(starts) + 1
    if stop_bar - first_bar > MAX_DOCUMENT_BARS:
        raise InputFileError(f"{path} has {stop_bar - first_bar} bars; {MAX_DOCUMENT_BARS} are read")
    return first_bar, stop_bar


def _merge_same_programs(parts: list[Part]) -> list[Part]:
    merged: dict[int, Part] = {}
    for part in parts:
        key = -1 if part.is_drums else part.program
        target = merged.setdefault(key, Part(part.track, part.channel, part.program))
        target.notes.extend(part.notes)
    return list(merged.values())


def augment(tokenizer: MusicTokenizer, tokens: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vary a training sequence: transpose each document, and now and then change who plays.

    A document is shifted by a number of semitones drawn from those of at most a tritone that keep every note on a
    piano's keys (or within the range the document has already). At times its programs and its drums are exchanged for
    others, some of its parts are left out, and `other`'s drums are played to it if it has none: corpora of songs and
    corpora of drumming are often different ones, and what is never heard together is not continued together. Tempo is
    no token, so playing faster or slower would change nothing.
    """
    row = tokens[0].copy()
    starts = np.flatnonzero(row == tokenizer.begin)
    segments = np.split(row, starts[starts > 0])
    for segment in segments:
        _transpose(segment, tokenizer, rng)
        if rng.random() < NEW_PROGRAMS_SHARE:
            _exchange_programs(segment, tokenizer, rng)
        if rng.random() < NEW_DRUMS_SHARE:
            _exchange_drums(segment, tokenizer, rng)
    row = np.concatenate(
        [_leave_parts_out(s, tokenizer, rng) if rng.random() < FEWER_PARTS_SHARE else s for s in segments]
    )
    if rng.random() < ADDED_DRUMS_SHARE:
        row = _add_drums(row, other[0], tokenizer)
    if len(row) < tokens.shape[1]:
        bars = np.flatnonzero(other[0] == tokenizer.bar)
        row = np.concatenate([row, [tokenizer.begin], other[0, bars[0] if len(bars) else 0 :]])
        row = np.resize(row, max(len(row), tokens.shape[1]))
    return row[None, : tokens.shape[1]]


def transposed(tokenizer: MusicTokenizer, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A sequence of one document in another key, or by chance in the same; see `augment`."""
    row = tokens[0].copy()
    _transpose(row, tokenizer, rng)
    return row[None]


def _transpose(segment: np.ndarray, tokenizer: MusicTokenizer, rng: np.random.Generator) -> None:
    is_pitch = tokenizer.kinds[segment] == "Pitch"
    if is_pitch.any():
        pitches = segment[is_pitch] - tokenizer.ids["Pitch_0"]
        down = max(-LARGEST_SHIFT, min(0, PIANO_PITCHES[0] - int(pitches.min())))
        up = min(LARGEST_SHIFT - 1, max(0, PIANO_PITCHES[-1] - int(pitches.max())))
        segment[is_pitch] += rng.integers(down, up + 1)


def _exchange_programs(segment: np.ndarray, tokenizer: MusicTokenizer, rng: np.random.Generator) -> None:
    first = tokenizer.ids["Program_0"]
    is_program = (segment >= first) & (segment < first + NUM_PROGRAMS)
    segment[is_program] = first + rng.permutation(NUM_PROGRAMS)[segment[is_program] - first]


def _exchange_drums(segment: np.ndarray, tokenizer: MusicTokenizer, rng: np.random.Generator) -> None:
    """Notes of a chord stand in the order of their pitches, and so do those that come in their place."""
    ids = tokenizer.pitch_ids(is_drums=True)
    old = np.unique(segment[tokenizer.kinds[segment] == "PitchDrum"])
    if 0 < len(old) <= len(DRUM_PITCHES):
        new = np.sort(rng.choice(ids[DRUM_PITCHES.start : DRUM_PITCHES.stop], len(old), replace=False))
        is_drum = np.isin(segment, old)
        segment[is_drum] = new[np.searchsorted(old, segment[is_drum])]


def _leave_parts_out(segment: np.ndarray, tokenizer: MusicTokenizer, rng: np.random.Generator) -> np.ndarray:
    """A document with some of its parts, at least one; what stands before its first Program stays."""
    kinds = tokenizer.kinds[segment]
    programs = np.unique(segment[kinds == "Program"])
    if len(programs) < 2:
        return segment
    kept = rng.choice(programs, rng.integers(1, len(programs)), replace=False)
    owners = np.where(kinds == "Program", segment, np.where(np.isin(kinds, ("BOS", "Bar")), -1, 0))
    said = np.flatnonzero(owners)
    last_said = np.searchsorted(said, np.arange(len(segment)), side="right") - 1
    owner = np.where(last_said >= 0, owners[said[last_said]], -1)
    return segment[(owner == -1) | np.isin(owner, kept)]


def _add_drums(row: np.ndarray, other: np.ndarray, tokenizer: MusicTokenizer) -> np.ndarray:
    """Play the drums of one sequence to another that has none, bar by bar, as long as the bars are equally long.

    The first and the last bar of a sequence are parts of bars, as a rule, and are left out.
    """
    drums = tokenizer.ids[f"Program_{DRUMS}"]
    if drums in row or drums not in other:
        return row
    played = []
    drum_bars = iter(_split_bars(other, tokenizer)[1:-1])
    *bars, last = _split_bars(row, tokenizer)
    for bar in bars:
        played.append(bar)
        if bar[0] != tokenizer.bar:
            continue
        drum_bar = next(drum_bars, None)
        if drum_bar is None or not np.array_equal(bar[:2], drum_bar[:2]):
            drum_bars = iter(())
        elif drums in drum_bar:
            played.append(drum_bar[np.flatnonzero(drum_bar == drums)[0] :])
    return np.concatenate([*played, last])


def _split_bars(row: np.ndarray, tokenizer: MusicTokenizer) -> list[np.ndarray]:
    """Bars, what is left of a first one, and begin tokens."""
    cuts = np.flatnonzero((row == tokenizer.bar) | (row == tokenizer.begin))
    return np.split(row, cuts[cuts > 0])
