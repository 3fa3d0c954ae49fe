"""A MIDI file to be continued: reading, cutting, planning, and joining what was drawn to what was there."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np

from adaptgen.domains.base import Continuation, ContinuationRequest, Prompt
from adaptgen.domains.music import splice
from adaptgen.domains.music.beats import METRES
from adaptgen.domains.music.corpus import grid_of, tokenize_bars
from adaptgen.domains.music.feel import Feel, PlayedNote, keep_apart, straighten
from adaptgen.domains.music.grammar import MusicGrammar
from adaptgen.domains.music.grid import Grid
from adaptgen.domains.music.loops import find_loops
from adaptgen.domains.music.pedal import find_pedallings, pedal
from adaptgen.domains.music.plan import MAX_NEW_BARS, Plan, Slot, find_join_bar
from adaptgen.domains.music.render import check_sound, encode_wav, render
from adaptgen.domains.music.retime import Retimed, retime
from adaptgen.domains.music.song import Part, Song, interpret, read_song
from adaptgen.domains.music.timing import TempoMap, read_tempos, tempo_before_slowing
from adaptgen.domains.music.tokenizer import MusicTokenizer
from adaptgen.errors import InputFileError, UsageError
from adaptgen.paths import printable

__all__ = ["MusicPrompt"]

KNOWN = ("bars", "seconds", "from_bar", "metre", "soundfont", "picture")
OF_THE_FILE = "file"
DEFAULT_BARS = 16
MAX_SECONDS = 86_400


class MusicPrompt(Prompt):
    """One MIDI file and what is to be added to it.

    Args:
        path: the file.
        tokenizer: of the model.
        request: how much to add, from where.
        window: how many of the prompt's last tokens will be looked at.
    """

    def __init__(self, path: Path, tokenizer: MusicTokenizer, request: ContinuationRequest, *, window: int) -> None:
        self.path, self.tokenizer, self.request = path, tokenizer, request
        _check_length(request)
        self.song = read_song(path)
        self._retimed = self._find_beats()
        if self._retimed is not None:
            self.song = self._retimed.song
        if request.from_bar is None:
            join_bar = find_join_bar(self.song)
        else:
            join_bar = request.from_bar - 1
            _check_from_bar(self.song, join_bar, path)
            self._cut(join_bar)
        self.grid = grid_of(self.song, anchor=join_bar)
        bars, start = self.song.bars, self.song.bars.start(join_bar)
        self._restored_tempo = None if self._retimed else tempo_before_slowing(self.song.midi, bars, join_bar)
        if self._restored_tempo is not None:
            midi = splice.with_tempo(self.song.midi, start, self._restored_tempo)
            self.song = replace(self.song, midi=midi, tempo=TempoMap(read_tempos(midi), midi.ticks_per_beat))
        if request.seconds is not None:
            stop, self._file_stop = self._after(start, request.seconds)
            if stop <= start:
                raise UsageError(
                    f"--seconds {request.seconds} is shorter than one tick of {path}", "Give a longer time"
                )
        else:
            stop = bars.start(join_bar + (request.bars or DEFAULT_BARS))
            self._file_stop = self._retimed.line_tick(stop) if self._retimed else stop
        meant = [replace(part, notes=sorted(straighten(part, self.grid))) for part in self.song.parts]
        drums = [note for part in meant if part.is_drums for note in part.notes]
        loops = find_loops(drums, self.grid, join_bar=join_bar)
        self.plan = Plan.make(self.song, self.grid, join_bar=join_bar, stop=stop, loops=loops)
        if request.sound:
            end_seconds = self.song.tempo.seconds(stop) - (self.song.tempo.seconds(start) if request.new_only else 0.0)
            check_sound(self._splice([], []), end_seconds=end_seconds, soundfont=request.soundfont)
        self._tokens = recent_tokens(meant, self.grid, tokenizer, stop_bar=join_bar, window=window)

    @property
    def tokens(self) -> np.ndarray:
        return self._tokens

    def new_grammar(self) -> MusicGrammar:
        return MusicGrammar(self.tokenizer, self.plan)

    def complete(self, new_tokens: np.ndarray, *, seed: Sequence[int] = (0, 0)) -> Continuation:
        plan = self.plan
        players = {
            slot.program_token: _Player(
                slot,
                self.tokenizer,
                plan,
                self.grid,
                has_one_voice=habits.has_one_voice,
                rng=np.random.default_rng((*seed, index)),
            )
            for index, (slot, habits) in enumerate(zip(plan.slots, plan.habits, strict=True))
        }
        for cell, program, position, duration, pitch, velocity in self.tokenizer.decode(new_tokens):
            start = plan.cells[cell].ticks[position]
            players[program].play(start, duration, pitch, velocity)
        notes = keep_apart([note for player in players.values() for note in player.notes], plan, self.grid)
        pedal_moves = pedal(find_pedallings(self.song.midi, start=plan.start), notes, plan)
        midi = self._splice(notes, pedal_moves)
        files = {".mid": _midi_bytes(midi)}
        if self.request.sound:
            files[".wav"] = encode_wav(render(midi, soundfont=self.request.soundfont))
        tempo = self.song.tempo
        if self.request.picture:
            # matplotlib takes about as long to import as all the rest.
            from adaptgen.domains.music.pianoroll import draw_pianoroll

            join_seconds = 0.0 if self.request.new_only else tempo.seconds(plan.start)
            # Bar lines are to be those that were found, not those of the file.
            drawn = midi if self._retimed is None or self.request.new_only else self._merge(notes, pedal_moves)
            files[".png"] = draw_pianoroll(drawn, join_seconds=join_seconds, title=printable(self.path.name))
        first_bar = self.song.bars.index(plan.start)
        summary = {
            "first_new_bar": first_bar + 1,
            "bars": plan.num_bars,
            "notes": len(notes),
            "seconds": round(tempo.seconds(plan.stop) - tempo.seconds(plan.start), 3),
        }
        if self.song.bars.start(first_bar + 1) - plan.start <= self.song.ticks_per_beat:
            summary["metre"] = "the file's bars are one beat long"
        if self._retimed is not None:
            tempo_words = f"{self._retimed.quarters_per_minute:.0f} quarter notes a minute"
            summary["beats"] = f"found in the playing: {self._retimed.beats.metre.name}, in the end {tempo_words}"
        if self._restored_tempo is not None:
            per_minute = 60e6 / self._restored_tempo
            summary["tempo"] = f"{per_minute:.0f} quarter notes a minute, as before the song slows down at its end"
        return Continuation(files=files, summary=summary)

    def _find_beats(self) -> Retimed | None:
        """The song on beats that are found in it, where that is asked for, or nothing is and it has none of its own."""
        wish = self.request.metre
        if wish is None:
            return retime(self.song) if self.tokenizer.find_beats else None
        if wish == OF_THE_FILE:
            return None
        metres = {metre.name: metre for metre in METRES}
        if wish not in metres:
            raise UsageError(f"--metre is {printable(wish)}", f"Give {', '.join(metres)} or {OF_THE_FILE}")
        retimed = retime(self.song, metres[wish])
        if retimed is None:
            raise InputFileError(
                f"{self.path} has drums, tempos or metres of its own, or too few notes or ticks to find beats in",
                "Leave out --metre",
            )
        return retimed

    def _after(self, start: int, seconds: float) -> tuple[int, int]:
        """The last tick that is at most so long after another, and the tick of the file that is the same."""
        if self._retimed is None:
            stop = self.song.tempo.tick(self.song.tempo.seconds(start) + seconds)
            return stop, stop
        tempo = self._retimed.original.tempo
        stop = tempo.tick(tempo.seconds(self._retimed.line_tick(start)) + seconds)
        return self._retimed.even_tick(stop), stop

    def _cut(self, join_bar: int) -> None:
        """Drop what comes from a bar on."""
        start = self.song.bars.start(join_bar)
        if self._retimed is None:
            self.song = interpret(splice.cut(self.song.midi, start), name=str(self.path))
        else:
            self._retimed = self._retimed.cut(start)
            self.song = self._retimed.song

    def _splice(self, notes: list[splice.NewNote], pedal_moves: list[splice.PedalMove]) -> mido.MidiFile:
        """The result, in the ticks of the file; new music alone has bars of its own."""
        if self.request.new_only:
            return splice.extract_new(self.song, notes, pedal_moves, start=self.plan.start, stop=self.plan.stop)
        if self._retimed is None:
            return self._merge(notes, pedal_moves)
        start, stop = self._retimed.line_tick(self.plan.start), self._file_stop
        notes, pedal_moves = self._retimed.put_back(notes, pedal_moves, stop=stop)
        return splice.merge(self._retimed.original, notes, pedal_moves, start=start, stop=stop)

    def _merge(self, notes: list[splice.NewNote], pedal_moves: list[splice.PedalMove]) -> mido.MidiFile:
        return splice.merge(self.song, notes, pedal_moves, start=self.plan.start, stop=self.plan.stop)


class _Player:
    """Writes a slot's new notes as its own are: on its keys, at its velocities, with its feel and in its one voice.

    Attributes:
        notes: what it has played.
    """

    def __init__(
        self,
        slot: Slot,
        tokenizer: MusicTokenizer,
        plan: Plan,
        grid: Grid,
        *,
        has_one_voice: bool,
        rng: np.random.Generator,
    ) -> None:
        self.slot, self.tokenizer, self.plan, self.has_one_voice = slot, tokenizer, plan, has_one_voice
        self.notes: list[PlayedNote] = []
        self._feel, self._rng = Feel(slot, grid, rng), rng
        self._within: dict[int, dict[int, list[int]]] = {}
        """Of each pitch, levels of loudness and the velocities in them."""
        self._struck: dict[int, dict[int, list[int]]] = {}
        """Of each pitch that is on several keys, levels of loudness and the keys that were struck within them."""

    def play(self, start: int, duration: int, pitch: int, level: int) -> None:
        """Add a note of so many steps at a tick of the grid, after all that begin sooner."""
        if self.has_one_voice and self.notes and self.notes[-1].note.end > start:
            last = self.notes[-1]
            self.notes[-1] = last._replace(note=last.note._replace(end=start))
        key, end = self._key(pitch, level), self.plan.end_tick(start, duration)
        note = splice.NewNote(self.slot.part_for(key), start, end, key, self._velocity(pitch, level))
        shift, length = self._feel.play(start, duration, key)
        self.notes.append(PlayedNote(note, shift, length, is_alone=self.has_one_voice))

    def _key(self, pitch: int, level: int) -> int:
        """One of those that it has struck for a pitch, and so loud: a hi-hat's edge is for accents."""
        keys = self.slot.keys_of(pitch)
        if len(keys) == 1:
            return keys[0]
        if pitch not in self._struck:
            struck = self._struck[pitch] = defaultdict(list)
            for note in self.slot.part_for(keys[0]).notes:
                if note.pitch in keys:
                    struck[self._level(note.velocity)].append(note.pitch)
        struck = self._struck[pitch]
        return int(self._rng.choice(struck[min(struck, key=lambda other: abs(other - level))]))

    def _level(self, velocity: int) -> int:
        return int(self.tokenizer.values[self.tokenizer.velocity_id(velocity)])

    def _velocity(self, pitch: int, level: int) -> int:
        """One of those that it has played within a level: a tune of one velocity keeps it, others vary as they did."""
        if pitch not in self._within:
            within = self._within[pitch] = defaultdict(list)
            for velocity in self.slot.velocities(pitch):
                within[self._level(velocity)].append(velocity)
        values = self._within[pitch].get(level)
        return int(self._rng.choice(values)) if values else level


def _check_length(request: ContinuationRequest) -> None:
    request.refuse_others("music", known=KNOWN, remedy="Give --bars or --seconds")
    if request.bars is not None and request.seconds is not None:
        raise UsageError("--bars and --seconds were both given", "Give one of them")
    if request.bars is not None and not 1 <= request.bars <= MAX_NEW_BARS:
        raise UsageError(f"--bars is {request.bars}", f"Give a whole number from 1 to {MAX_NEW_BARS}")
    if request.seconds is not None and not 0 < request.seconds <= MAX_SECONDS:
        raise UsageError(f"--seconds is {request.seconds}", f"Give a number above 0 and up to {MAX_SECONDS}")


def _check_from_bar(song: Song, join_bar: int, path: Path) -> None:
    last_bar = find_join_bar(song)
    if not 1 <= join_bar <= last_bar:
        raise UsageError(
            f"--from-bar is {join_bar + 1}, and {path} has {last_bar} bars",
            f"Give a bar from 2 to {last_bar + 1}",
        )
    start = song.bars.start(join_bar)
    if not any(note.start < start for part in song.parts for note in part.notes):
        raise InputFileError(f"{path} has no notes before bar {join_bar + 1}", "Give a later bar with --from-bar")


def recent_tokens(
    parts: list[Part], grid: Grid, tokenizer: MusicTokenizer, *, stop_bar: int, window: int
) -> np.ndarray:
    """Tokens `[1, T]` of the last whole bars before `stop_bar` that fit into `window`, at least one bar's last.

    The begin token stands before them if they reach back to the first bar with notes.
    """
    start_bar = min(grid.place(part.notes[0].start)[0] for part in parts)
    num_bars = 8
    while True:
        first_bar = max(start_bar, stop_bar - num_bars)
        from_tick = grid.bars.start(first_bar) - grid.bars.ticks_per_beat
        recent = [
            Part(
                part.track,
                part.channel,
                part.program,
                [note for note in part.notes if note.start >= from_tick],
            )
            for part in parts
        ]
        tokens = tokenize_bars(recent, grid, tokenizer, first_bar=first_bar, stop_bar=max(stop_bar, first_bar))
        if first_bar == start_bar or tokens.shape[1] >= window:
            break
        num_bars *= 2
    if tokens.shape[1] < window and first_bar == start_bar:
        return np.concatenate([np.array([[tokenizer.begin]]), tokens], axis=1)
    bar_starts = np.flatnonzero(tokens[0] == tokenizer.bar)
    fitting = bar_starts[bar_starts >= tokens.shape[1] - window]
    return tokens[:, fitting[0] if len(fitting) else -window :]


def _midi_bytes(midi: mido.MidiFile) -> bytes:
    buffer = io.BytesIO()
    midi.save(file=buffer)
    return buffer.getvalue()
