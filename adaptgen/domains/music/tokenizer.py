"""Notes on the bar grid to tokens and back, through MidiTok's REMI with programs (REMI+, arXiv:2201.10936).

A bar is `Bar TimeSig`, then for each part that plays in it `Program`, then for each of its onsets `Position`, then
for each note `Pitch Velocity Duration` (drums: `PitchDrum Velocity`). Three choices on top of MidiTok:

- A bar's length stands in its TimeSig token as a number of sixteenths, so that 7/8 and a pick-up bar use the same
  twelve steps a quarter as 4/4 does. (MidiTok's own grid is finer in 6/8 than in 3/4.)
- Within a bar notes stand part by part, as in MMM (arXiv:2008.06048), not onset by onset: a part's figure stays in
  one piece, which is what music repeats, and fewer Program tokens are needed.
- Parts that share a program are told apart by programs that nobody uses, of the same General MIDI family as far
  as there are any: the three piano tracks of a song are programs 0, 1 and 2 to the model. `PartNames` keeps who
  is who.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from symusic import Note as SymusicNote
from symusic import Score, TimeSignature, Track

from adaptgen.domains.base import Tokenizer
from adaptgen.domains.music.grid import (
    CELL_STEPS,
    DURATIONS,
    STEPS_PER_BEAT,
    STEPS_PER_SIXTEENTH,
    Grid,
    GridNote,
)
from adaptgen.domains.music.song import Part
from adaptgen.errors import CheckpointError, RecipeError

__all__ = ["DRUMS", "NUM_PROGRAMS", "MusicTokenizer", "PartNames", "VoicedNote"]

FORMAT = "bar, part, step, pitch"
"""The order in which notes are written; part of the fingerprint."""
DRUMS = -1
"""The program token of drums."""
DEFAULT_NUM_VELOCITIES = 16
FAMILY_SIZE = 8
NUM_PROGRAMS = 128
FILE_NAME = "tokenizer.json"


class VoicedNote(NamedTuple):
    """A note as tokens say it: cell counted from the first Bar token, program token, place in steps."""

    cell: int
    program: int
    position: int
    duration: int
    pitch: int
    velocity: int


class PartNames:
    """Which program token stands for which parts of a song, in the order in which they are written.

    Args:
        parts: the parts of a song. Drum parts share one token.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.token_of: list[int] = []
        taken: set[int] = set()
        for part in parts:
            token = DRUMS if part.is_drums else self._free_token(part.program, taken)
            taken.add(token)
            self.token_of.append(token)

    @staticmethod
    def _free_token(program: int, taken: set[int]) -> int:
        family = program - program % FAMILY_SIZE
        own = (family + (program + shift) % FAMILY_SIZE for shift in range(FAMILY_SIZE))
        anywhere = ((program + shift) % NUM_PROGRAMS for shift in range(NUM_PROGRAMS))
        for token in (*own, *anywhere):
            if token not in taken:
                return token
        return program

    @property
    def tokens(self) -> list[int]:
        """The program tokens in use, in writing order: melodic parts as they come, drums last."""
        melodic = dict.fromkeys(token for token in self.token_of if token != DRUMS)
        return [*melodic, *([DRUMS] if DRUMS in self.token_of else [])]


class MusicTokenizer(Tokenizer):
    """MidiTok's REMI with the choices that this module's docstring lists.

    Args:
        num_velocities: levels of loudness.
        find_beats: read music that was played without a click on the beats found in it, not on those of its file.

    Attributes:
        remi: the MidiTok tokenizer.
        ids: token id by MidiTok's token name, such as `Pitch_60`.
    """

    unit_name = "note"

    def __init__(self, *, num_velocities: int = DEFAULT_NUM_VELOCITIES, find_beats: bool = True) -> None:
        # MidiTok imports torch, which takes seconds that `render` and `recipes validate` do without.
        from miditok import REMI, TokenizerConfig

        sixteenths = CELL_STEPS // STEPS_PER_SIXTEENTH
        self.options = {"num_velocities": num_velocities, "find_beats": find_beats}
        self.find_beats = find_beats
        self.remi = REMI(
            TokenizerConfig(
                pitch_range=(0, 127),
                beat_res={(0, 8): STEPS_PER_SIXTEENTH, (8, DURATIONS[-1] // STEPS_PER_SIXTEENTH): 1},
                num_velocities=num_velocities,
                special_tokens=["PAD", "BOS"],
                use_programs=True,
                one_token_stream_for_programs=True,
                programs=[DRUMS, *range(NUM_PROGRAMS)],
                use_note_duration_programs=list(range(NUM_PROGRAMS)),
                use_time_signatures=True,
                # MidiTok wants 4/4 to be there; it is never written.
                time_signature_range={4: [4], 16: list(range(1, sixteenths + 1))},
                use_pitchdrum_tokens=True,
            )
        )
        assert self.remi.time_division == STEPS_PER_BEAT
        self.ids: dict[str, int] = self.remi.vocab
        self.names = {token_id: name for name, token_id in self.ids.items()}
        self.bar = self.ids["Bar_None"]
        self.begin = self.ids["BOS_None"]
        kinds = [self.names[token_id].split("_")[0] for token_id in range(len(self.ids))]
        self.kinds = np.array(kinds)
        self.values = [self.names[token_id].split("_", 1)[1] for token_id in range(len(self.ids))]
        self.steps_of_duration = {
            self.ids[f"Duration_{'.'.join(map(str, value))}"]: self._steps(value) for value in self.remi.durations
        }
        self.duration_ids = np.array(sorted(i for i, steps in self.steps_of_duration.items() if steps in DURATIONS))
        assert len(self.duration_ids) == len(DURATIONS)
        self.position_ids = [self.ids[f"Position_{step}"] for step in range(CELL_STEPS)]
        self.velocity_ids = np.flatnonzero(self.kinds == "Velocity")

    @staticmethod
    def _steps(value: tuple[int, int, int]) -> int:
        beats, part, resolution = value
        return (beats * resolution + part) * STEPS_PER_SIXTEENTH // resolution

    @property
    def vocab_sizes(self) -> tuple[int, ...]:
        return (len(self.ids),)

    @property
    def fingerprint(self) -> str:
        beats = [] if self.find_beats else ["beats of the file"]
        description = json.dumps([FORMAT, list(self.ids), DURATIONS, STEPS_PER_BEAT, *beats])
        return hashlib.sha256(description.encode()).hexdigest()[:16]

    def encode(
        self, parts: Sequence[tuple[int, Sequence[GridNote]]], *, grid: Grid, first_bar: int, stop_bar: int
    ) -> np.ndarray:
        """Tokens of a range of bars, without the begin token.

        Args:
            parts: program token and notes of each part, in writing order; notes outside the range are left out.
            grid: the bars.
            first_bar, stop_bar: the range, from the first to before the last; every bar gets its Bar token.

        Returns:
            int64 `[1, T]`.
        """
        cells = grid.layout(first_bar, stop_bar)
        lengths = [-(-cell.num_steps // STEPS_PER_SIXTEENTH) for cell in cells]
        starts = [0, *accumulate(length * STEPS_PER_SIXTEENTH for length in lengths)]
        metres = [
            TimeSignature(start, length, 16)
            for index, (start, length) in enumerate(zip(starts, lengths, strict=False))
            if index == 0 or length != lengths[index - 1]
        ]
        bar_times: dict[int, tuple[int, int]] = {}
        for index, cell in enumerate(cells):
            steps = 0
            for bar in range(cell.first_bar, cell.first_bar + cell.num_bars):
                bar_times.setdefault(bar, (index, steps))
                steps += grid.num_steps(bar)
        contents: list[list[int]] = [[self.bar, self.bar_length_id(cell.num_steps)] for cell in cells]
        for program, notes in parts:
            track = Track(program=max(program, 0), is_drum=program == DRUMS)
            for bar, position, duration, pitch, velocity in notes:
                if bar in bar_times and bar < stop_bar:
                    index, offset = bar_times[bar]
                    further, step = divmod(offset + position, CELL_STEPS)
                    track.notes.append(SymusicNote(starts[index + further] + step, duration, pitch, velocity))
            for content, written in zip(contents, self._encode_part(track, metres), strict=False):
                if written:
                    content += [self.ids[f"Program_{program}"], *written]
        return np.array([[token for content in contents for token in content]], dtype=np.int64)

    def _encode_part(self, track: Track, metres: list[TimeSignature]) -> list[list[int]]:
        """What MidiTok writes for one part in each cell up to its last note, without bars and programs."""
        if not track.notes:
            return []
        score = Score(STEPS_PER_BEAT)
        score.time_signatures.extend(metres)
        score.tracks.append(track)
        cells: list[list[int]] = []
        for token in self.remi.encode(score).ids:
            if token == self.bar:
                cells.append([])
            elif self.kinds[token] not in ("TimeSig", "Program"):
                cells[-1].append(token)
        return cells

    def pitch_ids(self, *, is_drums: bool) -> np.ndarray:
        """Token of each of the 128 pitches, -1 where there is none."""
        kind = "PitchDrum" if is_drums else "Pitch"
        return np.array([self.ids.get(f"{kind}_{pitch}", -1) for pitch in range(128)])

    def velocity_id(self, velocity: int) -> int:
        """The token of the level that is nearest to a velocity."""
        return int(self.velocity_ids[np.abs(self.remi.velocities - velocity).argmin()])

    def bar_length_id(self, steps: int) -> int:
        """The token that follows Bar for a cell of so many steps."""
        return self.ids[f"TimeSig_{-(-steps // STEPS_PER_SIXTEENTH)}/16"]

    def _restore_programs(self, ids: Iterable[int]) -> list[int]:
        """As MidiTok writes it: a Program before every pitch."""
        result, current = [], None
        for token in ids:
            kind = self.kinds[token]
            if kind == "Program":
                current = token
                continue
            if kind in ("Pitch", "PitchDrum"):
                assert current is not None, "a Program stands before the first note of a bar"
                result.append(current)
            result.append(int(token))
        return result

    def decode(self, tokens: np.ndarray) -> list[VoicedNote]:
        """Notes of complete tokens `[1, T]` that begin with a Bar, in writing order."""
        ids = [int(token) for token in tokens[0] if token != self.begin]
        cell_starts, time = [], 0
        for token in ids:
            if self.kinds[token] == "TimeSig":
                cell_starts.append(time)
                time += int(self.values[token].split("/")[0]) * STEPS_PER_SIXTEENTH
        restored = self._restore_programs(ids)
        if not any(self.kinds[token] in ("Pitch", "PitchDrum") for token in restored):
            return []
        score = self.remi.decode(restored)
        notes = []
        for track in score.tracks:
            program = DRUMS if track.is_drum else track.program
            for note in track.notes:
                cell = int(np.searchsorted(cell_starts, note.time, side="right")) - 1
                position = note.time - cell_starts[cell]
                notes.append(VoicedNote(cell, program, position, note.duration, note.pitch, note.velocity))
        return sorted(notes, key=lambda note: (note.cell, note.position, note.program, note.pitch))

    def count_units(self, tokens: np.ndarray) -> int:
        return int(np.isin(self.kinds[tokens[0]], ("Pitch", "PitchDrum")).sum())

    def describe(self, tokens: np.ndarray) -> list[str]:
        return [self.names[int(token)] for token in tokens[0]]

    def kinds_of(self, tokens: np.ndarray) -> list[str]:
        return self.kinds[tokens[0]].tolist()

    def heights_of(self, tokens: np.ndarray) -> np.ndarray:
        is_note = np.isin(self.kinds[tokens[0]], ("Pitch", "PitchDrum"))
        return np.array(
            [float(self.values[token]) if note else np.nan for token, note in zip(tokens[0], is_note, strict=True)]
        )

    def to_options(self) -> dict[str, Any]:
        return dict(self.options)

    @classmethod
    def check_options(cls, options: dict[str, Any]) -> None:
        unknown = sorted(set(options) - {"num_velocities", "find_beats"})
        if unknown:
            raise RecipeError(
                f"unknown key 'tokenizer.{unknown[0]}'", "The music tokenizer has num_velocities and find_beats"
            )
        levels = options.get("num_velocities", DEFAULT_NUM_VELOCITIES)
        if type(levels) is not int or not 1 <= levels <= 127:
            raise RecipeError(f"tokenizer.num_velocities is {levels!r}", "Give a whole number from 1 to 127")
        if not isinstance(options.get("find_beats", True), bool):
            raise RecipeError(f"tokenizer.find_beats is {options['find_beats']!r}", "Give true or false")

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> MusicTokenizer:
        cls.check_options(options)
        return cls(**options)

    def save(self, folder: Path) -> None:
        self.remi.save(folder, filename=FILE_NAME)

    @classmethod
    def load(cls, folder: Path, options: dict[str, Any]) -> MusicTokenizer:
        from miditok import REMI

        tokenizer = cls.from_options(options)
        try:
            stored = REMI(params=folder / FILE_NAME).vocab
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{folder / FILE_NAME} cannot be read: {error}", "Get the checkpoint again") from None
        if stored != tokenizer.ids:
            raise CheckpointError(
                f"{folder / FILE_NAME} has {len(stored)} tokens that are not the {len(tokenizer.ids)} of its options",
                "Get the checkpoint again",
            )
        return tokenizer
