"""Which letters beyond ASCII the languages of Latin script are written with."""

from __future__ import annotations

import unicodedata
from collections import Counter

__all__ = ["is_latin", "share_of_a_language"]

ALPHABETS = {
    "Catalan": "àçèéíïòóúü",
    "Croatian": "čćđšž",
    "Czech": "áčďéěíňóřšťúůýž",
    "Danish, Norwegian": "æøåéèêóòô",
    "Dutch": "áàäçéèêëíïóôöúü",
    "Esperanto": "ĉĝĥĵŝŭ",
    "Estonian": "äõöüšž",
    "French, English": "àâæçèéêëîïôœùûüÿ",
    "German": "äöüßé",
    "Hungarian": "áéíóöőúüű",
    "Icelandic": "áðéíóúýþæö",
    "Italian": "àèéìíîòóùúªº",
    "Latvian": "āčēģīķļņšūž",
    "Lithuanian": "ąčęėįšųūž",
    "Maltese": "àċèġħìòùż",
    "Polish": "ąćęłńóśźż",
    "Portuguese": "áàâãçéêíóôõúüªº",
    "Romanian": "ăâîşţșț",
    "Slovak": "áäčďéíĺľňóôŕšťúýž",
    "Spanish": "áéíóúüñ¿¡ªº",
    "Swedish, Finnish": "åäöéàü",
    "Turkish": "âçğıîöşûü",
    # Its tones are characters of their own in cp1258.
    "Vietnamese": "ăâđêôơưàáãèéìíòóõùúý\u0300\u0301\u0303\u0309\u0323",
    "Welsh": "áàâäéèêëíîïóôöúûŵŷ",
}
ANY = "\xa0“”„‘’‚«»‹›–—…•·€£§©®™°½¼²³×±µ"
"""What texts of all languages have."""


def is_latin(text: str) -> bool:
    """Whether most letters beyond ASCII are of Latin script."""
    letters = Counter(char for char in text if not char.isascii() and char.isalpha())
    num_latin = sum(count for char, count in letters.items() if unicodedata.name(char, "").startswith("LATIN"))
    return 2 * num_latin > letters.total()


def share_of_a_language(text: str) -> float:
    """How many of the characters beyond ASCII some language of Latin script has, at most: from 0 to 1."""
    chars = Counter(char for char in text.lower() if not char.isascii())
    counts = [sum(chars[char] for char in ANY + letters) for letters in ALPHABETS.values()]
    return max(counts) / max(1, chars.total())
