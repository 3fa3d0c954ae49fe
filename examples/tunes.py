"""Public-domain tunes, entered by hand as melody and chords in the notation of score.py.

The tunes are traditional or older than 1850. This transcription is dedicated to the public domain under
CC0 1.0 (https://creativecommons.org/publicdomain/zero/1.0/).

In a melody a number sets the length, in sixteenths, of the notes after it, `r` is a rest and `|` a bar
line. In a chord line the chords of one bar share its beats, `-` means no chord. A tune with an upbeat
begins with a bar of rests, which the upbeat closes.
"""

from typing import NamedTuple


class Tune(NamedTuple):
    """One tune, in the key it is written in."""

    name: str
    """File name without its extension."""
    style: str
    """The arrangement: a key of `corpus.STYLES`."""
    key: str
    metre: str
    quarters_per_minute: int
    melody: str
    chords: str


TUNES = (
    Tune(
        # Ludwig van Beethoven, Symphony No. 9 (1824).
        "ode_to_joy",
        "chorale",
        "C",
        "4/4",
        104,
        """4 E5 E5 F5 G5 | G5 F5 E5 D5 | C5 C5 D5 E5 | 6 E5 2 D5 8 D5 |
           4 E5 E5 F5 G5 | G5 F5 E5 D5 | C5 C5 D5 E5 | 6 D5 2 C5 8 C5 |
           4 D5 D5 E5 C5 | D5 2 E5 F5 4 E5 C5 | D5 2 E5 F5 4 E5 D5 | C5 D5 8 G4 |
           4 E5 E5 F5 G5 | G5 F5 E5 D5 | C5 C5 D5 E5 | 6 D5 2 C5 8 C5""",
        """C | G | Am | C G | C | G | Am | G C | G C | G C | G E7 | Am D7 G G |
           C | G | Am | G C""",
    ),
    Tune(
        # French, 18th century; the arrangement lets a second and a third voice follow in canon.
        "frere_jacques",
        "canon",
        "F",
        "4/4",
        112,
        """4 F4 G4 A4 F4 | F4 G4 A4 F4 | A4 Bb4 8 C5 | 4 A4 Bb4 8 C5 |
           2 C5 D5 C5 Bb4 4 A4 F4 | 2 C5 D5 C5 Bb4 4 A4 F4 | F4 C4 8 F4 | 4 F4 C4 8 F4 |
           4 F4 G4 A4 F4 | F4 G4 A4 F4 | A4 Bb4 8 C5 | 4 A4 Bb4 8 C5 |
           2 C5 D5 C5 Bb4 4 A4 F4 | 2 C5 D5 C5 Bb4 4 A4 F4 | F4 C4 8 F4 | 4 F4 C4 8 F4""",
        """F | F | F | F | F | F | F C F F | F C F F |
           F | F | F | F | F | F | F C F F | F C F F""",
    ),
    Tune(
        # French, 18th century.
        "au_clair_de_la_lune",
        "voice",
        "C",
        "4/4",
        120,
        """4 C5 C5 C5 D5 | 8 E5 D5 | 4 C5 E5 D5 D5 | 16 C5 |
           4 C5 C5 C5 D5 | 8 E5 D5 | 4 C5 E5 D5 D5 | 16 C5 |
           4 D5 D5 D5 D5 | 8 A4 A4 | 4 D5 C5 B4 A4 | 16 G4 |
           4 C5 C5 C5 D5 | 8 E5 D5 | 4 C5 E5 D5 D5 | 16 C5""",
        "C | C G | C G | C | C | C G | C G | C | G | Dm | D7 | G | C | C G | C G7 | C",
    ),
    Tune(
        # "Ah ! vous dirai-je, maman", French, 18th century; here played twice.
        "ah_vous_dirai_je",
        "folk",
        "C",
        "4/4",
        108,
        """4 C5 C5 G5 G5 | A5 A5 8 G5 | 4 F5 F5 E5 E5 | D5 D5 8 C5 | 4 G5 G5 F5 F5 | E5 E5 8 D5 |
           4 G5 G5 F5 F5 | E5 E5 8 D5 | 4 C5 C5 G5 G5 | A5 A5 8 G5 | 4 F5 F5 E5 E5 | D5 D5 8 C5 |
           2 C5 D5 E5 F5 4 G5 G5 | 2 A5 B5 A5 F5 8 G5 | 2 F5 G5 F5 D5 4 E5 E5 | 2 D5 E5 D5 B4 8 C5 |
           2 G5 A5 G5 E5 4 F5 F5 | 2 E5 F5 E5 C5 8 D5 | 2 G5 A5 G5 E5 4 F5 F5 | 2 E5 F5 E5 C5 8 D5 |
           2 C5 D5 E5 F5 4 G5 G5 | 2 A5 B5 A5 F5 8 G5 | 2 F5 G5 F5 D5 4 E5 E5 | 2 D5 E5 D5 B4 8 C5""",
        """C | F C | F C | G C | C F | C G | C F | C G | C | F C | F C | G7 C |
           C | F C | F C | G C | C F | C G | C F | C G | C | F C | F C | G7 C""",
    ),
    Tune(
        # English, 16th century.
        "greensleeves",
        "folk",
        "Am",
        "6/8",
        84,
        """10 r 2 A4 | 4 C5 2 D5 3 E5 1 F#5 2 E5 | 4 D5 2 B4 3 G4 1 A4 2 B4 | 4 C5 2 A4 3 A4 1 G#4 2 A4 |
           4 B4 2 G#4 4 E4 2 A4 | 4 C5 2 D5 3 E5 1 F#5 2 E5 | 4 D5 2 B4 3 G4 1 A4 2 B4 |
           3 C5 1 B4 2 A4 3 G#4 1 F#4 2 G#4 | 12 A4 |
           6 G5 3 G5 1 F#5 2 E5 | 4 D5 2 B4 3 G4 1 A4 2 B4 | 4 C5 2 A4 3 A4 1 G#4 2 A4 | 4 B4 2 G#4 6 E4 |
           6 G5 3 G5 1 F#5 2 E5 | 4 D5 2 B4 3 G4 1 A4 2 B4 | 3 C5 1 B4 2 A4 3 G#4 1 F#4 2 G#4 | 12 A4""",
        """- | Am | G | Am | E | Am | G | Am E | Am |
           C | G | Am | E | C | G | Am E | Am""",
    ),
    Tune(
        # The tune "New Britain", American, 1829.
        "amazing_grace",
        "voice",
        "G",
        "3/4",
        84,
        """8 r 4 D4 | 8 G4 2 B4 G4 | 8 B4 4 A4 | 8 G4 4 E4 | 8 D4 4 D4 | 8 G4 2 B4 G4 | 8 B4 4 A4 | 12 D5 |
           8 r 4 B4 | 6 D5 2 B4 D5 B4 | 8 G4 4 D4 | 6 E4 2 G4 G4 E4 | 8 D4 4 D4 | 8 G4 2 B4 G4 | 8 B4 4 A4 |
           12 G4 | 12 r""",
        "- | G | G | C | G | G | Em | D | D7 | G | G | C | G | G | D7 | G | G",
    ),
    Tune(
        # Scottish, 18th century.
        "auld_lang_syne",
        "pop",
        "F",
        "4/4",
        96,
        """12 r 4 C4 | 6 F4 2 F4 4 F4 A4 | 6 G4 2 F4 4 G4 A4 | 6 F4 2 F4 4 A4 C5 | 12 D5 4 D5 |
           6 C5 2 A4 4 A4 F4 | 6 G4 2 F4 4 G4 A4 | 6 F4 2 D4 4 D4 C4 | 12 F4 4 D5 |
           6 C5 2 A4 4 A4 F4 | 6 G4 2 F4 4 G4 D5 | 6 C5 2 A4 4 A4 C5 | 12 D5 4 D5 |
           6 C5 2 A4 4 A4 F4 | 6 G4 2 F4 4 G4 A4 | 6 F4 2 D4 4 D4 C4 | 16 F4""",
        """- | F | C7 | F F7 | Bb | F | C7 | Bb C7 | F |
           F | C7 | F F7 | Bb | F | C7 | Bb C7 | F""",
    ),
    Tune(
        # American spiritual, 19th century.
        "when_the_saints",
        "folk",
        "C",
        "4/4",
        132,
        """4 r C5 E5 F5 | 16 G5 | 4 r C5 E5 F5 | 16 G5 | 4 r C5 E5 F5 | 8 G5 E5 | C5 E5 | 16 D5 |
           4 r E5 E5 D5 | 12 C5 4 C5 | 8 E5 4 G5 G5 | 16 F5 | 8 r 4 E5 F5 | 8 G5 E5 | C5 D5 | 16 C5 | 16 r""",
        "- | C | C | C | C | C | C | G7 | G7 | C | C7 | F | F | C | G7 | C | C",
    ),
)
