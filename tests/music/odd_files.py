"""MIDI files with everything that a file may hold and few do, written byte by byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable

__all__ = ["ODD_FILES", "build", "control", "melody", "meta", "metre", "note", "program", "tempo"]

Timed = tuple[int, bytes]
BEAT = 480
DRUMS = 9
ODD_FILES: dict[str, Callable[[], bytes]] = {}
"""Builders by what is odd about the file."""


def quantity(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | 0x80)
    return bytes(reversed(groups))


def build(*tracks: Iterable[Timed], midi_format: int = 1, division: int = BEAT, end: int = 0) -> bytes:
    """A file of tracks, each of (tick, event); events of one tick stay in the order given."""
    chunks = []
    for track in tracks:
        body, now = b"", 0
        parts = []
        for tick, event in sorted(track, key=lambda timed: timed[0]):
            parts.append(quantity(tick - now) + event)
            now = tick
        body = b"".join(parts) + quantity(max(0, end - now)) + b"\xff\x2f\x00"
        chunks.append(b"MTrk" + len(body).to_bytes(4) + body)
    header = b"".join(number.to_bytes(2) for number in (midi_format, len(chunks), division))
    return b"MThd" + (6).to_bytes(4) + header + b"".join(chunks)


def note(start: int, ticks: int, pitch: int, *, channel: int = 0, velocity: int = 80) -> list[Timed]:
    on, off = bytes([0x90 | channel, pitch, velocity]), bytes([0x80 | channel, pitch, 64])
    return [(start, on), (start + ticks, off)]


def program(number: int, at: int = 0, *, channel: int = 0) -> list[Timed]:
    return [(at, bytes([0xC0 | channel, number]))]


def control(number: int, value: int, at: int = 0, *, channel: int = 0) -> list[Timed]:
    return [(at, bytes([0xB0 | channel, number, value]))]


def bend(value: int, at: int, *, channel: int = 0) -> list[Timed]:
    return [(at, bytes([0xE0 | channel, value & 0x7F, value >> 7]))]


def meta(kind: int, content: bytes = b"", at: int = 0) -> list[Timed]:
    return [(at, bytes([0xFF, kind]) + quantity(len(content)) + content)]


def tempo(microseconds: int, at: int = 0) -> list[Timed]:
    return meta(0x51, microseconds.to_bytes(3), at)


def metre(numerator: int, power: int, at: int = 0) -> list[Timed]:
    """A metre whose denominator is 2 ** power."""
    return meta(0x58, bytes([numerator, power, 24, 8]), at)


def melody(
    beats: int = 16, *, beat: int = BEAT, channel: int = 0, start: int = 0, low: int = 60, delay: int = 0
) -> list[Timed]:
    """Quarter notes that wander, most of a beat long."""
    events: list[Timed] = []
    for index in range(beats):
        at = max(0, start + index * beat + delay)
        events += note(at, max(1, beat * 9 // 10), low + index * 5 % 12, channel=channel)
    return events


def drum_bars(bars: int = 4, *, beat: int = BEAT) -> list[Timed]:
    events: list[Timed] = []
    for eighth in range(8 * bars):
        pitches = [42, *([36] if eighth % 4 == 0 else []), *([38] if eighth % 4 == 2 else [])]
        for pitch in pitches:
            events += note(eighth * beat // 2, max(1, beat // 8), pitch, channel=DRUMS)
    return events


def by_hand(events: list[Timed], *, spread: int, late: int = 0, seed: int = 1) -> list[Timed]:
    """Notes as `note` writes them, struck up to so many ticks off, and some held for far longer or shorter."""
    moved: list[Timed] = []
    for index, ((start, on), (end, off)) in enumerate(zip(events[::2], events[1::2], strict=True)):
        shift = late + (index * 7919 + seed * 104729) % (2 * spread + 1) - spread
        share = (3 + (index * 31 + seed) % 9) / 8
        start = max(0, start + shift)
        moved += [(start, on), (start + max(1, int((end - start) * share)), off)]
    return moved


def odd(name: str) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    def register(builder: Callable[[], bytes]) -> Callable[[], bytes]:
        assert name not in ODD_FILES
        ODD_FILES[name] = builder
        return builder

    return register


def add(name: str, *tracks: Iterable[Timed], **options: int) -> None:
    odd(name)(lambda: build(*tracks, **options))


# Layout of the file

add("format 0", metre(3, 2) + melody() + drum_bars(), midi_format=0)
add("format 0 with two tracks", melody(), melody(channel=1), midi_format=0)
add("format 1 with one track", melody())
for resolution in (1, 2, 3, 5, 24, 48, 96, 220, 480, 960, 32767):
    add(f"resolution {resolution}", melody(beat=resolution), drum_bars(beat=resolution), division=resolution)
add("empty tracks", [], melody(), [], meta(0x03, b"nothing"))
add("a track of meta events", meta(0x03, b"title") + tempo(400_000) + metre(4, 2) + meta(0x02, b"(c)"), melody())
add("tracks of different lengths", melody(4), melody(64, channel=1), melody(20, channel=2))
add("end of track far behind", melody(), end=100 * BEAT)
add("more tracks than the header says", melody(), melody(channel=1))
_two_tracks = ODD_FILES["more tracks than the header says"]
ODD_FILES["more tracks than the header says"] = lambda: _two_tracks()[:10] + b"\0\1" + _two_tracks()[12:]


@odd("an unknown chunk between tracks")
def unknown_chunk() -> bytes:
    data = build(melody(), melody(channel=1))
    at = data.index(b"MTrk", 20)
    return data[:at] + b"XFIH" + (5).to_bytes(4) + b"hello" + data[at:]


@odd("events behind the end of track")
def behind_the_end() -> bytes:
    body = build(melody())[22:] + b"\x00\x90\x3c\x40\x60\x3c\x00" + b"\x00\xff\x2f\x00"
    return build()[:10] + b"\0\1" + BEAT.to_bytes(2) + b"MTrk" + len(body).to_bytes(4) + body


@odd("running status")
def running_status() -> bytes:
    pitches = [pitch for index in range(32) for pitch in (60 + index % 12,) * 2]
    body = b"\x00\x90\x3c\x50" + b"".join(
        bytes([0x60, pitch, 0 if index % 2 else 80]) for index, pitch in enumerate([60, *pitches])
    )
    body += b"\x00\xff\x01\x01x" + b"\x60\x3c\x00" * 2 + b"\x00\xff\x2f\x00"
    return build()[:10] + b"\0\1" + (96).to_bytes(2) + b"MTrk" + len(body).to_bytes(4) + body


# Events that few programs know

add("system exclusive", [(0, b"\xf0\x05\x7e\x7f\x09\x01\xf7"), *melody(), (BEAT * 16, b"\xf0\x03\x01\x02\xf7")])
add("exclusive in pieces", [(0, b"\xf0\x02\x43\x12"), (10, b"\xf7\x02\x01\xf7"), (20, b"\xf7\x01\xf8"), *melody()])
add("unknown meta events", meta(0x60, b"\x01", 100) + melody() + meta(0x61, b"", BEAT * 20))
add("sequencer-specific events", meta(0x7F, b"\x00\x00\x41\xff") + melody() + meta(0x7F, b"", 5000))
add(
    "meta events of wrong lengths",
    melody()
    + [
        event
        for kind in (0x00, 0x20, 0x21, 0x51, 0x54, 0x58, 0x59)
        for length in (0, 1, 3, 7)
        if (kind, length) not in ((0x51, 3), (0x00, 0))
        for event in meta(kind, bytes([1] * length), 100 * length)
    ],
)
add("keys that do not exist", meta(0x59, b"\x09\x00") + melody() + meta(0x59, b"\x00\x07", 960))
add("a key", meta(0x59, b"\xfd\x01") + melody())
add("lyrics in UTF-8", melody() + meta(0x05, "Grüße, 世界".encode(), 480))
add("lyrics in Latin-1", melody() + meta(0x05, "Grüße\r".encode("latin-1"), 480))
add("a frame rate that does not exist", meta(0x54, b"\xe0\x00\x00\x00\x00") + melody())

# Metre and tempo

for numerator, power in ((7, 3), (5, 4), (3, 5), (1, 6), (12, 3), (4, 0), (32, 2), (1, 2), (11, 5)):
    add(f"metre {numerator}/{2**power}", metre(numerator, power) + melody(32))
add("metre 1/64 at resolution 1", metre(1, 6) + melody(beat=1), division=1)
add("metre 3/64 at resolution 24", metre(3, 6) + melody(beat=24), division=24)
add("metre of a fraction of a tick more than a bar", metre(5, 5) + melody(beat=7), division=7)
add("metre 4/2^255", metre(4, 255) + melody())
add("metre 4/2^29", metre(4, 29) + melody())
add("metre 0/4", metre(0, 2) + melody())
add("metre changes", metre(3, 2) + metre(5, 3, 3 * BEAT * 2) + metre(2, 2, 3 * BEAT * 2 + 5 * BEAT), melody(21))
add("metre changes in mid-bar", metre(4, 2) + metre(3, 2, 10 * BEAT) + metre(4, 2, 11 * BEAT), melody(21))
add("metre changes after the last note", metre(4, 2) + metre(3, 2, 20 * BEAT) + metre(7, 3, 23 * BEAT), melody())
add("a pick-up bar", metre(1, 2) + metre(4, 2, BEAT), melody(17))
add("tempo changes", tempo(600_000) + tempo(300_000, 7 * BEAT + 13), melody())
add(
    "tempo changes after the last note",
    tempo(600_000) + tempo(300_000, 17 * BEAT) + tempo(900_000, 19 * BEAT),
    melody(),
)
add("the slowest tempo", tempo(0xFFFFFF), melody())
add("a tempo track at the end", melody(), tempo(450_000) + metre(3, 2))

# Parts

add("several tracks on one channel", program(40) + melody(), melody(low=50), melody(low=70))
add("several programs on one channel", program(40) + melody(), program(70, 5) + melody(start=10), melody(low=50))
add("a program that changes", program(40) + melody() + program(0, 16 * BEAT) + melody(start=16 * BEAT))
add("a program changed from another track", [e for n in (5, 9, 73) for e in program(n, n * BEAT)], melody())
add("a program after the last note", program(40) + melody() + program(90, 16 * BEAT - 1))
add("programs in the new part", program(40) + melody() + program(90, 18 * BEAT) + program(12, 17 * BEAT + 7))
add(
    "programs from another track in the new part",
    program(90, 18 * BEAT + 5) + program(3, 25 * BEAT),
    program(40) + melody(),
)
add("drums in two tracks", drum_bars(), [e for n in range(16) for e in note(n * BEAT, 60, 49, channel=DRUMS)])
add(
    "drum kits that change",
    program(8, channel=DRUMS) + drum_bars() + program(25, 16 * BEAT, channel=DRUMS),
    program(16, 8 * BEAT, channel=DRUMS) + note(9 * BEAT, 100, 27, channel=DRUMS),
)
add("drums alone", drum_bars())
add(
    "hi-hat edges and low drums",
    [e for n in range(32) for p in (22, 26, 27) for e in note(n * 240, 60, p, channel=DRUMS)],
)
add("one drum", note(0, 10, 0, channel=DRUMS))
add("all channels", *(program(8 * c, channel=c) + melody(low=40 + c, channel=c) for c in range(16)))
add("24 parts of one program", *(program(52, channel=c % 9) + melody(8, low=36 + c, channel=c % 9) for c in range(24)))
add(
    "130 parts",
    *(program(c % 100, c, channel=c % 9) + melody(8, low=36 + c % 40, channel=c % 9, start=c) for c in range(130)),
)
add("a piano above and below a piano's keys", note(0, 400, 3) + note(480, 400, 120) + melody(start=960))

# Notes

add("one note", note(0, BEAT, 60))
add("one note of no length", note(0, 0, 60))
add("one note that begins with the last tick", note(16 * BEAT - 1, 1, 60))
add("the lowest and the highest note", program(30) + note(0, BEAT, 0) + note(0, BEAT, 127))
add(
    "notes without an end",
    [*melody(), *((BEAT * 15, bytes([0x90, pitch, 64])) for pitch in (40, 41, 41))],
)
add("a note without an end in a long file", [(0, b"\x90\x28\x40"), *melody(4)], end=40 * BEAT)
add("note-on of velocity 0 as end", [(t, d if d[0] != 0x80 else b"\x90" + d[1:2] + b"\0") for t, d in melody()])
add("ends of nothing", melody() + [(16 * BEAT + 100, bytes([0x80, p, 0])) for p in range(128)])
add("notes twice and overlapping", melody() + melody() + note(100, 900, 60) + note(300, 200, 60) + note(300, 900, 60))
add("zero-length notes", [e for n in range(16) for e in note(n * BEAT, 0, 60 + n)])
add("late by a constant", melody(64, delay=50))
add("late by nearly an eighth of a beat", melody(64, delay=58))
add("early by a constant", melody(64, delay=-45))
add("early drums", melody(64, delay=-45), [(max(0, t - 40), d) for t, d in drum_bars(16)])
add("off every grid", [e for n in range(60) for e in note(n * 331 + n * n % 97, 200, 60 + n % 7)])
add(
    "played by hand",
    by_hand(melody(64), spread=38),
    by_hand([e for n in range(64) for p in (40, 44, 47) for e in note(n * BEAT, BEAT, p, channel=1)], spread=55),
    by_hand(drum_bars(16), spread=30, late=40),
)
add(
    "played by hand in bars of a beat",
    metre(1, 2) + by_hand(melody(64), spread=60, late=-50),
    by_hand(drum_bars(16), spread=55, late=58),
)
add("played by hand on a coarse clock", by_hand(melody(64, beat=24), spread=3, late=2), division=24)
add("repeated keys by hand", by_hand([e for n in range(256) for e in note(n * 120, 110, 60 + n % 2)], spread=40))
add("the last note rings a sixteenth over", melody(15) + note(15 * BEAT, BEAT + 120, 64))
add("the last note rings a tick more than a sixteenth over", melody(15) + note(15 * BEAT, BEAT + 121, 64))
add(
    "another program rings over the join",
    note(14 * BEAT, 2 * BEAT + 120, 64),
    program(48, 15 * BEAT) + note(15 * BEAT, 400, 65),
)
add("the whole keyboard rings over the join", [e for p in range(128) for e in note(15 * BEAT, BEAT + 110, p)])
add("a silent start of 100 bars", melody(start=400 * BEAT))
add("a gap of 2^27 ticks", melody(4) + note(2**27, 400, 60))
add("a gap of 2^27 beats", melody(4, beat=1) + note(2**27, 1, 60), division=1)
add("a gap of 2^29 ticks", melody(4) + meta(0x01, b"", 2**28 - 1) + meta(0x01, b"", 2**29 - 9) + note(2**29, 400, 60))

# What is in force at the end

add("a pedal that stays down", control(64, 127, 100) + melody())
add("a pedal pressed after the last bar", melody(16) + control(64, 127, 17 * BEAT) + control(7, 0, 18 * BEAT))
add(
    "a pedal pressed with every chord",
    [e for n in range(16) for e in control(64, 100 + n % 3, n * 2 * BEAT + 30) + control(64, 0, (n + 1) * 2 * BEAT)],
    by_hand(melody(32), spread=20),
    by_hand([e for n in range(16) for p in (40, 44, 47) for e in note(n * 2 * BEAT, 2 * BEAT, p)], spread=20),
)
add(
    "a pedal for a part of every bar of a beat",
    metre(1, 2) + [e for n in range(16) for e in control(64, 127, n * BEAT) + control(64, 20, n * BEAT + 250)],
    melody(16) + control(64, 127, 17 * BEAT),
)
add("a bend after the last bar", melody(16) + bend(3_000, 17 * BEAT, channel=0))
add("a pedal of a part that has left", melody(8) + control(64, 127, 4 * BEAT), melody(16, channel=1))
add(
    "a reset after the last bar",
    control(11, 60) + melody(16) + control(121, 0, 17 * BEAT) + control(10, 0, 17 * BEAT) + control(0, 5, 17 * BEAT),
)
add(
    "a reset before the last bar and one after it",
    control(11, 60) + melody(16) + control(121, 0, 9 * BEAT) + control(121, 0, 17 * BEAT),
)
add("a bank of sounds", control(0, 5) + control(32, 1) + control(7, 90) + control(10, 20) + program(3, 1) + melody())
add("a ritardando at the end", tempo(400_000) + tempo(600_000, 12 * BEAT) + tempo(900_000, 14 * BEAT) + melody(16))
add("a bend that stays", melody() + bend(12_000, 15 * BEAT))
add(
    "a volume faded to nothing",
    control(7, 100) + melody() + [e for n in range(11) for e in control(7, 100 - 10 * n, 14 * BEAT + n)],
)
add(
    "expression faded to nothing",
    control(11, 127, channel=3) + melody(channel=3) + control(11, 0, 15 * BEAT, channel=3),
)
add("a volume that is said once, to mute the end", melody(16) + control(7, 0, 15 * BEAT))
add("expression that is said once, to mute the end", melody(16) + control(11, 0, 15 * BEAT))
add("a soft volume from the first note on", control(7, 12) + melody(16))
add(
    "a fade, a bend and a pedal on the join, in a track without notes",
    control(7, 100) + melody(16),
    control(7, 0, 16 * BEAT) + bend(12_000, 16 * BEAT) + control(64, 127, 16 * BEAT),
)


add(
    "two drummers, one of them soft",
    [e for beat in range(32) for e in note(beat * BEAT, 60, 36, channel=DRUMS, velocity=120)],
    [e for half in range(64) for e in note(half * BEAT // 2, 60, 42, channel=DRUMS, velocity=40 + half % 4)],
)
add(
    "a legato tune over chords",
    [e for beat in range(32) for e in note(beat * BEAT, BEAT + 30, 72 + beat * 5 % 12)],
    [e for beat in range(32) for pitch in (48, 52, 55) for e in note(beat * BEAT, BEAT, pitch, channel=1)],
)


@odd("100,000 notes")
def many_notes() -> bytes:
    return build(
        *(
            [e for n in range(25_000) for e in note(n * 120, 110, 48 + track * 9 + n % 12, channel=track)]
            for track in range(4)
        )
    )


assert len(ODD_FILES) > 90
