"""Music as MIDI: notes on the bar grid as tokens, continued bar by bar, written back as MIDI and as sound."""

from adaptgen.domains.music.domain import DOMAIN

__all__ = ["DOMAIN"]
