"""MIDI to sound and to pictures: what a listener or a viewer would miss."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import matplotlib.image
import mido
import numpy as np
import pytest
import soundfile

from adaptgen.domains.music.performance import bar_lines, read_controllers, sounding_notes
from adaptgen.domains.music.pianoroll import draw_pianoroll
from adaptgen.domains.music.render import default_soundfont, encode_wav, render
from adaptgen.domains.music.soundfont import SoundFont
from adaptgen.errors import InputFileError

RATE = 44_100
PIANO, ORGAN, FLUTE = 0, 19, 73
TICKS = 480  # per quarter note; at the default tempo a quarter note lasts half a second


def note(pitch: int, start: int, ticks: int, *, velocity: int = 90, channel: int = 0) -> list[tuple]:
    return [
        (start, mido.Message("note_on", note=pitch, velocity=velocity, channel=channel)),
        (start + ticks, mido.Message("note_off", note=pitch, channel=channel)),
    ]


def control(number: int, value: int, at: int = 0, *, channel: int = 0) -> list[tuple]:
    return [(at, mido.Message("control_change", control=number, value=value, channel=channel))]


def program(number: int, at: int = 0, *, channel: int = 0) -> list[tuple]:
    return [(at, mido.Message("program_change", program=number, channel=channel))]


def meta(kind: str, at: int = 0, **values: int) -> list[tuple]:
    return [(at, mido.MetaMessage(kind, **values))]


def song(*tracks: list[tuple], end: int = 0) -> mido.MidiFile:
    """A file whose tracks are given as (tick, message); at the same tick in the order given."""
    midi = mido.MidiFile(ticks_per_beat=TICKS)
    for events in tracks:
        track, now = mido.MidiTrack(), 0
        for tick, message in sorted(events, key=lambda event: event[0]):
            track.append(message.copy(time=tick - now))
            now = tick
        track.append(mido.MetaMessage("end_of_track", time=max(0, end - now)))
        midi.tracks.append(track)
    return midi


def level(sound: np.ndarray, start_seconds: float, end_seconds: float) -> float:
    """Root mean square of a stretch, in dB of full scale."""
    part = sound[..., int(start_seconds * RATE) : int(end_seconds * RATE)]
    return 20 * np.log10(np.sqrt(np.mean(part**2)) + 1e-9) if part.size else -180.0


def onset_seconds(sound: np.ndarray, after_seconds: float) -> float:
    loud = np.abs(sound).max(0) > 0.02
    return after_seconds + float(np.argmax(loud[int(after_seconds * RATE) :])) / RATE


def frequency_hz(sound: np.ndarray, low: float, high: float) -> float:
    """Strongest frequency between two bounds."""
    spectrum = np.abs(np.fft.rfft(sound.mean(0) * np.hanning(sound.shape[1]), 1 << 19))
    hz = np.fft.rfftfreq(1 << 19, 1 / RATE)
    inside = (hz > low) & (hz < high)
    return float(hz[inside][spectrum[inside].argmax()])


def brightness_hz(sound: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(sound.mean(0)))
    return float((spectrum * np.fft.rfftfreq(sound.shape[1], 1 / RATE)).sum() / spectrum.sum())


def test_dense_fortissimo_stays_below_minus_1_dbfs(tmp_path: Path) -> None:
    tracks = [
        program(8 * channel, channel=channel)
        + [
            event
            for step in range(16)
            for pitch in (36, 48, 60, 64, 67, 72)
            for event in note(pitch, 240 * step, 230, velocity=127, channel=channel)
        ]
        for channel in range(16)
    ]
    sound = render(song(*tracks))
    (tmp_path / "loud.wav").write_bytes(encode_wav(sound))
    samples, rate = soundfile.read(tmp_path / "loud.wav", dtype="int16", always_2d=True)
    info = soundfile.info(tmp_path / "loud.wav")
    assert (rate, samples.shape[1], info.subtype) == (44_100, 2, "PCM_16")
    peak = np.abs(samples.astype(int)).max()
    assert 10 ** (-4 / 20) * 32_768 < peak < 10 ** (-1 / 20) * 32_768
    assert (np.abs(samples.astype(int)) == peak).sum() <= 2, "the peak is a single sample, not a clipped plateau"
    assert os.listdir(tmp_path) == ["loud.wav"]


def test_write_wav_scales_what_is_too_loud(tmp_path: Path) -> None:
    wave = 3 * np.sin(np.linspace(0, 200, RATE, dtype=np.float32))
    (tmp_path / "a.wav").write_bytes(encode_wav(np.stack([wave, wave / 2])))
    samples, _ = soundfile.read(tmp_path / "a.wav")
    assert np.abs(samples).max() < 10 ** (-1 / 20)
    np.testing.assert_allclose(samples[:, 0], 2 * samples[:, 1], atol=1e-4)


def test_quiet_and_loud_music_share_a_level_but_velocity_is_heard() -> None:
    quiet, loud = (render(song(note(60, 0, 480, velocity=velocity))) for velocity in (20, 120))
    assert np.abs(quiet).max() == pytest.approx(np.abs(loud).max(), abs=1e-3)
    both = render(song(note(60, 0, 480, velocity=40) + note(60, 1920, 480, velocity=120)))
    assert level(both, 2.0, 2.4) - level(both, 0.0, 0.4) > 12


@pytest.mark.parametrize("number", [PIANO, 24, ORGAN, 40, 48, 56, FLUTE, 81])
def test_notes_are_in_tune(number: int) -> None:
    sound = render(song(program(number) + note(69, 0, 1920)))[:, 8_000:70_000]
    cents = 1200 * np.log2(frequency_hz(sound, 415, 466) / 440)
    assert abs(cents) < 20


def test_release_rings_out_and_ends_without_a_step() -> None:
    sound = render(song(program(48) + note(60, 0, 960)))
    seconds = sound.shape[1] / RATE
    assert 1.2 < seconds < 9
    assert level(sound, 1.0, 1.1) > -30, "the strings do not stop dead at the note's end"
    assert level(sound, seconds - 0.1, seconds) < -80
    assert np.abs(np.diff(sound[:, -RATE // 4 :])).max() < 1e-3
    assert np.abs(sound[:, -1]).max() == 0


def test_pedal_holds_until_it_rises() -> None:
    plain = render(song(note(60, 0, 240)))
    held = song(control(64, 127) + note(60, 0, 240) + control(64, 0, 1920))
    assert [round(n.end, 3) for n in sounding_notes(held)] == [2.0]
    assert [round(n.end, 3) for n in sounding_notes(held, use_pedal=False)] == [0.25]
    sound = render(held)
    assert level(sound, 1.0, 1.2) - level(plain, 1.0, 1.2) > 20
    assert level(sound, 3.2, 3.3) < -50


def test_pedal_yields_to_a_new_strike_and_reaches_the_other_track_of_its_channel() -> None:
    midi = song(
        control(64, 100) + note(60, 0, 100) + note(60, 480, 100) + control(64, 10, 960),
        note(48, 0, 100),
        note(52, 0, 96, channel=1),
    )
    ends = {(n.track, n.start): round(n.end, 3) for n in sounding_notes(midi)}
    assert ends == {(0, 0.0): 0.5, (0, 0.5): 1.0, (1, 0.0): 1.0, (2, 0.0): 0.1}


def test_program_change_within_a_track_changes_the_timbre() -> None:
    midi = song(program(FLUTE) + note(60, 0, 900) + program(PIANO, 960) + note(60, 960, 900))
    assert [n.program for n in sounding_notes(midi)] == [FLUTE, PIANO]
    sound = render(midi)
    flute_fall = level(sound, 0.1, 0.3) - level(sound, 0.7, 0.9)
    piano_fall = level(sound, 1.1, 1.3) - level(sound, 1.7, 1.9)
    assert piano_fall - flute_fall > 4, "a piano dies away while a flute does not"


def test_tracks_that_share_a_channel_keep_their_own_programs() -> None:
    midi = song(program(FLUTE) + note(60, 0, 480), program(ORGAN) + note(60, 0, 480), note(62, 0, 480))
    assert {n.track: n.program for n in sounding_notes(midi)} == {0: FLUTE, 1: ORGAN, 2: ORGAN}


def test_a_track_follows_its_channel_until_it_sets_a_thing_itself() -> None:
    shared = control(64, 127) + control(7, 40) + note(60, 0, 240) + control(64, 0, 960)
    alone = sounding_notes(song(shared, note(48, 0, 240)))
    both = song(shared, note(48, 0, 240) + control(64, 0, 1920) + control(7, 100, 1920))
    assert sounding_notes(both) == alone, "what a track does later changes nothing before"
    gains = read_controllers(both).gain(np.array([1.0, 3.0]), 1, 0)
    assert gains[1] > 4 * gains[0]


def test_hi_hats_of_electronic_kits_are_heard() -> None:
    for key, usual in ((22, 42), (26, 46)):
        edge, hat = (render(song(note(pitch, 0, 480, channel=9))) for pitch in (key, usual))
        assert level(edge, 0, 0.2) > -40
        assert np.array_equal(edge, hat)


def test_channel_10_plays_drums() -> None:
    kick, tone = (render(song(note(36, 0, 480, channel=channel))) for channel in (9, 0))
    assert level(kick, 0.35, 0.45) < level(tone, 0.35, 0.45) - 10, "a drum is over when a piano still sounds"
    hat = render(song(note(42, 0, 480, channel=9)))
    assert brightness_hz(hat) > 3 * brightness_hz(kick)


def test_closed_hi_hat_chokes_the_open_one() -> None:
    alone = render(song(note(46, 0, 960, channel=9)))
    choked = render(song(note(46, 0, 960, channel=9) + note(42, 240, 60, velocity=1, channel=9)))
    assert level(alone, 0.32, 0.4) - level(choked, 0.32, 0.4) > 20


def test_tempo_changes_move_later_notes() -> None:
    tempo = meta("set_tempo", 480, tempo=1_000_000) + meta("set_tempo", 960, tempo=400_000)
    notes = note(84, 0, 60, channel=9) + note(75, 1920, 60, channel=9)
    sound = render(song(tempo, notes))
    # One quarter note at 0.5 s, one at 1 s, two at 0.4 s.
    assert onset_seconds(sound, 1.2) == pytest.approx(2.3, abs=0.01)


def test_pan_moves_the_sound() -> None:
    def balance_db(value: int) -> float:
        left, right = render(song(control(10, value) + note(60, 0, 480)))
        return level(right, 0, 0.5) - level(left, 0, 0.5)

    assert balance_db(0) < -20
    assert abs(balance_db(64)) < 4
    assert balance_db(127) > 20


@pytest.mark.parametrize("number", [7, 11])
def test_volume_and_expression_fade_a_held_note(number: int) -> None:
    fade = [event for step in range(64) for event in control(number, 126 - 2 * step, 15 * step)]
    midi = song(program(ORGAN) + fade + note(60, 0, 1920))
    sound = render(midi)
    assert level(sound, 0.1, 0.2) - level(sound, 0.9, 0.98) > 20
    assert np.abs(np.diff(sound)).max() < 0.2


def test_pitch_bend_is_heard_and_reset() -> None:
    bend = [(960, mido.Message("pitchwheel", pitch=8191))]
    midi = song(program(ORGAN) + note(69, 0, 2880) + bend + control(121, 0, 1920))
    sound = render(midi)
    for start, semitones in ((0.2, 0), (1.2, 2), (2.2, 0)):
        hz = frequency_hz(sound[:, int(start * RATE) : int((start + 0.7) * RATE)], 400, 520)
        assert 12 * np.log2(hz / 440) == pytest.approx(semitones, abs=0.15)


def test_note_without_end_stops_with_its_track() -> None:
    midi = song(program(ORGAN) + note(60, 0, 480)[:1], note(72, 1920, 480), end=960)
    assert [(n.track, n.end) for n in sounding_notes(midi)] == [(0, 1.0), (1, 2.5)]
    sound = render(song(program(ORGAN) + note(60, 0, 480)[:1], end=960))
    assert sound.shape[1] / RATE < 3
    assert level(sound, sound.shape[1] / RATE - 0.1, 10) < -80


@pytest.mark.parametrize(
    ("stop", "end"),
    [
        (control(123, 0, 480), 0.5),
        (control(120, 0, 480), 0.5),
        ([(480, mido.Message("note_on", note=60, velocity=0))], 0.5),
        (control(121, 0, 480), 1.0),
    ],
)
def test_what_ends_a_note(stop: list[tuple], end: float) -> None:
    assert [n.end for n in sounding_notes(song(note(60, 0, 960) + stop))] == [end]


def test_all_sound_off_overrides_the_pedal() -> None:
    midi = song(control(64, 127) + note(60, 0, 240) + control(120, 0, 960), end=1920)
    assert [n.end for n in sounding_notes(midi)] == [1.0]


def test_file_without_notes_is_short_silence() -> None:
    sound = render(song(program(3), end=480_000))
    assert sound.dtype == np.float32
    assert sound.shape[0] == 2
    assert 0 < sound.shape[1] < RATE
    assert not sound.any()


def test_odd_files_are_played() -> None:
    odd = song(
        meta("set_tempo", 0, tempo=0) + meta("set_tempo", 5, tempo=16_777_215),
        note(60, 3, 0) + note(60, 3, 0) + note(127, 0, 5) + note(0, 0, 5) + [(9, mido.Message("aftertouch"))],
        note(20, 0, 0, channel=9),
        [*program(127), (0, mido.Message("sysex", data=[1, 2])), *note(60, 0, 9, velocity=1)],
    )
    odd.ticks_per_beat = 1
    assert np.isfinite(render(odd)).all()


def test_music_of_hours_is_refused_with_its_length() -> None:
    midi = song(note(60, 0, 480) + note(60, 3 * 7200 * TICKS, 480))
    with pytest.raises(InputFileError, match=r"lasts 3\.0 hours.*2 at most.*--no-wav"):
        render(midi)


def test_absurdly_dense_music_is_refused() -> None:
    events = [event for pitch in range(128) for event in note(pitch, 0, 400 * TICKS)]
    with pytest.raises(InputFileError, match=r"sound for .* seconds together"):
        render(song(*[[(tick, m.copy(channel=c)) for tick, m in events] for c in range(16)]))


def test_same_file_same_samples() -> None:
    midi = song(program(48) + note(60, 0, 480) + note(64, 100, 480), note(38, 0, 60, channel=9))
    np.testing.assert_array_equal(render(midi), render(midi))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "not a sound font: it has no RIFF/sfbk header"),
        (b"", "not a sound font"),
        (b"RIFF\x04\0\0\0sfbk", "damaged: chunk .* is missing"),
    ],
)
def test_wrong_soundfont_is_named_with_a_remedy(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "piano.sf2"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputFileError, match=message) as caught:
        render(song(note(60, 0, 480)), soundfont=path)
    assert "piano.sf2" in str(caught.value)
    assert "SF2 or SF3" in str(caught.value)


def test_damaged_soundfonts_never_raise_anything_else(tmp_path: Path) -> None:
    whole = bytearray(default_soundfont().read_bytes())
    random = np.random.default_rng(0)
    tables = whole.rfind(b"pdta")
    for trial in range(20):
        damaged = whole.copy()
        if trial % 2:
            del damaged[int(random.integers(12, len(damaged))) :]
        else:
            for place in random.integers(tables, len(damaged), 1 + trial * 20):
                damaged[place] = random.integers(256)
        path = tmp_path / "damaged.sf2"
        path.write_bytes(damaged)
        midi = song(note(60, 0, 480) + note(38, 0, 99, channel=9))
        with contextlib.suppress(InputFileError):
            assert np.isfinite(render(midi, soundfont=path)).all()


def test_every_general_midi_program_sounds() -> None:
    font = SoundFont(default_soundfont())
    assert all(font.zones(number, False) for number in range(128))
    assert font.zones(99, True) is font.zones(0, True), "a kit that the font lacks is played by the standard kit"


@pytest.mark.parametrize("number", [38, 65, 87], ids=["synthesised bass", "saxophone", "bass and lead"])
def test_what_an_instrument_holds_has_no_offset(number: int) -> None:
    """The samples of these have one of up to a fifth of their peak."""
    for pitch in (52, 60, 67):
        sound = render(song(program(number) + note(pitch, 0, 1920)))[0]
        held = sound[int(0.5 * RATE) : int(1.5 * RATE)]
        assert abs(held.mean()) < 0.01 * np.abs(held).max()


def test_pianoroll_shows_tracks_drums_and_join() -> None:
    midi = song(
        meta("time_signature", 0, numerator=3, denominator=4) + note(60, 0, 2880),
        note(72, 480, 2400, channel=1),
        note(38, 0, 60, channel=9),
    )
    pictures = (draw_pianoroll(midi, join_seconds=join, title="名 $x") for join in (None, 1.5))
    plain, joined = (matplotlib.image.imread(io.BytesIO(picture))[..., :3] for picture in pictures)
    blue, orange = np.array([0, 0x72, 0xB2]) / 255, np.array([0xD5, 0x5E, 0]) / 255
    for colour in (blue, orange):
        hue = colour * 0.81 + 0.19  # velocity 90 is drawn at 81 % of the colour
        assert (np.abs(plain - hue).max(-1) < 0.08).sum() > 500
    black = [(image.max(-1) < 0.1).mean(0).max() for image in (plain[10:-10, 300:-300], joined[10:-10, 300:-300])]
    assert black[0] < 0.3
    assert black[1] > 0.7, "the join is a line across the picture"


def test_pianoroll_of_a_file_without_notes() -> None:
    assert draw_pianoroll(song([]), join_seconds=0.0)[:4] == b"\x89PNG"


def test_bar_lines_follow_metre_and_tempo() -> None:
    midi = song(
        meta("time_signature", 0, numerator=3, denominator=4)
        + meta("time_signature", 1440, numerator=6, denominator=8)
        + meta("set_tempo", 2880, tempo=1_000_000),
        note(60, 0, 4320),
    )
    assert bar_lines(midi, 5.9) == [0.0, 1.5, 3.0]
    assert bar_lines(song(note(60, 0, 480)), 9.0) == []


def test_corpora_render_at_a_common_level_without_clicks() -> None:
    folder = os.environ.get("ADAPTGEN_TEST_DATA")
    if not folder:
        pytest.skip("ADAPTGEN_TEST_DATA names no folder with MIDI files")
    files = [path for path in sorted(Path(folder).rglob("*.mid")) if path.stat().st_size < 30_000]
    assert files, f"no MIDI file below {folder}"
    for path in files[:: max(1, len(files) // 8)][:8]:
        midi = mido.MidiFile(path)
        sound = render(midi)
        last = max(n.end for n in sounding_notes(midi))
        assert np.abs(sound).max() == pytest.approx(10 ** (-3 / 20), abs=1e-3), path
        assert last < sound.shape[1] / RATE + 0.5, path
        assert np.abs(sound[:, -1]).max() == 0, path
        assert draw_pianoroll(midi)[:4] == b"\x89PNG", path
