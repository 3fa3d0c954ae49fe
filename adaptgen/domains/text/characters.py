"""Which bytes may follow in UTF-8 so that whole characters come of it, all of them writable in the file's encoding."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

__all__ = ["BETWEEN", "DEAD", "CharacterRules"]

BETWEEN = 0
"""The state between two characters."""
DEAD = -1
UNICODE = ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "gb18030")
"""Encodings of every character."""
CONTROLS_IN_USE = "\n\t"


class CharacterRules:
    """An automaton over UTF-8 bytes.

    Control characters but newline and tab are left out, and so are surrogates, overlong forms and what lies beyond
    U+10FFFF (The Unicode Standard, table 3-7).

    Args:
        table: state after each byte in each state, `DEAD` where it may not come, int16 `[S, 256]`.

    Attributes:
        table: as given.
        missing: bytes that a character still lacks in each state, int `[S]`.
    """

    def __init__(self, table: np.ndarray) -> None:
        self.table = table
        missing = np.full(len(table), np.iinfo(np.int64).max)
        missing[BETWEEN] = 0
        for _ in range(3):
            reached = np.where(table == DEAD, np.iinfo(np.int64).max, missing[table])
            least = reached.min(axis=1)
            better = (least < np.iinfo(np.int64).max) & (np.arange(len(table)) != BETWEEN)
            missing[better] = np.minimum(missing[better], least[better] + 1)
        self.missing = missing

    @classmethod
    @lru_cache(maxsize=8)
    def of_encoding(cls, encoding: str) -> CharacterRules:
        """The rules for text that is to be written in an encoding."""
        return cls(_whole_unicode() if encoding in UNICODE else _only(_writable(encoding)))

    def run(self, state: int, data: bytes) -> tuple[int, int]:
        """The state after some bytes, and how many characters they complete; `DEAD` if they may not come."""
        completed = 0
        for byte in data:
            state = int(self.table[state, byte])
            if state == DEAD:
                return DEAD, completed
            completed += state == BETWEEN
        return state, completed


def _whole_unicode() -> np.ndarray:
    one, two, three, after_c2, after_e0, after_ed, after_f0, after_f4 = range(1, 9)
    table = np.full((9, 256), DEAD, dtype=np.int16)
    table[BETWEEN, 0x20:0x7F] = BETWEEN
    table[BETWEEN, [ord(char) for char in CONTROLS_IN_USE]] = BETWEEN
    table[BETWEEN, 0xC2:0xE0] = one
    table[BETWEEN, 0xC2] = after_c2
    table[BETWEEN, 0xE0:0xF0] = two
    table[BETWEEN, [0xE0, 0xED]] = after_e0, after_ed
    table[BETWEEN, 0xF0:0xF5] = three
    table[BETWEEN, [0xF0, 0xF4]] = after_f0, after_f4
    table[one, 0x80:0xC0] = BETWEEN
    table[two, 0x80:0xC0] = one
    table[three, 0x80:0xC0] = two
    table[after_c2, 0xA0:0xC0] = BETWEEN
    table[after_e0, 0xA0:0xC0] = one
    table[after_ed, 0x80:0xA0] = one
    table[after_f0, 0x90:0xC0] = two
    table[after_f4, 0x80:0x90] = two
    return table


def _writable(encoding: str) -> list[str]:
    """Characters of the basic plane that an encoding has, and that it gives back as they were."""
    found = list(CONTROLS_IN_USE)
    for code in [*range(0x20, 0x7F), *range(0xA0, 0xD800), *range(0xE000, 0xFFFE)]:
        char = chr(code)
        try:
            if char.encode(encoding).decode(encoding) == char:
                found.append(char)
        except UnicodeError:
            continue
    return found


def _only(characters: list[str]) -> np.ndarray:
    """The automaton of a set of characters: a tree of their bytes."""
    states = {b"": BETWEEN}
    rows = [np.full(256, DEAD, dtype=np.int16)]
    for char in characters:
        data = char.encode("utf-8")
        for length in range(1, len(data)):
            if data[:length] not in states:
                states[data[:length]] = len(rows)
                rows.append(np.full(256, DEAD, dtype=np.int16))
                rows[states[data[: length - 1]]][data[length - 1]] = states[data[:length]]
        rows[states[data[:-1]]][data[-1]] = BETWEEN
    return np.stack(rows)
