"""Numbers of MIDI controllers and mode messages, as in the MIDI 1.0 specification's table 3."""

from __future__ import annotations

__all__ = [
    "ALL_NOTES_OFF",
    "ALL_SOUND_OFF",
    "BANK",
    "BANK_FINE",
    "DATA_ENTRY",
    "EXPRESSION",
    "PAN",
    "PEDAL",
    "PEDAL_DOWN",
    "RESET",
    "RPN_HIGH",
    "RPN_LOW",
    "VOLUME",
]

BANK, DATA_ENTRY, VOLUME, PAN, EXPRESSION, BANK_FINE = 0, 6, 7, 10, 11, 32
PEDAL, RPN_LOW, RPN_HIGH = 64, 100, 101
PEDAL_DOWN = 64
"""From this value on a pedal is down."""
ALL_SOUND_OFF, RESET = 120, 121
ALL_NOTES_OFF = range(123, 128)
"""The mode messages 124 to 127 imply it."""
