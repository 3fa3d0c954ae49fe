"""Music that was played without a click is read on the beats of its player, and goes on on them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from freely import find_bars, play_freely
from guarantees import Promise, check
from odd_files import build, drum_bars, metre, note, tempo
from players import STUBBORN_WISHES, random_player, stubborn_player, tokenizer
from smf_reader import parse

from adaptgen.checkpoint import Checkpoint
from adaptgen.continuation import continue_file
from adaptgen.domains.base import ContinuationRequest
from adaptgen.domains.music.beats import Onsets, find_beats
from adaptgen.domains.music.corpus import read_documents
from adaptgen.domains.music.retime import keeps_no_grid, retime
from adaptgen.domains.music.song import parse_song, read_song
from adaptgen.domains.music.tokenizer import MusicTokenizer
from adaptgen.errors import AdaptgenError
from adaptgen.sampling import Sampling

ROOT = Path(__file__).parents[2]
LIEDER = ROOT / "examples" / "lieder" / "test"
"""None of these was counted."""


def lied(name: str, *, seed: int = 0) -> tuple[bytes, np.ndarray]:
    return play_freely(read_song(LIEDER / f"{name}.mid"), seed=seed)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "recording.mid"
    path.write_bytes(lied("wagner_1_der_engel")[0])
    return path


@pytest.fixture
def waltz(tmp_path: Path) -> Path:
    path = tmp_path / "waltz.mid"
    path.write_bytes(lied("beethoven_6_busslied")[0])
    return path


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("name", "metre_name"),
    [
        ("wagner_1_der_engel", "4/4"),
        ("debussy_2_la_chevelure", "3/4"),
        ("beethoven_6_busslied", "3/4"),
        ("schubert_1_der_musensohn_d_764", "6/8"),
        ("wagner_2_stehe_still", "6/8"),
    ],
)
def test_bars_are_found(name: str, metre_name: str, seed: int) -> None:
    midi, lines = lied(name, seed=seed)
    retimed = retime(parse_song(midi, name=name))
    assert retimed is not None
    found = retimed.beats
    assert found.metre.name == metre_name
    lines_found = found.seconds[-found.first % found.metre.num_beats :: found.metre.num_beats]
    near = [np.abs(lines_found - line).min() < 0.07 for line in lines]
    assert np.mean(near) > 0.75


def test_even_beats_sound_as_the_file_does(recording: Path) -> None:
    original = read_song(recording)
    retimed = retime(original)
    assert retimed is not None
    for part, even in zip(original.parts, retimed.song.parts, strict=True):
        by_pitch = (sorted(notes, key=lambda note: (note.pitch, note.start)) for notes in (part.notes, even.notes))
        for played, moved in zip(*by_pitch, strict=True):
            assert (played.pitch, played.velocity) == (moved.pitch, moved.velocity)
            for was, now in ((played.start, moved.start), (played.end, moved.end)):
                assert retimed.song.tempo.seconds(now) == pytest.approx(original.tempo.seconds(was), abs=0.002)


def test_notes_stand_where_the_score_has_them(recording: Path) -> None:
    """The model reads nearly what it would read of the score itself."""
    score = read_documents(LIEDER / "wagner_1_der_engel.mid", tokenizer(), is_training=False)[0]
    played = read_documents(recording, tokenizer(), is_training=False)[0]
    on_file_beats = MusicTokenizer(find_beats=False)
    unheard = read_documents(recording, on_file_beats, is_training=False)[0]

    def on_quarters(tokens: np.ndarray) -> float:
        steps = [int(name.split("_")[1]) for name in tokenizer().describe(tokens) if name.startswith("Position_")]
        return float(np.mean([step % 12 == 0 for step in steps]))

    assert on_quarters(unheard) < 0.2 < on_quarters(score)
    assert on_quarters(played) == pytest.approx(on_quarters(score), abs=0.1)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.mid")), ids=lambda path: path.name)
def test_what_has_bars_keeps_them(path: Path) -> None:
    assert not keeps_no_grid(read_song(path))


@pytest.mark.parametrize(
    "events",
    [
        pytest.param(drum_bars(4), id="drums"),
        pytest.param(tempo(400_000, 9_000), id="two tempos"),
        pytest.param(metre(3, 2, 9_600), id="two metres"),
    ],
)
def test_what_says_more_than_a_recorder_would_keeps_its_bars(events: list) -> None:
    midi, _ = lied("wagner_1_der_engel")
    assert keeps_no_grid(parse_song(midi, name="recording"))
    notes = [(event.tick, event.data) for event in parse(midi).tracks[0] if not event.meta]
    assert not keeps_no_grid(parse_song(build(notes, events), name="edited"))


def test_few_notes_keep_the_bars_of_their_file() -> None:
    rng = np.random.default_rng(0)
    starts = np.cumsum(rng.integers(100, 900, 63))
    assert not keeps_no_grid(parse_song(build([e for s in starts for e in note(int(s), 90, 60)]), name="few"))


def continued(path: Path, promise: Promise, player: Checkpoint | None = None, *, new_only: bool = False) -> bytes:
    request = ContinuationRequest(**asdict(promise), new_only=new_only, sound=False)
    sampling = Sampling(temperature=0) if player else Sampling()
    (result,) = continue_file(path, player or random_player(), request, sampling, seed=1, is_adapting=False)
    return result.files[".mid"]


@pytest.mark.parametrize(
    "promise",
    [
        Promise(bars=1),
        Promise(bars=9),
        Promise(seconds=7.3),
        Promise(bars=5, from_bar=4),
        Promise(bars=5, from_bar=17),
        Promise(seconds=3.3, from_bar=30),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["recording", "waltz"])
def test_a_recording_goes_on_in_bars_that_are_found(
    name: str, promise: Promise, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(name)
    found = find_bars(path, promise)
    assert found is not None
    assert check(path.read_bytes(), continued(path, promise), promise, found=found).notes


@pytest.mark.parametrize("wish", STUBBORN_WISHES)
def test_no_model_can_break_a_promise(recording: Path, wish: str) -> None:
    promise = Promise(bars=6)
    after = continued(recording, promise, stubborn_player(STUBBORN_WISHES[wish]))
    check(recording.read_bytes(), after, promise, found=find_bars(recording, promise))


def test_new_music_alone_has_bars_and_the_same_time(waltz: Path) -> None:
    promise = Promise(bars=8)
    after = continued(waltz, promise)
    outcome = check(waltz.read_bytes(), after, promise, found=find_bars(waltz, promise))
    alone = parse_song(continued(waltz, promise, new_only=True), name="alone")
    tempo = read_song(waltz).tempo
    whole = sorted((note.pitch, tempo.seconds(note.start) - tempo.seconds(outcome.join)) for note in outcome.notes)
    part = sorted((note.pitch, alone.tempo.seconds(note.start)) for part in alone.parts for note in part.notes)
    assert [pitch for pitch, _ in part] == [pitch for pitch, _ in whole]
    assert [when for _, when in part] == pytest.approx([when for _, when in whole], abs=0.005)
    assert alone.bars.metre(0) == (3, 4)
    assert alone.bars.start(8) == max(sum(message.time for message in track) for track in alone.midi.tracks)


def test_a_pause_does_not_disturb_what_follows(tmp_path: Path) -> None:
    midi, lines = lied("wagner_1_der_engel")
    (track,) = parse(midi).tracks
    middle = round(lines[20] * 960)
    path = tmp_path / "paused.mid"
    moved = [(e.tick + 200 * 960 * (e.tick >= middle), e.data) for e in track if not e.meta]
    path.write_bytes(build(moved))
    promise = Promise(bars=3)
    found = find_bars(path, promise)
    assert check(path.read_bytes(), continued(path, promise), promise, found=found).notes
    assert found.beat == pytest.approx(0.6 * 960, rel=0.4)


@pytest.mark.parametrize("num_onsets", [1, 2, 3])
def test_hardly_any_music_has_hardly_any_beats(num_onsets: int) -> None:
    beats = find_beats(Onsets.of([(0.1 * index, 60) for index in range(num_onsets)]))
    assert beats is None or len(beats.seconds) >= 2


def test_a_coarse_clock_keeps_its_bars(tmp_path: Path) -> None:
    """At 2 ticks a quarter there are no twelfths."""
    rng = np.random.default_rng(0)
    starts = np.cumsum(rng.integers(1, 4, 200))
    song = parse_song(build([e for s in starts for e in note(int(s), 1, 60)], division=2), name="coarse")
    assert retime(song) is None


def test_bars_keep_their_numbers_when_the_end_is_cut() -> None:
    lengths = np.geomspace(0.9, 0.3, 120) * np.exp(np.random.default_rng(0).normal(0, 0.03, 120))
    starts = 60 + np.cumsum(lengths)
    notes = [e for index, s in enumerate(starts) for e in note(round(s * 960), 200, 48 + 7 * index % 24)]
    retimed = retime(parse_song(build(notes), name="faster and faster"))
    assert retimed is not None
    first_bar = retimed.song.bars.index(retimed.song.parts[0].notes[0].start)
    for bar in range(first_bar + 1, first_bar + 8):
        shorter = retimed.cut(retimed.song.bars.start(bar))
        assert shorter.line_tick(shorter.song.bars.start(bar)) == retimed.line_tick(retimed.song.bars.start(bar))


@pytest.mark.parametrize("metre_name", ["4/4", "3/4", "2/4", "6/8"])
def test_who_knows_the_metre_may_say_it(waltz: Path, metre_name: str) -> None:
    request = ContinuationRequest(bars=4, metre=metre_name, sound=False, new_only=True)
    (result,) = continue_file(waltz, random_player(), request, Sampling(), seed=1, is_adapting=False)
    assert result.summary["beats"].startswith(f"found in the playing: {metre_name}")
    alone = parse_song(result.files[".mid"], name="alone")
    assert "/".join(map(str, alone.bars.metre(0))) == metre_name


def test_a_recording_keeps_its_bars_if_that_is_asked_for(waltz: Path) -> None:
    request = ContinuationRequest(bars=3, metre="file", sound=False)
    (result,) = continue_file(waltz, random_player(), request, Sampling(), seed=1, is_adapting=False)
    assert "beats" not in result.summary
    promise = Promise(bars=3)
    assert check(waltz.read_bytes(), result.files[".mid"], promise).notes


def refusal(path: Path, metre_name: str) -> str:
    request = ContinuationRequest(bars=1, metre=metre_name, sound=False)
    with pytest.raises(AdaptgenError) as error:
        continue_file(path, random_player(), request, Sampling(), seed=1, is_adapting=False)
    return str(error.value)


def test_a_metre_that_there_is_not_is_refused(waltz: Path) -> None:
    assert refusal(waltz, "5/4") == "--metre is 5/4. Give 4/4, 3/4, 2/4, 6/8 or file."


def test_a_song_with_drums_has_its_own_beats(tmp_path: Path) -> None:
    path = tmp_path / "band.mid"
    path.write_bytes(build([*drum_bars(8), *note(0, 90, 60)]))
    assert "has drums" in refusal(path, "3/4")
