"""What is heard in speech, words, prosody and voice, and how like that is to a voice that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from musical_metrics import overlapping_area
from prosody import PROSODY, describe_prosody
from recognition import HEARD_HZ, Recognizer, Word
from voices import VoiceEncoder

from adaptgen.domains.speech.sound import NOMINAL_LEVEL, loudness

__all__ = ["Heard", "Judge", "Voice", "describe"]

LIKELY_CONFIDENCE = 0.5
SURE_CONFIDENCE, SURE_LETTERS = 0.8, 4
"""The recogniser hears short words in anything, and half of those in noise it calls likely. Long ones that it is sure
of it hardly ever hears in frames in random order, and in real speech every two seconds (docs/LOG.md)."""
FARTHEST = 10.0
"""Standard deviations, of what is farther off or cannot be told at all."""
SMALLEST_SPREAD = 1e-6
USUAL = 2.0
"""Standard deviations within which nearly all that a voice says lies."""
BANDWIDTH = 0.1
NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class Heard:
    """What is heard in a stretch of sound; no words where they were not listened for."""

    seconds: float
    words: list[Word] | None
    prosody: dict[str, float | None]
    embedding: np.ndarray

    @property
    def likely_words(self) -> list[str]:
        """Of any length, more likely than not."""
        return [word.text for word in self.words or () if word.confidence >= LIKELY_CONFIDENCE]

    @property
    def sure_words(self) -> list[str]:
        """Which are not heard where there are none."""
        sure = [word.text for word in self.words or () if word.confidence >= SURE_CONFIDENCE]
        return [text for text in sure if len(text) >= SURE_LETTERS]


@dataclass(frozen=True)
class Voice:
    """What is known of a voice from recordings of it.

    Attributes:
        means, spreads: mean and standard deviation of each measure of prosody over recordings.
        deviations: float `[recordings]` of each measure, in standard deviations from the mean.
        embedding: mean of theirs, of length one.
    """

    means: dict[str, float]
    spreads: dict[str, float]
    deviations: dict[str, np.ndarray]
    embedding: np.ndarray

    @classmethod
    def of(cls, heard: Sequence[Heard]) -> Voice:
        means, spreads, deviations = {}, {}, {}
        for name in PROSODY:
            values = [one.prosody[name] for one in heard]
            known = [value for value in values if value is not None]
            means[name], spreads[name] = float(np.mean(known)), max(float(np.std(known)), SMALLEST_SPREAD)
            deviations[name] = np.array([_deviation(value, means[name], spreads[name]) for value in values])
        embedding = np.mean([one.embedding for one in heard], axis=0)
        return cls(means, spreads, deviations, embedding / np.linalg.norm(embedding))

    def deviation(self, name: str, heard: Heard) -> float:
        """How far a stretch of sound is from the mean of a measure, in standard deviations."""
        return _deviation(heard.prosody[name], self.means[name], self.spreads[name])


def _deviation(value: float | None, mean: float, spread: float) -> float:
    return FARTHEST if value is None else float(np.clip((value - mean) / spread, -FARTHEST, FARTHEST))


class Judge:
    """Hears words, prosody and voice."""

    def __init__(self) -> None:
        self._recognizer, self._encoder = Recognizer(), VoiceEncoder()

    def hear(self, samples: np.ndarray, *, with_words: bool = True) -> Heard:
        """Samples float32 `[n]` at `HEARD_HZ`, which are brought to the usual level first."""
        sound = (samples * (NOMINAL_LEVEL / loudness(samples, HEARD_HZ))).astype(np.float32)
        return Heard(
            seconds=len(sound) / HEARD_HZ,
            words=self._recognizer.words(sound) if with_words else None,
            prosody=describe_prosody(sound, sample_rate_hz=HEARD_HZ),
            embedding=self._encoder.embed(sound),
        )


def describe(heard: Sequence[Heard], names: Sequence[str], voices: dict[str, Voice], *, seed: int) -> dict[str, Any]:
    """Figures of stretches of sound.

    Args:
        heard: the stretches.
        names: of each the voice that it is meant to be.
        voices: all that it is told from, by name.
        seed: of the bootstrap.
    """
    own_voices = [voices[name] for name in names]
    prosody = {}
    for measure in PROSODY:
        found = np.array([voice.deviation(measure, one) for voice, one in zip(own_voices, heard, strict=True)])
        usual = np.concatenate([voices[name].deviations[measure] for name in sorted(set(names))])
        prosody[measure] = {
            "overlap": overlapping_area(found, usual, bandwidth=BANDWIDTH),
            "usual_share": float((np.abs(found) <= USUAL).mean()),
        }
    # Cosines [stretches, voices], and where in a row the voice is that it is meant to be.
    cosines = np.array([[one.embedding @ voice.embedding for voice in voices.values()] for one in heard])
    is_own = np.array([[name == other for other in voices] for name in names])
    words = _describe_words(heard, seed=seed) if all(one.words is not None for one in heard) else {}
    return {
        "stretches": len(heard),
        **words,
        "prosody": prosody,
        "own_likeness": float(cosines[is_own].mean()),
        "other_likeness": float(cosines[~is_own].mean()),
        "own_is_nearest_share": float(is_own[np.arange(len(heard)), cosines.argmax(axis=1)].mean()),
    }


def _describe_words(heard: Sequence[Heard], *, seed: int) -> dict[str, Any]:
    """Words a second, sure ones with a bootstrap interval over stretches."""
    sure, likely = np.array([[len(one.sure_words), len(one.likely_words)] for one in heard]).T
    seconds = np.array([one.seconds for one in heard])
    drawn = np.random.default_rng(seed).integers(len(heard), size=(NUM_RESAMPLES, len(heard)))
    low, high = np.quantile(sure[drawn].sum(axis=1) / seconds[drawn].sum(axis=1), [0.025, 0.975])
    return {
        "seconds": float(seconds.sum()),
        "sure_words_per_second": float(sure.sum() / seconds.sum()),
        "sure_words_interval": [float(low), float(high)],
        "likely_words_per_second": float(likely.sum() / seconds.sum()),
    }
