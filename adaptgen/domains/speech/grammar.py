"""Which frame of codes may come next: so many frames, each stream in its own time, and none that is stuck."""

from __future__ import annotations

import numpy as np

from adaptgen.domains.base import Grammar
from adaptgen.domains.speech.tokenizer import ABSENT, NUM_SPECIAL, SpeechTokenizer

__all__ = ["SpeechGrammar"]

LONGEST_REPEAT_SECONDS = 1.0
"""How long a stream may hold one code: a buzz is no speech, and neither is silence for good."""


class SpeechGrammar(Grammar):
    """The rules for one continuation.

    Its first frames hold what the delay has left over of the prompt, its last ones what the new codes leave over;
    the begin token, which begins another recording, ends it.

    Args:
        tokenizer: whose tokens are drawn.
        known: tokens `[K, K - 1]` of the prompt that come after the join, `ABSENT` where they are new ones.
        num_frames: how many new codes each stream gets.
    """

    def __init__(self, tokenizer: SpeechTokenizer, known: np.ndarray, num_frames: int) -> None:
        self.tokenizer, self.known, self.num_frames = tokenizer, known, num_frames
        self._place, self._is_done = 0, False
        num_streams = len(known)
        self._held, self._times = np.full(num_streams, -1), np.zeros(num_streams, dtype=np.int64)
        self._most_times = max(1, int(LONGEST_REPEAT_SECONDS * tokenizer.codec.frames_per_second))

    @property
    def _num_tokens(self) -> int:
        return self.num_frames + len(self.known) - 1

    @property
    def is_done(self) -> bool:
        return self._is_done

    @property
    def progress(self) -> float:
        return self._place / self._num_tokens if not self._is_done else 1.0

    def allowed(self) -> np.ndarray:
        sizes = self.tokenizer.vocab_sizes
        mask = np.zeros((len(sizes), max(sizes)), dtype=bool)
        if self._place == self._num_tokens:
            mask[:, self.tokenizer.begin] = True
            return mask
        for stream, size in enumerate(sizes):
            frame = self._place - stream
            if frame < 0:
                mask[stream, self.known[stream, self._place]] = True
            elif frame >= self.num_frames:
                mask[stream, ABSENT] = True
            else:
                mask[stream, NUM_SPECIAL:size] = True
                if self._times[stream] >= self._most_times and size > NUM_SPECIAL + 1:
                    mask[stream, self._held[stream]] = False
        return mask

    def accept(self, frame: np.ndarray) -> None:
        if self._place == self._num_tokens:
            self._is_done = True
            return
        self._times = np.where(frame == self._held, self._times + 1, 1)
        self._held = frame.copy()
        self._place += 1
