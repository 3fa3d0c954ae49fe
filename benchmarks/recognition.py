"""What a recogniser makes of recordings: words, how sure it is of them, and digits.

The recogniser is pocketsphinx with the US English model that its package holds. It is an old one (hidden Markov
models), errs often, and is the same everywhere: what it loses on the way through a codec is what counts.
"""

from __future__ import annotations

import csv
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adaptgen.errors import InputFileError, UsageError

if TYPE_CHECKING:
    from pocketsphinx import Decoder

__all__ = ["DIGITS", "HEARD_HZ", "Recognizer", "Word", "read_transcripts", "words_of", "words_wrong"]

HEARD_HZ = 16_000
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MARGIN_SECONDS = 0.2
"""Of silence on both sides, which the recogniser learns the background from."""


@dataclass(frozen=True)
class Word:
    """A word that was heard, with its posterior probability in the lattice of what else it might have been."""

    text: str
    confidence: float


class Recognizer:
    """Hears any words, or one digit.

    Raises:
        UsageError: pocketsphinx is not installed.
    """

    def __init__(self) -> None:
        if find_spec("pocketsphinx") is None:
            raise UsageError("pocketsphinx, which recognises words, is not installed", "pip install '.[judge]'")
        from pocketsphinx import Decoder

        # Means of the whole recording, so that none is heard in the light of those before it.
        about = {"samprate": HEARD_HZ, "cmn": "batch", "loglevel": "FATAL"}
        self._any_words = Decoder(**about)
        with tempfile.TemporaryDirectory() as folder:
            grammar = Path(folder) / "digits.gram"
            grammar.write_text(f"#JSGF V1.0; grammar digits; public <digit> = {' | '.join(DIGITS)} ;")
            self._digits = Decoder(jsgf=str(grammar), **about)

    def words(self, samples: np.ndarray) -> list[Word]:
        """Words in samples float `[n]` at `HEARD_HZ`, in their order."""
        return _hear(self._any_words, samples)

    def digit(self, samples: np.ndarray) -> str | None:
        """The digit that is spoken in samples float `[n]` at `HEARD_HZ`, if one is heard."""
        heard = _hear(self._digits, samples)
        return heard[0].text if len(heard) == 1 else None


def _hear(decoder: Decoder, samples: np.ndarray) -> list[Word]:
    margin = np.zeros(int(MARGIN_SECONDS * HEARD_HZ))
    sound = np.concatenate([margin, samples, margin])
    decoder.start_utt()
    decoder.process_raw((np.clip(sound, -1, 1) * 32767).astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()
    if decoder.hyp() is None:
        return []
    # Pronunciations are numbered, and what is no word stands in angles or brackets.
    return [
        Word(re.sub(r"\(\d+\)$", "", part.word), min(1.0, float(part.prob)))
        for part in decoder.seg()
        if part.word[0] not in "<["
    ]


def words_of(text: str) -> list[str]:
    """Words of a transcript as the recogniser writes them."""
    return re.findall(r"[a-z']+", text.lower().replace("’", "'"))


def words_wrong(reference: Sequence[str], heard: Sequence[str]) -> int:
    """Fewest words that are to be put in, left out or changed (Levenshtein's distance)."""
    costs = list(range(len(heard) + 1))
    for row, word in enumerate(reference, start=1):
        diagonal, costs[0] = costs[0], row
        for column, other in enumerate(heard, start=1):
            diagonal, costs[column] = (
                costs[column],
                min(costs[column] + 1, costs[column - 1] + 1, diagonal + (word != other)),
            )
    return costs[-1]


def read_transcripts(corpus: Path) -> dict[str, str]:
    """What is said in the files of a corpus, by their path in it; nothing where it has no transcripts.tsv.

    Raises:
        InputFileError: the file has not the columns that it needs.
    """
    path = corpus / "transcripts.tsv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if not {"file", "text"} <= set(rows.fieldnames or ()):
            raise InputFileError(f"{path} has no columns 'file' and 'text'", "Give a table with these headings")
        return {row["file"]: row["text"] for row in rows if row["text"]}
