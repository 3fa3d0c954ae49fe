"""Speech as codes of a codec: a recording is continued in its own rate, channels and sample format."""

from adaptgen.domains.speech.domain import DOMAIN

__all__ = ["DOMAIN"]
