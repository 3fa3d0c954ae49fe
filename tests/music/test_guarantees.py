"""What `adaptgen continue` promises for every MIDI file, whatever the model says.

A model with random weights, and models that always want the same, are the best adversaries: what holds with them
holds by construction. `guarantees.check` knows nothing of adaptgen and judges by the bytes of input and output.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from itertools import cycle
from pathlib import Path

import pytest
from freely import find_bars
from guarantees import Bars, Outcome, Promise, check, check_new_part, join_of
from odd_files import ODD_FILES, build, control, melody, metre, note, program, tempo
from players import STUBBORN_WISHES, five_pitches_only, random_player, stubborn_player
from smf_reader import is_on, notes_of, parse

from adaptgen.checkpoint import Checkpoint
from adaptgen.continuation import continue_file
from adaptgen.domains.base import ContinuationRequest
from adaptgen.domains.music.performance import sounding_notes
from adaptgen.domains.music.song import parse_song
from adaptgen.errors import InputFileError, UsageError
from adaptgen.sampling import Sampling

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").rglob("*.mid"))
TEST_DATA = os.environ.get("ADAPTGEN_TEST_DATA")
CORPUS_FILES = sorted(Path(TEST_DATA).glob("midi/*/test/**/*.mid")) if TEST_DATA else []
SAMPLE_STRIDE = 12
GREEDY = Sampling(temperature=0)


def continued(
    path: Path,
    promise: Promise,
    *,
    player: Checkpoint | None = None,
    sampling: Sampling | None = None,
    new_only: bool = False,
    variations: int = 1,
    seed: int = 0,
    is_adapting: bool = False,
) -> list[bytes]:
    request = ContinuationRequest(**asdict(promise), new_only=new_only, sound=False)
    results = continue_file(
        path,
        player or random_player(),
        request,
        sampling or Sampling(),
        variations=variations,
        seed=seed,
        is_adapting=is_adapting,
    )
    return [result.files[".mid"] for result in results]


def checked(path: Path, promise: Promise, **options: object) -> Outcome:
    (after,) = continued(path, promise, **options)
    return check(path.read_bytes(), after, promise)


@pytest.fixture
def odd_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "odd.mid"
    path.write_bytes(ODD_FILES[request.param]())
    return path


each_odd_file = pytest.mark.parametrize("odd_file", ODD_FILES, indirect=True)
QUICK_ODD_FILES = [name for name in ODD_FILES if name != "100,000 notes"]
each_quick_odd_file = pytest.mark.parametrize("odd_file", QUICK_ODD_FILES, indirect=True)


@pytest.mark.parametrize("odd_file", ["format 0", "100,000 notes"], indirect=True)
def test_an_adapted_model_keeps_every_promise(odd_file: Path) -> None:
    checked(odd_file, Promise(bars=2), is_adapting=True)


@each_odd_file
def test_odd_files_go_on_for_bars(odd_file: Path) -> None:
    checked(odd_file, Promise(bars=1))
    assert checked(odd_file, Promise(bars=4)).notes


@each_quick_odd_file
def test_odd_files_go_on_for_seconds(odd_file: Path) -> None:
    checked(odd_file, Promise(seconds=7.3))


def can_be_cut(path: Path, bar: int) -> bool:
    file = parse(path.read_bytes())
    notes = notes_of(file)
    cut_tick = Bars(file).line_after(0, bar - 1)
    return min(note.start for note in notes) < cut_tick <= join_of(file, notes)


@each_quick_odd_file
def test_odd_files_go_on_from_a_bar(odd_file: Path) -> None:
    first_bars = [bar for bar in (2, 3, 5, 102) if can_be_cut(odd_file, bar)]
    for from_bar in first_bars:
        assert checked(odd_file, Promise(bars=2, from_bar=from_bar)).notes
    if not first_bars:
        with pytest.raises((UsageError, InputFileError), match=r"--from-bar is 3, and|no notes before bar 3"):
            continued(odd_file, Promise(bars=2, from_bar=3))


@each_quick_odd_file
def test_the_new_part_alone_is_the_new_part(odd_file: Path) -> None:
    promise = Promise(bars=3)
    (whole,), (part,) = continued(odd_file, promise), continued(odd_file, promise, new_only=True)
    check_new_part(whole, part, check(odd_file.read_bytes(), whole, promise))


@pytest.mark.parametrize(
    ("odd_file", "wish"),
    list(zip(QUICK_ODD_FILES, cycle(STUBBORN_WISHES), strict=False)),
    indirect=["odd_file"],
)
def test_no_model_can_break_a_promise(odd_file: Path, wish: str) -> None:
    player = stubborn_player(STUBBORN_WISHES[wish])
    checked(odd_file, Promise(bars=2), player=player, sampling=GREEDY)


@pytest.mark.slow
@pytest.mark.parametrize("wish", STUBBORN_WISHES)
@each_quick_odd_file
def test_no_model_can_break_any_promise(odd_file: Path, wish: str) -> None:
    player = stubborn_player(STUBBORN_WISHES[wish])
    for promise in (Promise(bars=5), Promise(seconds=3.3)):
        checked(odd_file, promise, player=player, sampling=GREEDY)


@pytest.mark.parametrize("wish", STUBBORN_WISHES)
def test_no_model_can_silence_a_bar_by_holding_all_keys(tmp_path: Path, wish: str) -> None:
    path = tmp_path / "many.mid"
    # A note fewer than shows that a part has one voice, which could not hold several keys.
    path.write_bytes(build(*(melody(7, low=40 + track) for track in range(9))))
    outcome = checked(path, Promise(bars=8), player=stubborn_player(STUBBORN_WISHES[wish]), sampling=GREEDY)
    if wish == "piles up low notes":
        longest = max(note.end - note.start for note in outcome.notes)
        assert longest > 3 * 4 * 480, "the model never held a note for bars, so nothing was tried"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_go_on(path: Path) -> None:
    assert checked(path, Promise(bars=2)).notes
    checked(path, Promise(seconds=3.5, from_bar=3))


def test_a_band_of_twelve_goes_on_for_long() -> None:
    path = ROOT / "examples" / "band.mid"
    before = {(note.track, note.channel) for note in notes_of(parse(path.read_bytes()))}
    assert len(before) == 12
    outcome = checked(path, Promise(bars=16))
    assert {(note.track, note.channel) for note in outcome.notes} == before


def test_variations_keep_the_promises_and_differ() -> None:
    path, promise = ROOT / "examples" / "song.mid", Promise(bars=2)
    results = continued(path, promise, variations=3)
    assert len(set(results)) == 3
    for after in results:
        check(path.read_bytes(), after, promise)


@pytest.mark.parametrize(
    ("tempos", "quarters_per_minute"),
    [
        ([(0, 500_000), (12, 700_000), (14, 1_000_000)], 120),
        ([(0, 500_000), (12, 700_000), (14, 1_000_000), (16, 600_000)], 100),
        ([(0, 500_000), (14, 1_000_000)], 60),
        ([(0, 500_000), (4, 700_000), (6, 1_000_000)], 60),
        ([(0, 500_000), (12, 520_000), (14, 540_000)], 60e6 / 540_000),
    ],
    ids=["ritardando", "the tempo after it is there", "one step", "long ago", "hardly slower"],
)
def test_a_ritardando_at_the_end_does_not_go_on(
    tmp_path: Path, tempos: list[tuple[int, int]], quarters_per_minute: float
) -> None:
    path = tmp_path / "song.mid"
    path.write_bytes(build([e for beat, per_beat in tempos for e in tempo(per_beat, 480 * beat)] + melody(16)))
    request = ContinuationRequest(bars=4, sound=False)
    (result,) = continue_file(path, random_player(), request, Sampling(), variations=1, seed=0, is_adapting=False)
    assert result.summary["seconds"] == pytest.approx(16 * 60 / quarters_per_minute, rel=1e-3)
    check(path.read_bytes(), result.files[".mid"], Promise(bars=4))


def test_a_level_tune_stays_level(tmp_path: Path) -> None:
    path = tmp_path / "level.mid"
    path.write_bytes(build(melody(16), [e for n in range(16) for e in note(480 * n, 400, 40, channel=1, velocity=33)]))
    (after,) = continued(path, Promise(bars=8))
    assert {(track, data[2]) for _, track, data in parse(after).merged if is_on(data)} == {(0, 80), (1, 33)}


def test_drums_are_struck_on_the_keys_of_the_kit(tmp_path: Path) -> None:
    path = tmp_path / "kit.mid"
    path.write_bytes(build([e for n in range(64) for e in note(240 * n, 60, (22, 36)[n % 2], channel=9)]))
    wishes = stubborn_player(lambda kind, value: 9.0 if kind == "PitchDrum" and value in ("36", "42") else 0.0)
    (after,) = continued(path, Promise(bars=4), player=wishes, sampling=Sampling())
    struck = [data[1] for tick, _, data in parse(after).merged if is_on(data) and tick >= 64 * 240]
    assert 22 in struck
    assert 42 not in struck


def test_a_hi_hat_keeps_its_edge_for_accents(tmp_path: Path) -> None:
    path = tmp_path / "edges.mid"
    hats = [e for n in range(64) for e in note(240 * n, 60, (22, 42)[n % 2], channel=9, velocity=(110, 50)[n % 2])]
    path.write_bytes(build(hats))
    wishes = stubborn_player(lambda kind, value: 9.0 if kind == "PitchDrum" and value == "42" else 0.0)
    (after,) = continued(path, Promise(bars=8), player=wishes, sampling=Sampling())
    new = [(data[1], data[2]) for tick, _, data in parse(after).merged if is_on(data) and tick >= 64 * 240]
    assert {key for key, _ in new} == {22, 42}
    assert all((velocity > 80) == (key == 22) for key, velocity in new if not 70 < velocity < 90)


def test_strummed_chords_stay_as_full(tmp_path: Path) -> None:
    path = tmp_path / "strummed.mid"
    chords = [(40, 47, 52, 56, 59, 64), (45, 52, 57, 61, 64)]
    path.write_bytes(build([e for n in range(32) for pitch in chords[n % 2] for e in note(480 * n, 400, pitch)]))
    outcome = checked(path, Promise(bars=8), player=stubborn_player(lambda kind, value: 0.0))
    sizes = Counter(note.start for note in outcome.notes).values()
    assert min(sizes) >= 5


@pytest.mark.parametrize(("beats", "says"), [(1, True), (3, False)])
def test_bars_of_one_beat_are_said(tmp_path: Path, beats: int, says: bool) -> None:
    path = tmp_path / "beats.mid"
    path.write_bytes(build(metre(beats, 2) + melody(24)))
    (result,) = continue_file(
        path, random_player(), ContinuationRequest(bars=2), Sampling(), variations=1, seed=0, is_adapting=False
    )
    assert (result.summary.get("metre") == "the file's bars are one beat long") == says


def test_a_chord_under_the_pedal_of_a_part_that_has_left_rings_no_longer_than_it_did(tmp_path: Path) -> None:
    path = tmp_path / "left.mid"
    chord = program(19, channel=1) + control(64, 127, channel=1) + note(0, 480, 48, channel=1)
    path.write_bytes(build(melody(16), chord, end=16 * 480))
    player = stubborn_player(lambda kind, value: -50.0 if (kind, value) == ("Program", "19") else 0.0)
    before, (after,) = path.read_bytes(), continued(path, Promise(bars=4), player=player)
    ends = [
        [n.end for n in sounding_notes(parse_song(data, name="").midi) if n.channel == 1] for data in (before, after)
    ]
    assert ends[0] == ends[1]


def test_a_seed_decides_every_byte() -> None:
    path, promise = ROOT / "examples" / "waltz.mid", Promise(bars=3)
    first, again, other = (continued(path, promise, variations=2, seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert not set(first) & set(other)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["several tracks on one channel", "24 parts of one program"])
def test_parts_that_share_a_channel_never_share_a_sounding_pitch(tmp_path: Path, name: str, seed: int) -> None:
    path = tmp_path / "shared.mid"
    path.write_bytes(ODD_FILES[name]())
    outcome = checked(path, Promise(bars=8), player=stubborn_player(five_pitches_only), seed=seed)
    wished = sum(60 <= note.pitch < 65 for note in outcome.notes)
    assert wished > 20, "the parts never wanted the same pitches"


@pytest.mark.parametrize("seconds", [0.3, 1.9, 2.0, 2.1, 6.66])
@pytest.mark.parametrize("wish", STUBBORN_WISHES)
def test_seconds_cut_the_last_note_too(wish: str, seconds: float) -> None:
    path = ROOT / "examples" / "song.mid"
    outcome = checked(path, Promise(seconds=seconds), player=stubborn_player(STUBBORN_WISHES[wish]), sampling=GREEDY)
    assert outcome.notes, "not even a part of a bar is all silent"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ContinuationRequest(bars=0), "--bars is 0. Give a whole number from 1 to 10000."),
        (ContinuationRequest(bars=-1), "--bars is -1."),
        (ContinuationRequest(bars=10**9), "--bars is 1000000000."),
        (ContinuationRequest(seconds=0.0), "--seconds is 0.0. Give a number above 0 and up to 86400."),
        (ContinuationRequest(seconds=float("nan")), "--seconds is nan."),
        (ContinuationRequest(seconds=float("inf")), "--seconds is inf."),
        (ContinuationRequest(seconds=1e-9), "shorter than one tick"),
        (ContinuationRequest(seconds=86_400.0), "bars; 10000 of up to eight quarters can be written. Ask for less."),
        (ContinuationRequest(bars=4, seconds=4.0), "--bars and --seconds were both given. Give one of them."),
        (ContinuationRequest(from_bar=1), "--from-bar is 1, and"),
        (ContinuationRequest(from_bar=-(10**30)), "--from-bar is -"),
        (ContinuationRequest(from_bar=10**30), "has 1 bars. Give a bar from 2 to 2."),
    ],
)
def test_senseless_requests_are_refused_with_a_remedy(
    tmp_path: Path, request_: ContinuationRequest, message: str
) -> None:
    path = tmp_path / "one.mid"
    path.write_bytes(build(note(0, 480, 60)))
    with pytest.raises(UsageError) as refusal:
        continue_file(path, random_player(), request_, Sampling(), is_adapting=False)
    assert message in str(refusal.value)


def test_bars_without_end_need_no_more_memory(tmp_path: Path) -> None:
    """500 bars, of a beat so that it does not take long, in a process that may grow by what their notes take."""
    script = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import players
from adaptgen.continuation import continue_file
from adaptgen.domains.base import ContinuationRequest
from adaptgen.sampling import Sampling

player = players.random_player()
caches = []
make_cache = player.model.new_cache
player.model.new_cache = lambda batch_size: caches.append(make_cache(batch_size)) or caches[-1]
peaks = []
for bars in (4, 500):
    request = ContinuationRequest(bars=bars, sound=False)
    (result,) = continue_file(Path(sys.argv[2]), player, request, Sampling(), is_adapting=False)
    assert result.summary["tokens"] > 2 * bars
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
assert caches[0].num_bytes == caches[1].num_bytes
print((peaks[1] - peaks[0]) // 1024)
"""
    path = tmp_path / "song.mid"
    path.write_bytes(build(metre(1, 2) + melody()))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200, "MiB more for 500 bars than for 4"


def failures(paths: list[Path]) -> list[str]:
    found = []
    for path in paths:
        try:
            promise = Promise(bars=2)
            (after,) = continued(path, promise)
            assert check(path.read_bytes(), after, promise, found=find_bars(path, promise)).notes
        except Exception as error:
            found.append(f"{path}: {type(error).__name__}: {error}")
    return found


@pytest.mark.skipif(not CORPUS_FILES, reason="ADAPTGEN_TEST_DATA names no folder with midi/*/test")
def test_a_sample_of_the_corpora_goes_on() -> None:
    assert not failures(CORPUS_FILES[::SAMPLE_STRIDE])


@pytest.mark.slow
@pytest.mark.skipif(not CORPUS_FILES, reason="ADAPTGEN_TEST_DATA names no folder with midi/*/test")
def test_all_test_files_of_the_corpora_go_on() -> None:
    assert not failures(CORPUS_FILES)
