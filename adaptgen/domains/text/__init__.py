"""Text as bytes or characters: continued in its own encoding, its own line ends, and never cut inside a character."""

from adaptgen.domains.text.domain import DOMAIN

__all__ = ["DOMAIN"]
