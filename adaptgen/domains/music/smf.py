"""Standard MIDI Files into mido's messages, so that writing them again gives every event as it was.

mido's own reader is not used, because it loses or changes what it does not know: it drops the delta time of meta
events of an unknown type (so that all that follows comes too early), turns F7 events into F0 events, cuts long
meta events, and refuses a whole file for one key signature that does not exist. Here an event that mido would
not write back byte for byte is kept as a `RawEvent`. Source: Standard MIDI Files 1.0 (RP-001), MIDI
Manufacturers Association.
"""

from __future__ import annotations

import mido
from mido.midifiles.meta import UnknownMetaMessage, build_meta_message

from adaptgen.errors import InputFileError

__all__ = ["LONGEST_DELTA_TICKS", "RawEvent", "load"]

LONGEST_DELTA_TICKS = 2**28 - 1
"""What a variable-length quantity of four bytes holds, the most that the standard allows."""
MAX_TRACKS = 2**15 - 1
"""What mido can write into a header."""

META, SYSEX, ESCAPE = 0xFF, 0xF0, 0xF7
CHANNEL_DATA_BYTES = {0x8: 2, 0x9: 2, 0xA: 2, 0xB: 2, 0xC: 1, 0xD: 1, 0xE: 2}
SYSTEM_DATA_BYTES = {0xF1: 1, 0xF2: 2, 0xF3: 1, 0xF6: 0, 0xF8: 0, 0xFA: 0, 0xFB: 0, 0xFC: 0, 0xFE: 0}
"""Messages that have no place in a file and are found in some all the same."""


class RawEvent(UnknownMetaMessage):
    """An event that is kept as its bytes; of a type that nobody looks at.

    Args:
        content: all bytes of the event, without its delta time.
        time: delta time in ticks.
    """

    def __init__(self, content: bytes, *, time: int = 0) -> None:
        super().__init__(content[0], content, time=time)

    def bytes(self) -> list[int]:
        return list(self.data)


class _DamageError(Exception):
    """What is wrong with a track."""


def load(data: bytes, *, name: str) -> mido.MidiFile:
    """Read a file of format 0 or 1.

    Chunks of an unknown kind are skipped, as the standard asks; tracks beyond the number in the header are read.

    Args:
        data: the file.
        name: stands for the file in errors.

    Raises:
        InputFileError: it is not such a file, or it is damaged.
    """
    midi_format, num_tracks, ticks_per_beat = _read_header(data, name)
    tracks: list[mido.MidiTrack] = []
    position = 8 + int.from_bytes(data[4:8])
    while position + 8 <= len(data):
        kind, start = data[position : position + 4], position + 8
        position = start + int.from_bytes(data[position + 4 : start])
        if kind != b"MTrk":
            continue
        if position > len(data):
            raise _truncated(name, f"in the middle of track {len(tracks) + 1}")
        try:
            tracks.append(_read_track(data[start:position]))
        except _DamageError as damage:
            raise InputFileError(
                f"{name} is damaged MIDI: in track {len(tracks) + 1}, {damage}", "Export it again from its program"
            ) from None
    if len(tracks) < num_tracks:
        raise _truncated(name, f"before track {len(tracks) + 1} of {num_tracks}")
    if len(tracks) > MAX_TRACKS:
        raise InputFileError(f"{name} has {len(tracks)} tracks; {MAX_TRACKS} are read", "Export it with fewer")
    # Some programs write several tracks into format 0, which has one.
    return mido.MidiFile(type=midi_format if len(tracks) == 1 else 1, ticks_per_beat=ticks_per_beat, tracks=tracks)


def _truncated(name: str, place: str) -> InputFileError:
    return InputFileError(f"{name} ends {place}", "Export or download it again")


def _read_header(data: bytes, name: str) -> tuple[int, int, int]:
    if not data:
        raise InputFileError(f"{name} is empty", "Give a MIDI file")
    if not data.startswith(b"MThd"[: len(data)]):
        raise InputFileError(
            f"{name} is not a MIDI file: it begins with {data[:4]!r} where MIDI has b'MThd'", "Give a MIDI file"
        )
    if len(data) < 14 or int.from_bytes(data[4:8]) < 6:
        raise _truncated(name, "in the middle of its header")
    midi_format, num_tracks, division = (int.from_bytes(data[at : at + 2]) for at in (8, 10, 12))
    if midi_format > 1:
        raise InputFileError(f"{name} is MIDI format {midi_format}; formats 0 and 1 are read", "Export it as format 1")
    if division & 0x8000:
        raise InputFileError(
            f"{name} counts time in SMPTE frames, which have no bars", "Export it with ticks per quarter note"
        )
    if division == 0:
        raise InputFileError(f"{name} has 0 ticks per quarter note", "Export it again from its program")
    return midi_format, num_tracks, division


def _read_track(data: bytes) -> mido.MidiTrack:
    track = mido.MidiTrack()
    position, running_status, has_ended = 0, 0, False
    while position < len(data):
        try:
            delta, position = _read_quantity(data, position)
            status = data[position]
            if status < 0x80:
                status = running_status
            else:
                position += 1
                # A system or meta event between is to end a running status, and in many files does not.
                running_status = status if status < SYSEX else running_status
            message, position = _read_event(data, position, status)
        except (IndexError, _DamageError) as error:
            if has_ended:  # What fills a track behind its end is no music.
                break
            if isinstance(error, IndexError):
                raise _DamageError("an event goes on beyond the track's end") from None
            raise
        vars(message)["time"] = delta
        track.append(message)
        has_ended = has_ended or message.type == "end_of_track"
    return track


def _read_quantity(data: bytes, position: int) -> tuple[int, int]:
    """A variable-length quantity, and where it ends."""
    value = 0
    for end in range(position + 1, position + 5):
        byte = data[end - 1]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, end
    raise _DamageError("a number has more than four bytes")


def _read_event(data: bytes, position: int, status: int) -> tuple[mido.Message | mido.MetaMessage, int]:
    """The event whose bytes behind the status stand at a position, and where it ends."""
    if status < SYSEX:
        if not status:
            raise _DamageError(f"byte 0x{data[position]:02x} stands where an event should begin")
        content = data[position : position + CHANNEL_DATA_BYTES[status >> 4]]
        end = position + len(content)
        if len(content) < CHANNEL_DATA_BYTES[status >> 4]:
            raise IndexError
        if max(content) > 0x7F:
            raise _DamageError(f"event 0x{status:02x} holds byte 0x{max(content):02x}, which is no data")
        return mido.Message.from_bytes((status, *content)), end
    if status in SYSTEM_DATA_BYTES:
        end = position + SYSTEM_DATA_BYTES[status]
        return RawEvent(_slice(data, position - 1, end)), end
    if status not in (META, SYSEX, ESCAPE):
        raise _DamageError(f"an event begins with 0x{status:02x}, which MIDI does not define")
    length, start = _read_quantity(data, position + (status == META))
    end = start + length
    raw = _slice(data, position - 1, end)
    content = raw[start - position + 1 :]
    message = _decode_meta(data[position], content) if status == META else _decode_sysex(status, content)
    return (RawEvent(raw) if message is None else message), end


def _slice(data: bytes, start: int, end: int) -> bytes:
    if end > len(data):
        raise IndexError
    return data[start:end]


def _decode_meta(kind: int, content: bytes) -> mido.MetaMessage | None:
    """mido's message for a meta event, None if mido has none that holds the same."""
    try:
        message = build_meta_message(kind, list(content))
        is_same = message.bytes() == UnknownMetaMessage(kind, content).bytes()
    except (ArithmeticError, LookupError, TypeError, ValueError, mido.KeySignatureError):
        return None
    return message if is_same else None


def _decode_sysex(status: int, content: bytes) -> mido.Message | None:
    if status == ESCAPE or not content.endswith(b"\xf7") or max(content[:-1], default=0) > 0x7F:
        return None
    return mido.Message("sysex", data=content[:-1])
