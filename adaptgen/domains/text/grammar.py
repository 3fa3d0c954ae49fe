"""Which token may come next in a text: whole characters that the file's encoding has, and exactly as many as asked."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

import numpy as np

from adaptgen.domains.base import Grammar
from adaptgen.domains.text.characters import BETWEEN, DEAD, CharacterRules
from adaptgen.domains.text.tokenizer import TextTokenizer

__all__ = ["Length", "TextGrammar", "TokenMoves"]

LONGEST_WORD = 40
"""Characters per word on average, after which a text is over although words are lacking: some scripts have no
spaces, and a model need not write any."""


@dataclass(frozen=True)
class Length:
    """How much is wanted: one of the three."""

    tokens: int | None = None
    characters: int | None = None
    words: int | None = None


class TokenMoves:
    """What each token does to the state of the characters, found once per state and kept.

    Args:
        tokenizer: whose tokens are drawn.
        rules: which bytes make characters.
    """

    def __init__(self, tokenizer: TextTokenizer, rules: CharacterRules) -> None:
        self.tokenizer, self.rules = tokenizer, rules
        self._found: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def from_state(self, state: int) -> tuple[np.ndarray, np.ndarray]:
        """For each token the state it leads to, `DEAD` if it may not come, and the characters it completes."""
        if state not in self._found:
            pieces = self.tokenizer.token_bytes
            moves = [(DEAD, 0) if piece is None else self.rules.run(state, piece) for piece in pieces]
            states, completed = np.array(moves).T
            self._found[state] = states, completed
        return self._found[state]


class TextGrammar(Grammar):
    """The rules for one continuation.

    When all is written the begin token, which begins another text, is the only legal one, and ends it.

    Args:
        moves: of the tokenizer whose tokens are drawn.
        length: how much to write.
        given: bytes, whole characters, that the tokens drawn first must spell; they are no part of what is written.
            The last token that is drawn for them may go on beyond them.
    """

    def __init__(self, moves: TokenMoves, length: Length, *, given: bytes = b"") -> None:
        self.moves, self.length, self._given = moves, length, given
        self.tokenizer, self.rules = moves.tokenizer, moves.rules
        self._done = False
        self._state = BETWEEN
        self._num_tokens = self._num_characters = self._num_words = 0
        self._is_in_word = False
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._held = self._unread = ""

    @property
    def is_done(self) -> bool:
        return self._done

    @property
    def progress(self) -> float:
        length = self.length
        if self._done:
            return 1.0
        if length.tokens is not None:
            return self._num_tokens / length.tokens
        if length.characters is not None:
            return self._num_characters / length.characters
        return min(1.0, self._num_words / length.words)

    @property
    def _is_complete(self) -> bool:
        length = self.length
        if length.tokens is not None:
            return self._num_tokens == length.tokens
        if length.characters is not None:
            return self._num_characters == length.characters
        is_endless = self._num_characters >= LONGEST_WORD * length.words
        return self._state == BETWEEN and (self._num_words >= length.words or is_endless)

    def allowed(self) -> np.ndarray:
        mask = np.zeros((1, self.tokenizer.vocab_sizes[0]), dtype=bool)
        if self._is_complete:
            mask[0, self.tokenizer.begin] = True
            return mask
        states, completed = self._moves_on()
        mask[0] = states != DEAD
        if self.length.tokens is not None:
            # What is begun must be finished: a byte a token always can.
            left = self.length.tokens - self._num_tokens - 1
            mask[0] &= self.rules.missing[states] <= left
        elif self.length.characters is not None:
            left = self.length.characters - self._num_characters
            mask[0] &= completed + (states != BETWEEN) <= left
        return mask

    def _moves_on(self) -> tuple[np.ndarray, np.ndarray]:
        """As of `TokenMoves.from_state`, of what each token writes beyond the bytes that are given."""
        given = self._given
        if not given:
            return self.moves.from_state(self._state)
        moves = []
        for piece in self.tokenizer.token_bytes:
            if piece is not None and given.startswith(piece):
                moves.append((BETWEEN, 0))
            elif piece is not None and piece.startswith(given):
                moves.append(self.rules.run(BETWEEN, piece[len(given) :]))
            else:
                moves.append((DEAD, 0))
        states, completed = np.array(moves).T
        return states, completed

    def accept(self, frame: np.ndarray) -> None:
        token = int(frame[0])
        if token == self.tokenizer.begin:
            self._done = True
            return
        states, completed = self._moves_on()
        self._state = int(states[token])
        piece = self.tokenizer.token_bytes[token]
        new = piece[len(self._given) :]
        self._given = self._given[len(piece) :]
        if not new:
            return
        self._num_tokens += 1
        self._num_characters += int(completed[token])
        text = self._decoder.decode(new)
        for char in text:
            if self._is_in_word and char.isspace():
                self._num_words += 1
            self._is_in_word = not char.isspace()
            self._held += char
            # Of words, what ends the last one and what its token goes on with are no part of the text.
            if self.length.words is None or (self._is_in_word and self._num_words < self.length.words):
                self._unread += self._held
                self._held = ""

    def take_text(self) -> str:
        text, self._unread = self._unread, ""
        return text
